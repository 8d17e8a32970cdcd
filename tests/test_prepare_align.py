"""prepare with alignment: whole heads and brains on the same slices, and what is kept of them."""

from __future__ import annotations

import importlib.util
import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation

from monai_vqbrain.cohorts import make_phantom
from monai_vqbrain.errors import UsageError, VQBrainError
from monai_vqbrain.provenance import read_provenance
from monai_vqbrain.runs.conditions import position_column
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.stages.images.input_volume import SliceFrame, read_input_volume, space_of
from monai_vqbrain.stages.prepare import prepare_slices
from monai_vqbrain.stages.slicing.normalisation import Normalisation
from monai_vqbrain.stages.slicing.normalisation_cache import NormalisationCache, NormalisationResult
from monai_vqbrain.stages.slicing.options import PrepareOptions
from monai_vqbrain.transforms.bias import log_bias
from monai_vqbrain.transforms.blocks import Blocks
from monai_vqbrain.transforms.registration import Registration, register
from monai_vqbrain.transforms.template import SPACE, template_extent

SMALL = PrepareOptions(size=(64, 64), spacing=3.6, brain="template")
AUTO = replace(SMALL, brain="auto")


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two simulated heads, each turned and moved."""
    source = make_phantom(
        tmp_path_factory.mktemp("heads") / "p", 2, seed=3, skull=True, second_sessions=0
    )
    rng = np.random.default_rng(0)
    for path in sorted(source.glob("sub-*/ses-01/anat/*_T1w.nii.gz")):
        image = nib.load(path)
        pose = np.eye(4)
        pose[:3, :3] = Rotation.from_euler("xyz", rng.uniform(-12, 12, 3), degrees=True).as_matrix()
        pose[:3, 3] = rng.uniform(-30, 30, 3)
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), pose @ image.affine), path)
    return source


@pytest.fixture(scope="module")
def run(heads: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The heads, prepared as no participant said how; do not change it."""
    out = tmp_path_factory.mktemp("aligned") / "run"
    prepare_slices(heads, out, SMALL)
    return out


def table(run: Path, name: str = "slices.tsv") -> pd.DataFrame:
    return pd.read_csv(run / "2-slices" / name, sep="\t")


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for each registration that is really made: its kind."""
    made: list[str] = []

    def counted(*args: Any, **kwargs: Any) -> Any:
        made.append(args[3] if len(args) > 3 else "affine")
        return register(*args, **kwargs)

    monkeypatch.setattr("monai_vqbrain.stages.slicing.normalisation.register", counted)
    return made


def test_whole_heads_are_aligned_without_being_asked(run: Path) -> None:
    slices = table(run)
    assert len(slices) == 2 * 16
    assert set(slices["mask_source"]) == {"template"}
    options = (read_provenance(run / "2-slices") or {})["options"]
    assert (options["align"], options["align_asked"], options["space"]) == ("affine", "auto", SPACE)
    assert position_column(RunFolder(run)) == "position_mm"


def test_the_slices_lie_at_the_same_millimetres_in_every_brain(run: Path) -> None:
    """From 36 mm below the template's top downwards, centred on its brain."""
    stacks = [nib.load(path) for path in sorted((run / "2-slices/stacks").glob("*_T1w.nii"))]
    for stack in stacks:
        assert np.array_equal(stack.affine, stacks[0].affine)
    low, high = template_extent()
    middle = nib.affines.apply_affine(stacks[0].affine, (np.array(stacks[0].shape) - 1) / 2)
    assert np.allclose(middle[:2], ((low + high) / 2)[:2], atol=1e-3)
    top = nib.affines.apply_affine(stacks[0].affine, [0, 0, 15])[2]
    assert top == pytest.approx(high[2] - 36, abs=1e-3)
    images = [stack.get_fdata().ravel() for stack in stacks]
    assert np.corrcoef(images)[0, 1] > 0.9


def test_the_map_is_kept_as_simpleitk_reads_it(run: Path, heads: Path) -> None:
    import SimpleITK as sitk  # noqa: N813

    name = "sub-phantom02_ses-01"
    path = run / "1-volumes" / f"{name}_from-T1w_to-{SPACE}_mode-image_xfm.txt"
    there = sitk.ReadTransform(str(path))
    note = json.loads((run / f"1-volumes/{name}_desc-normalisation_T1w.json").read_text())
    matrix = np.array(note["place"]["matrix"])
    point = np.array([20.0, -30.0, 40.0])
    flip = np.array([-1, -1, 1])
    expected = nib.affines.apply_affine(matrix, point)
    assert np.allclose(flip * there.TransformPoint((flip * point).tolist()), expected)


def test_scores_of_the_alignment_stand_in_the_qc_table(run: Path) -> None:
    qc = table(run, "qc/qc.tsv")
    assert qc["alignment"].between(0.4, 1).all()
    assert qc["shift_mm"].abs().max() < 3
    assert qc["brain_ml"].between(900, 2000).all()
    page = (run / "2-slices/qc/index.html").read_text()
    assert "correlation with the template" in page


def test_brains_and_heads_of_the_same_people_get_the_same_slices(run: Path, tmp_path: Path) -> None:
    """Those without a skull lie upright: only alignment brings the two together."""
    bare = make_phantom(tmp_path / "bare", 2, seed=3, second_sessions=0)
    prepare_slices(bare, tmp_path / "run", replace(AUTO, align="affine"))
    assert set(table(tmp_path / "run")["mask_source"]) == {"zero-background"}
    for path in sorted((run / "2-slices/stacks").glob("*_T1w.nii")):
        of_head, of_brain = (
            nib.load(folder / "2-slices/stacks" / path.name) for folder in (run, tmp_path / "run")
        )
        assert np.array_equal(of_head.affine, of_brain.affine)
        inside = of_brain.get_fdata() > 0
        both = of_head.get_fdata()[inside], of_brain.get_fdata()[inside]
        assert np.corrcoef(*both)[0, 1] > 0.85


def test_nothing_is_aligned_twice(
    run: Path,
    heads: Path,
    tmp_path: Path,
    registered: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    again = tmp_path / "run"
    shutil.copytree(run, again)
    prepare_slices(heads, again, SMALL)
    assert "is up to date" in capsys.readouterr().out
    prepare_slices(heads, again, replace(SMALL, axis="sagittal"))
    assert registered == []
    assert set(table(again)["axis"]) == {"sagittal"}
    prepare_slices(heads, again, replace(SMALL, align="rigid"))
    assert registered == ["affine", "rigid"] * 2


REFUSED = {
    "zero": "not skull-stripped .*: skull-strip it, or use --brain auto",
    "given": "has no brain mask: put a mask .*, or use --brain auto",
}


@pytest.mark.parametrize("brain", REFUSED)
def test_a_whole_head_is_refused_by_what_finds_no_brain_in_it(
    heads: Path, tmp_path: Path, brain: str
) -> None:
    with pytest.raises(VQBrainError, match=REFUSED[brain]):
        prepare_slices(heads, tmp_path, replace(SMALL, align="none", brain=brain))


def test_a_whole_head_without_alignment_gets_the_templates_brain_in_its_own_space(
    run: Path, heads: Path, tmp_path: Path, registered: list[str]
) -> None:
    prepare_slices(heads, tmp_path / "run", replace(SMALL, align="none"))
    assert registered == ["affine"] * 2
    assert set(table(tmp_path / "run")["mask_source"]) == {"template"}
    mine, aligned = (table(folder, "qc/qc.tsv") for folder in (tmp_path / "run", run))
    millilitres = mine.set_index("scan")["brain_ml"].sort_index()
    assert np.allclose(millilitres, aligned.set_index("scan")["brain_ml"].sort_index())
    assert "alignment" not in mine or mine["alignment"].isna().all()


def test_without_simpleitk_the_brain_of_a_head_is_not_found_and_this_is_one_line(
    heads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monai_vqbrain.stages.slicing.normalisation.find_spec", lambda name: None)
    words = r"needs SimpleITK: pip install 'monai-vqbrain\[strip\]' to find it by deepbet"
    with pytest.raises(VQBrainError, match=words):
        prepare_slices(heads, tmp_path, replace(SMALL, align="none"))


def test_stopping_at_the_first_problem_does_not_stop_at_a_whole_head(
    run: Path, heads: Path, tmp_path: Path
) -> None:
    shutil.copytree(run / "1-volumes", tmp_path / "run" / "1-volumes")  # aligned already
    prepare_slices(heads, tmp_path / "run", replace(SMALL, on_error="stop"))
    assert set(table(tmp_path / "run")["mask_source"]) == {"template"}


def test_a_single_head_among_brains_moves_nobody(heads: Path, tmp_path: Path) -> None:
    source = make_phantom(tmp_path / "p", 4, resolution_mm=4, second_sessions=0)
    refusing = replace(SMALL, brain="zero")
    head = next(heads.glob("sub-phantom01/ses-01/anat/*_T1w.nii.gz"))
    shutil.copyfile(head, next(source.glob("sub-phantom01/ses-01/anat/*_T1w.nii.gz")))
    prepare_slices(source, tmp_path / "run", refusing)
    problems = table(tmp_path / "run", "problems.tsv")
    assert len(problems) == 1
    assert problems["advice"][0] == "skull-strip it, or use --brain auto"
    assert set(table(tmp_path / "run")["mask_source"]) == {"zero-background"}
    with pytest.raises(VQBrainError, match="sub-phantom01.* not skull-stripped"):
        prepare_slices(source, tmp_path / "run2", replace(refusing, on_error="stop"))


def test_an_alignment_that_fails_is_one_line(heads: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    good = next(heads.glob("sub-phantom01/ses-01/anat/*_T1w.nii.gz"))
    shutil.copyfile(good, source / "p1_T1w.nii.gz")
    image = nib.load(good)
    larger = np.diag([1.15, 1.15, 1.15, 1]) @ image.affine
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), larger), source / "p2_T1w.nii.gz")
    prepare_slices(source, tmp_path / "run", SMALL)
    problem = table(tmp_path / "run", "problems.tsv").set_index("path").loc["p2_T1w.nii.gz"]
    assert "the alignment to MNI152 fails: the brain would have 2" in problem["problem"]
    assert "--exclude" in problem["advice"]
    assert len(table(tmp_path / "run")) == 16


def test_a_slab_is_one_line(heads: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    good = nib.load(next(heads.glob("sub-phantom01/ses-01/anat/*_T1w.nii.gz")))
    for name, depth in (("p1", None), ("p2", 10)):
        part = np.asarray(good.dataobj)[..., :depth]
        nib.save(nib.Nifti1Image(part, good.affine), source / f"{name}_T1w.nii.gz")
    prepare_slices(source, tmp_path / "run", replace(SMALL, align="affine"))
    problem = table(tmp_path / "run", "problems.tsv").set_index("path").loc["p2_T1w.nii.gz"]
    assert "x 20 mm: to be aligned each side must have 64 to 640 mm" in problem["problem"]


def test_notes_that_cannot_be_read_are_made_anew(
    run: Path, heads: Path, tmp_path: Path, registered: list[str]
) -> None:
    again = tmp_path / "run"
    shutil.copytree(run, again)
    note = again / "1-volumes" / "sub-phantom01_ses-01_desc-normalisation_T1w.json"
    note.write_text(note.read_text()[:50])
    prepare_slices(heads, again, replace(SMALL, axis="coronal"))
    assert registered == ["affine"]
    assert len(table(again)) == 2 * 16


def test_bias_of_z_scores_is_refused(tmp_path: Path) -> None:
    source = make_phantom(tmp_path / "p", 2, resolution_mm=4, second_sessions=0)
    path = next(source.glob("sub-phantom02/ses-01/anat/*_T1w.nii.gz"))
    image = nib.load(path)
    array = np.asarray(image.dataobj, dtype=np.float32)
    array[array > 0] -= array[array > 0].mean()
    nib.save(nib.Nifti1Image(array, image.affine), path)
    prepare_slices(source, tmp_path / "run", replace(AUTO, bias=True))
    (row,) = table(tmp_path / "run", "problems.tsv").to_dict("records")
    assert "of the brain voxels are negative, but bias correction divides" in row["problem"]
    assert row["advice"] == "leave out --bias, or this image with --exclude"
    assert not list((tmp_path / "run/1-volumes").glob("sub-phantom02*"))


def test_what_was_found_otherwise_before_goes(tmp_path: Path) -> None:
    notes = NormalisationCache(tmp_path, "sub-1", "digest")
    field = Blocks(np.zeros((4, 4, 4), dtype=np.float32), np.eye(4))
    notes.write(NormalisationResult(place=Registration(np.eye(4), 0.5), bias=field))
    found = notes.read()
    assert found is not None
    assert found.place is not None
    assert np.array_equal(found.place.matrix, np.eye(4))
    assert found.bias is not None
    assert len(list(tmp_path.iterdir())) == 3
    notes.write(NormalisationResult())
    assert [path.name for path in tmp_path.iterdir()] == [notes.record.name]
    assert replace(notes, digest="another").read() is None


def edit_matrix(notes: NormalisationCache) -> None:
    record = json.loads(notes.record.read_text())
    record["place"]["matrix"][0][3] = 5.0
    notes.record.write_text(json.dumps(record))


@pytest.mark.parametrize(
    "spoil",
    [
        edit_matrix,
        lambda notes: notes.transform.unlink(),
        lambda notes: notes.transform.write_text("#Insight Transform File V1.0\n"),
        lambda notes: shutil.copy(notes.transform, notes.field),
    ],
)
def test_what_was_changed_since_is_found_again(tmp_path: Path, spoil: Any) -> None:
    notes = NormalisationCache(tmp_path, "sub-1", "digest")
    field = Blocks(np.zeros((4, 4, 4), dtype=np.float32), np.eye(4))
    notes.write(NormalisationResult(place=Registration(np.eye(4), 0.5), bias=field))
    assert notes.read() is not None
    spoil(notes)
    assert notes.read() is None


def test_bias_is_corrected_and_its_field_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coarse = partial(log_bias, mm=8.0)  # half the time
    monkeypatch.setattr("monai_vqbrain.stages.slicing.normalisation.log_bias", coarse)
    source = make_phantom(tmp_path / "p", 1, seed=5, resolution_mm=3, second_sessions=0)
    left = np.linspace(0.6, 1.4, 70)
    for path in source.glob("sub-*/ses-01/anat/*_T1w.nii.gz"):
        image = nib.load(path)
        array = np.asarray(image.dataobj)
        shaded = (array * left[: array.shape[0], None, None]).astype(np.float32)
        nib.save(nib.Nifti1Image(shaded, image.affine), path)
    ratio = {}
    for bias in (False, True):
        run = tmp_path / f"run-{bias}"
        prepare_slices(source, run, replace(AUTO, bias=bias))
        image = nib.load(next((run / "2-slices/stacks").glob("*_T1w.nii"))).get_fdata()
        halves = [half[half > 0].mean() for half in (image[:32], image[32:])]
        ratio[bias] = halves[1] / halves[0]
    assert ratio[False] > 1.15
    assert abs(ratio[True] - 1) < 0.05
    assert len(list((run / "1-volumes").glob("*_desc-logbias_T1w.nii.gz"))) == 1
    note = json.loads(next((run / "1-volumes").glob("*_desc-normalisation_T1w.json")).read_text())
    assert note["place"] is None
    assert (read_provenance(run / "2-slices") or {})["options"]["space"] == ""


def test_counts_and_positions_are_the_templates(run: Path, heads: Path, tmp_path: Path) -> None:
    again = tmp_path / "run"
    shutil.copytree(run, again)
    prepare_slices(heads, again, replace(SMALL, count=4))
    low, high = template_extent()
    spread = low[2] + (np.arange(4) + 0.5) * (high[2] - low[2]) / 4
    for _, rows in table(again).groupby("stack"):
        assert np.allclose(rows["position_mm"], spread, atol=1e-3)
    prepare_slices(heads, again, replace(SMALL, positions="-10:20:10"))
    for _, rows in table(again).groupby("stack"):
        assert rows["position_mm"].tolist() == [-10, 0, 10, 20]


def test_a_volume_to_reconstruct_is_aligned_as_the_run_is(run: Path, heads: Path) -> None:
    path = next(heads.glob("sub-phantom02/ses-01/anat/*_T1w.nii.gz"))
    frame = SliceFrame.of((read_provenance(run / "2-slices") or {})["options"])
    assert frame.how == Normalisation("affine", False, brain=("template",))
    original = read_input_volume(path, frame)
    stack = nib.load(run / "2-slices/stacks/sub-phantom02_ses-01_axial_T1w.nii")
    positions = np.array([place["position_mm"] for place in original.places])
    for index in (2, 8, 13):
        at = stack.affine[2, 3] + index * stack.affine[2, 2]
        near = int(np.abs(positions - at).argmin())
        mine, theirs = original.slices[..., near], stack.get_fdata()[..., index]
        assert np.corrcoef(mine.ravel(), theirs.ravel())[0, 1] > 0.97
    back = original.back(original.slices)
    inside = original.brain & (original.unit > 0)
    assert np.corrcoef(back[inside], original.unit[inside])[0, 1] > 0.8


def test_the_space_of_an_image_stands_in_its_name() -> None:
    assert space_of(Path("sub-1_space-MNI152NLin2009cSym_T1w.nii.gz")) == "MNI152NLin2009cSym"
    assert space_of(Path("sub-1_space-scanner_T1w.nii.gz")) == ""


@pytest.mark.parametrize("options", [{"align": "affine"}, {"align": "rigid"}, {"bias": True}])
def test_simpleitk_is_asked_for_in_time(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("monai_vqbrain.stages.slicing.normalisation.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"need SimpleITK: pip install 'monai-vqbrain\[align\]'"):
        PrepareOptions(**options)
