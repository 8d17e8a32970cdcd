"""What is prepared from other things than skull-stripped NIfTI volumes."""

from __future__ import annotations

import re
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from conftest import tiny_prior, tiny_vqvae
from PIL import Image
from test_prepare import brain_image

from monai_vqbrain.cohorts import Scan, make_phantom, read_cohort
from monai_vqbrain.errors import UnusableImageError, UsageError
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.freshness import scan_inputs
from monai_vqbrain.runs.slicing_code import slicing_code
from monai_vqbrain.stages.check import check
from monai_vqbrain.stages.encode import encode
from monai_vqbrain.stages.evaluate import evaluate
from monai_vqbrain.stages.prepare import prepare_slices
from monai_vqbrain.stages.sample import SampleOptions, draw_samples
from monai_vqbrain.stages.slicing.dicom import converted_volume
from monai_vqbrain.stages.slicing.normalisation import Normalisation
from monai_vqbrain.stages.slicing.options import PrepareOptions
from monai_vqbrain.stages.slicing.plan_text import plan_lines
from monai_vqbrain.stages.slicing.source_state import SourceState, file_stats
from monai_vqbrain.stages.slicing.stack_cache import ScanState, StackCache, scan_state
from monai_vqbrain.stages.slicing.volume import read_volume
from monai_vqbrain.stages.train import train
from monai_vqbrain.transforms.brain_extraction import is_installed
from monai_vqbrain.transforms.template import template_brain, template_extent, template_image

FRAME = PrepareOptions(size=(32, 32))


def picture(path: Path, seed: int) -> None:
    """A head's slice of 64 x 60 pixels on a noisy dark background, brighter at its front."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices((60, 64))
    inside = ((rows - 30) / 24) ** 2 + ((columns - 32) / 18) ** 2 < 1
    values = np.where(inside, 90 + 100 * (rows < 20) + rng.integers(0, 40, inside.shape), 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)


@pytest.fixture
def ad_nc(tmp_path: Path) -> Path:
    """Ten ids with two slices each."""
    for number in range(10):
        folder = f"{'test' if number > 7 else 'train'}/{'AD' if number % 2 else 'NC'}"
        for index in (99, 100):
            path = tmp_path / "AD_NC" / folder / f"{218000 + number}_{index}.jpeg"
            picture(path, seed=2 * number + index)
    return tmp_path / "AD_NC"


def test_pictures_become_slices_as_they_are_shown(
    ad_nc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = prepare_slices(ad_nc, tmp_path / "run", FRAME)
    table = pd.read_csv(folder / "slices.tsv", sep="\t")
    assert len(table) == 20
    assert table["position_mm"].isna().all()
    assert set(table["mask_source"]) == {"pictures"}
    assert set(table.loc[table["split"] == "test", "participant_id"]) == {218008, 218009}
    stack = nib.load(folder / table["stack"][0]).get_fdata()
    assert stack.shape == (32, 32, 2)
    assert stack[13:19, 22:26].mean() > stack[13:19, 6:10].mean() + 0.2  # the front is up
    assert not stack[:, [0, 1, 30, 31]].any()  # the picture's background, and the frame
    mask = nib.load(folder / table["stack"][0].replace("_T1w", "_desc-brain_mask")).get_fdata()
    assert mask.sum() == pytest.approx(2 * np.pi * 12 * 9, rel=0.1)
    assert "note: the ids of AD_NC number images" in capsys.readouterr().out


def test_a_picture_that_is_none_is_said_and_left_out(ad_nc: Path, tmp_path: Path) -> None:
    (ad_nc / "train" / "AD" / "218001_99.jpeg").write_bytes(b"no picture")
    for index in (99, 100):
        (ad_nc / "train" / "AD" / f"218003_{index}.jpeg").write_bytes(b"")
    folder = prepare_slices(ad_nc, tmp_path / "run", FRAME)
    problems = pd.read_csv(folder / "problems.tsv", sep="\t")
    assert list(problems[["path", "problem"]].itertuples(index=False, name=None)) == [
        ("train/AD/218001_99.jpeg", "cannot be read as a picture"),
        ("train/AD: 218003", "none of its pictures can be read"),
    ]
    assert len(pd.read_csv(folder / "slices.tsv", sep="\t")) == 17


def test_pictures_go_all_the_way_to_the_report(ad_nc: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    prepare_slices(ad_nc, run, FRAME)
    train(run, "vqvae", tiny_vqvae())
    encode(run)
    train(run, "prior", tiny_prior())
    draw_samples(run, SampleOptions(number=2))
    evaluate(run)
    page = (run / "7-report" / "report.html").read_text()
    for words in ("The data were provided as 2D images", "The splits supplied with the data",
                  "The ids of AD_NC number images, not participants"):  # fmt: skip
        assert words in page
    assert not re.search(r"\bnan\b", re.sub(r"data:[^\"]*", "", page))


def test_pictures_are_not_cut_otherwise(ad_nc: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="contains ready-made axial slices: leave out --axis"):
        prepare_slices(ad_nc, tmp_path / "run", PrepareOptions(axis="coronal"))
    with pytest.raises(UsageError, match="--count, --align and --bias"):
        prepare_slices(ad_nc, tmp_path / "run", PrepareOptions(align="affine"))


def test_check_tells_of_pictures(ad_nc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = "\n".join(plan_lines(check(ad_nc, size=FRAME.size, spacing=FRAME.spacing)))
    for words in ("layout ad_nc", "10 of 2 pictures of slices", "column folder; known for 10",
                  "note        the ids of AD_NC"):  # fmt: skip
        assert words in said


def test_a_head_in_mni_space_gets_the_templates_brain(tmp_path: Path) -> None:
    affine = np.array([[2, 0, 0, -84], [0, 2, 0, -120], [0, 0, 2, -72], [0, 0, 0, 1.0]])
    head = 40 + np.random.default_rng(0).integers(0, 100, (85, 104, 90))
    for person in "ABC":
        name = f"sub-{person}_ses-M000_space-MNI152NLin2009cSym_desc-Crop_res-1x1x1_T1w.nii.gz"
        path = tmp_path / "caps" / "subjects" / f"sub-{person}" / "ses-M000" / "t1_linear" / name
        path.parent.mkdir(parents=True)
        nib.save(nib.Nifti1Image(head.astype(np.int16), affine), path)
    options = PrepareOptions(spacing=2, brain="template")
    folder = prepare_slices(tmp_path / "caps", tmp_path / "run", options)
    table = pd.read_csv(folder / "slices.tsv", sep="\t")
    assert set(table["mask_source"]) == {"template"}
    mask = nib.load(folder / table["stack"][0].replace("_T1w", "_desc-brain_mask"))
    brain, own = template_brain()
    millilitres = mask.get_fdata()[..., 8].sum() * 4 / 1000  # of a plane 1 mm thick
    plane = round(table["position_mm"][8] - own[2, 3])
    assert millilitres == pytest.approx(brain[..., plane].sum() / 1000, rel=0.03)


def test_a_head_in_mni_space_that_is_aligned_anew_has_its_brain_there(tmp_path: Path) -> None:
    heads = make_phantom(tmp_path / "p", 1, seed=4, skull=True, second_sessions=0)
    name = "sub-A_ses-M000_space-MNI152NLin2009cSym_desc-Crop_res-1x1x1_T1w.nii.gz"
    path = tmp_path / "caps" / "subjects" / "sub-A" / "ses-M000" / "t1_linear" / name
    path.parent.mkdir(parents=True)
    next(heads.glob("sub-phantom01/ses-01/anat/*_T1w.nii.gz")).rename(path)
    folder = prepare_slices(
        tmp_path / "caps", tmp_path / "run", replace(FRAME, align="affine", brain="template")
    )
    (millilitres,) = pd.read_csv(folder / "qc" / "qc.tsv", sep="\t")["brain_ml"]
    assert abs(millilitres - np.count_nonzero(template_brain()[0]) / 1000) > 20
    assert set(pd.read_csv(folder / "slices.tsv", sep="\t")["mask_source"]) == {"template"}


@pytest.fixture(scope="module")
def series(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real T1 series as DICOM."""
    folder = tmp_path_factory.mktemp("dicom")
    with tarfile.open(shared_data / "dicom-t1" / "studyforrest-t1.tar.xz") as archive:
        # Python 3.11.4 and newer; older ones do not know filters
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(folder)
    return folder


def test_a_real_series_becomes_the_volume_that_dcm2niix_makes(series: Path, tmp_path: Path) -> None:
    dcm2niix = pytest.importorskip("dcm2niix")
    pytest.importorskip("pydicom")
    (scan,) = read_cohort(series).scans
    assert len(scan.files) == 384
    path = converted_volume(scan, tmp_path / "volumes")
    dcm2niix.main(["-b", "n", "-z", "n", "-f", "oracle", "-o", str(tmp_path), str(series)],
                  capture_output=True)  # fmt: skip
    oracle = nib.load(tmp_path / "oracle.nii")
    volume = read_volume(path)
    assert np.allclose(volume.affine, oracle.affine, atol=1e-5)
    assert np.array_equal(volume.array, np.asarray(oracle.dataobj))
    made = path.stat().st_mtime_ns
    assert converted_volume(scan, tmp_path / "volumes") == path
    assert path.stat().st_mtime_ns == made  # and not made again


def test_a_real_series_with_a_gap_is_refused(series: Path, tmp_path: Path) -> None:
    pytest.importorskip("dcm2niix")
    (scan,) = read_cohort(series).scans
    torn = replace(scan, files=(*scan.files[:100], *scan.files[112:]))
    with pytest.raises(UnusableImageError, match="12 of 384 slices are missing between the others"):
        converted_volume(torn, tmp_path / "volumes")


def test_a_real_series_goes_in_as_one_aligned_volume(series: Path, tmp_path: Path) -> None:
    pytest.importorskip("dcm2niix")
    pytest.importorskip("pydicom")
    folder = prepare_slices(series, tmp_path / "run", PrepareOptions())
    slices = pd.read_csv(folder / "slices.tsv", sep="\t")
    assert len(slices) == 16
    assert set(slices["mask_source"]) == {"deepbet" if is_installed() else "template"}
    assert slices["position_mm"].iloc[-1] == pytest.approx(template_extent()[1][2] - 36)
    qc = pd.read_csv(folder / "qc" / "qc.tsv", sep="\t").iloc[0]
    assert 900 < qc["brain_ml"] < 2000
    assert qc["alignment"] > 0.5
    made = nib.load(next((tmp_path / "run" / "1-volumes").glob("*_T1w.nii.gz")))
    assert made.shape == (274, 384, 384)
    stack = nib.load(folder / slices["stack"][0])
    template, affine = template_image()
    here = np.argwhere(np.ones(stack.shape)) @ stack.affine[:3, :3].T + stack.affine[:3, 3]
    there = (here - affine[:3, 3]) / np.diag(affine)[:3]
    inside = np.all((there >= 0) & (there < np.array(template.shape) - 1), axis=1)
    theirs = template[tuple(np.rint(there[inside]).astype(int).T)]
    mine = stack.get_fdata().ravel()[inside]
    brain = (theirs > 0) & (mine > 0)
    assert np.corrcoef(mine[brain], theirs[brain])[0, 1] > 0.5


def test_what_dcm2niix_cannot_convert_is_unusable(tmp_path: Path) -> None:
    pytest.importorskip("dcm2niix")
    (tmp_path / "a.dcm").write_bytes(b"nothing")
    scan = Scan(participant_id="a", path=tmp_path, form="dicom", files=(tmp_path / "a.dcm",))
    with pytest.raises(UnusableImageError, match="dcm2niix made 0 volumes from 1 files"):
        converted_volume(scan, tmp_path / "volumes")


DAMAGES: dict[str, Callable[[Path, Path], object]] = {
    "deleted volume": lambda volume, _: volume.unlink(),
    "damaged volume": lambda volume, _: volume.write_bytes(b"x" + volume.read_bytes()[1:]),
    "deleted record": lambda _, record: record.unlink(),
    "damaged record": lambda _, record: record.write_text(record.read_text()[:20]),
}


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_conversion_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Also if nothing else has changed since the series was sliced."""
    (tmp_path / "a.dcm").write_bytes(b"series")
    files = (tmp_path / "a.dcm",)
    scan = Scan(participant_id="a", path=tmp_path, source="a", form="dicom", files=files)
    made: list[int] = []

    def convert(_: object, target: Path) -> None:
        made.append(1)
        brain_image().to_filename(target)

    monkeypatch.setattr("monai_vqbrain.stages.slicing.dicom.convert", convert)
    run = RunFolder(tmp_path / "run")
    cache = StackCache(
        FRAME.extract(), Normalisation(), run.slices, run.slices, run.volumes, slicing_code()
    )  # fmt: skip
    state = SourceState(file_stats(scan), scan_inputs([scan]))
    kept = [cache(scan, "x", "y", state) for _ in range(2)]
    assert made == [1]
    record, volume = sorted(run.volumes.iterdir())
    files = volume.read_bytes(), record.read_text()
    DAMAGES[how](volume, record)
    assert scan_state(scan, "x", run.slices, run.volumes) is ScanState.CHANGED
    assert cache(scan, "x", "y", state).slices == kept[0].slices == kept[1].slices
    assert made == [1, 1]
    assert (volume.read_bytes(), record.read_text()) == files
    assert scan_state(scan, "x", run.slices, run.volumes) is ScanState.KEPT


def test_without_dcm2niix_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "dcm2niix", None)
    (tmp_path / "a.dcm").touch()
    scan = Scan(participant_id="a", path=tmp_path, form="dicom", files=(tmp_path / "a.dcm",))
    with pytest.raises(UsageError, match=r"pip install 'monai-vqbrain\[dicom\]'"):
        converted_volume(scan, tmp_path / "volumes")


def test_the_run_in_its_source_is_no_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        brain_image(number).to_filename(tmp_path / f"sub-{number}_T1w.nii")
    monkeypatch.chdir(tmp_path)
    prepare_slices(".", "run", FRAME)
    table = Path("run/2-slices/slices.tsv").read_bytes()
    capsys.readouterr()
    prepare_slices(".", "run", FRAME)
    assert "2-slices is up to date" in capsys.readouterr().out
    assert Path("run/2-slices/slices.tsv").read_bytes() == table
    assert len(check(".").cohort.scans) == 3


def test_the_same_image_under_two_ids_is_said_and_in_one_split(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(12):
        brain_image(number // 2 if number < 10 else number).to_filename(
            source / f"sub-{number:02}_T1w.nii"
        )
    folder = prepare_slices(source, tmp_path / "run", FRAME)
    slices = pd.read_csv(folder / "slices.tsv", sep="\t")
    split = slices.groupby("participant_id")["split"].first()
    pairs = [(f"sub-{number:02}", f"sub-{number + 1:02}") for number in range(0, 10, 2)]
    assert all(split[one] == split[other] for one, other in pairs)
    assert split.nunique() == 3
    problems = pd.read_csv(folder / "problems.tsv", sep="\t")
    said = problems[problems["problem"].str.startswith("is the same image as")]
    assert list(said["path"]) == [f"{other}_T1w.nii" for _, other in pairs]
    assert said["problem"].iloc[0] == "is the same image as sub-00_T1w.nii (sub-00)"
    run = check(source, tmp_path / "run", size=(32, 32))
    assert [run.splits[name] for name in split.index] == list(split)


@pytest.mark.parametrize("how", ["compressed", "as floats", "mirrored storage"])
def test_the_same_voxels_in_another_file_are_listed_and_in_one_split(
    how: str, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(6):
        image = brain_image(number)
        image.to_filename(source / f"sub-{number}_T1w.nii")
        if how == "as floats":
            image = nib.Nifti1Image(image.get_fdata(dtype=np.float32), image.affine)
        elif how == "mirrored storage":
            image = nib.as_closest_canonical(image)
        image.to_filename(source / f"sub-1{number}_T1w.nii{'.gz' * (how == 'compressed')}")
    folder = prepare_slices(source, tmp_path / "run", FRAME)
    slices = pd.read_csv(folder / "slices.tsv", sep="\t")
    split = slices.groupby("participant_id")["split"].first()
    assert all(split[f"sub-{number}"] == split[f"sub-1{number}"] for number in range(6))
    assert split.nunique() == 3
    problems = pd.read_csv(folder / "problems.tsv", sep="\t")
    said = problems[problems["problem"].str.startswith("has the same slices as")]
    assert len(said) == 6
    assert said["problem"].iloc[0] == "has the same slices as sub-0_T1w.nii (sub-0)"
