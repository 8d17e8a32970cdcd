"""Volumes to slices on disk."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from monai.data import load_decathlon_datalist
from scipy.ndimage import gaussian_filter

from monai_vqbrain.cohorts import Scan
from monai_vqbrain.errors import UsageError, VQBrainError
from monai_vqbrain.runs.datalist import make_datalist
from monai_vqbrain.runs.folder import SLICE_COLUMNS, RunFolder
from monai_vqbrain.runs.slices import slice_rows
from monai_vqbrain.stages.prepare import prepare_slices
from monai_vqbrain.stages.slicing.brain import find_brain
from monai_vqbrain.stages.slicing.normalisation import Normalisation
from monai_vqbrain.stages.slicing.normalisation_cache import NormalisationCache
from monai_vqbrain.stages.slicing.options import PrepareOptions, parse_positions
from monai_vqbrain.stages.slicing.scan_slices import SlicedScan, slice_scan
from monai_vqbrain.stages.slicing.volume import Volume, read_volume
from monai_vqbrain.transforms import ExtractSlices, LoadSliced, ScaleBrainIntensity
from monai_vqbrain.transforms.brain_slices import brain_slices

SHAPE, MM = (26, 30, 24), 7.0
SMALL = PrepareOptions(size=(32, 28), spacing=7.0, count=4)


def brain_image(seed: int = 0, dtype: type = np.uint8) -> nib.Nifti1Image:
    """An egg of about a litre with texture, on a background of exactly 0, stored LAS."""
    offsets = (np.indices(SHAPE).T - np.array(SHAPE) / 2).T * MM
    egg = sum((o / r) ** 2 for o, r in zip(offsets, (65, 80, 55), strict=True)) < 1
    texture = gaussian_filter(np.random.default_rng(seed).random(SHAPE), 1)
    values = egg * (40 + 180 * (texture - texture.min()) / np.ptp(texture))
    image = nib.Nifti1Image(values.astype(dtype), np.diag([-MM, MM, MM, 1]))
    image.header.set_slope_inter(3.5, 0)
    return image


def dataset(root: Path, people: int = 8) -> Path:
    """A BIDS dataset; the last participant has a second session."""
    rows = []
    for n in range(people):
        sub = f"sub-{n:02d}"
        for ses in ("", "ses-2") if n == people - 1 else ("",):
            folder = root / sub / ses / "anat"
            folder.mkdir(parents=True, exist_ok=True)
            name = "_".join(filter(None, (sub, ses, "T1w.nii.gz")))
            nib.save(brain_image(n), folder / name)
        rows.append(f"{sub}\t{60 + n}\t{'MF'[n % 2]}\t{'AD' if n % 2 else 'CN'}")
    (root / "participants.tsv").write_text("\n".join(["participant_id\tage\tsex\tgroup", *rows]))
    return root


@pytest.fixture(scope="module", name="source")
def _source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dataset(tmp_path_factory.mktemp("bids"))


@pytest.fixture(scope="module", name="prepared")
def _prepared(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_slices(source, tmp_path_factory.mktemp("run"), SMALL)


def table(folder: Path, name: str = "slices") -> pd.DataFrame:
    return pd.read_csv(folder / f"{name}.tsv", sep="\t")


def test_the_folder_holds_what_the_design_says(prepared: Path) -> None:
    for name in ("slices.tsv", "datalist.json", "participants.tsv", "problems.tsv"):
        assert (prepared / name).is_file()
    assert (prepared / "provenance.json").is_file()
    assert (prepared / "qc" / "montage.png").stat().st_size > 1000
    slices = table(prepared)
    assert tuple(slices.columns) == SLICE_COLUMNS
    assert len(slices) == 9 * 4
    assert len(list((prepared / "stacks").iterdir())) == 9 * 3  # stack, mask, note
    first = slices.iloc[0]
    assert first["stack"] == "stacks/sub-00_axial_T1w.nii"
    assert first["source"] == "sub-00/anat/sub-00_T1w.nii.gz"
    assert (first["diagnosis"], first["sex"], first["age"]) == ("CN", "M", 60)
    assert set(slices["mask_source"]) == {"zero-background"}
    assert (prepared / "stacks" / "sub-07_ses-2_axial_T1w.nii").is_file()


def test_missing_values_are_written_as_bids_does(prepared: Path) -> None:
    header, first = (prepared / "slices.tsv").read_text().splitlines()[:2]
    cells = dict(zip(header.split("\t"), first.split("\t"), strict=True))
    assert cells["session_id"] == "n/a"
    item = json.loads((prepared / "datalist.json").read_text())["training"][0]
    assert item["session_id"] == "n/a"


def test_a_stack_lies_where_the_volume_lies(source: Path, prepared: Path) -> None:
    """A nearest voxel of the stack, found by nibabel's affines alone, has the volume's value."""
    volume = nib.load(source / "sub-03/anat/sub-03_T1w.nii.gz")
    stack = nib.load(prepared / "stacks/sub-03_axial_T1w.nii")
    assert stack.get_data_dtype() == np.uint8
    assert nib.aff2axcodes(stack.affine) == tuple("RAS")
    assert int(stack.header["sform_code"]) == int(stack.header["qform_code"]) == 1
    assert stack.shape == (28, 32, 4)
    world = nib.affines.apply_affine(stack.affine, np.argwhere(np.ones(stack.shape)))
    there = nib.affines.apply_affine(np.linalg.inv(volume.affine), world).round().astype(int)
    inside = ((there >= 0) & (there < SHAPE)).all(axis=1)
    theirs = volume.get_fdata()[tuple(there[inside].T)]
    mine = stack.get_fdata().reshape(-1)[inside]
    assert np.corrcoef(mine, theirs)[0, 1] > 0.9
    # a mirrored brain correlates too, but its texture does not
    mirrored = stack.get_fdata()[::-1].reshape(-1)[inside]
    in_brain = theirs > 0
    apart = [np.corrcoef(x[in_brain], theirs[in_brain])[0, 1] for x in (mine, mirrored)]
    assert apart[0] > apart[1] + 0.2


def test_positions_in_the_table_are_those_of_the_affine(prepared: Path) -> None:
    for path, rows in table(prepared).groupby("stack"):
        affine = nib.load(prepared / path).affine
        assert np.allclose(
            affine[2, 3] + affine[2, 2] * rows["index"], rows["position_mm"], atol=1e-3
        )
        assert rows["position_rel"].between(0, 1).all()
        mask = nib.load(prepared / path.replace("_T1w", "_desc-brain_mask")).get_fdata()
        assert np.allclose(mask.mean(axis=(0, 1)), rows["brain_fraction"], atol=1e-4)


def test_prepare_gives_what_the_transform_gives(source: Path, prepared: Path) -> None:
    """Integers as stored, scaled afterwards, against floats through MONAI's way."""
    image = nib.load(source / "sub-02/anat/sub-02_T1w.nii.gz")
    values = torch.from_numpy(image.get_fdata(dtype=np.float32))[None]
    volume = Volume(ScaleBrainIntensity()(values)[0].numpy(), image.affine)
    stack = SMALL.extract().stack(volume.array[None], volume.affine, volume.array != 0)
    mine = nib.load(prepared / "stacks/sub-02_axial_T1w.nii").get_fdata()
    # clipping before or after interpolation differs where a voxel is above the percentile
    assert np.abs(mine - stack.image[0]).mean() < 2e-3
    assert np.abs(mine - stack.image[0]).max() < 0.05


@pytest.mark.parametrize(("axis", "codes"), [("coronal", "RSA"), ("sagittal", "ASR")])
def test_other_axes_and_masks_of_derivatives(tmp_path: Path, axis: str, codes: str) -> None:
    source = dataset(tmp_path / "bids", 3)
    for path in source.glob("sub-*/**/*_T1w.nii.gz"):
        inside = (nib.load(path).get_fdata() > 0).astype(np.uint8)
        mask = source / "derivatives" / "strip" / path.relative_to(source)
        mask.parent.mkdir(parents=True)
        nib.save(
            nib.Nifti1Image(inside, nib.load(path).affine),
            mask.with_name(mask.name.replace("_T1w", "_desc-brain_mask")),
        )
        spoil(path, lambda v: v + 1)
    options = PrepareOptions(axis=axis, size=(32, 28), spacing=7.0, count=3)
    folder = prepare_slices(source, tmp_path / "run", options)
    assert set(table(folder)["mask_source"]) == {"derivative"}
    stack = nib.load(folder / f"stacks/sub-01_{axis}_T1w.nii")
    assert stack.shape == (28, 32, 3)
    assert nib.aff2axcodes(stack.affine) == tuple(codes)
    assert np.allclose(stack.get_qform(), stack.get_sform(), atol=1e-4)


def test_monai_reads_the_datalist_and_our_loader_its_items(prepared: Path) -> None:
    lists = {
        split: load_decathlon_datalist(prepared / "datalist.json", True, split)
        for split in ("training", "validation", "test")
    }
    assert sum(map(len, lists.values())) == (table(prepared)["brain_fraction"] >= 0.05).sum()
    item = lists["training"][5]
    loaded = LoadSliced()(item)
    assert loaded["image"].shape == loaded["mask"].shape == (1, 28, 32)
    assert float(loaded["image"].max()) <= 1
    assert loaded["mask"].float().mean() >= 0.05
    assert loaded["participant_id"] == item["participant_id"]
    splits = table(prepared, "participants").set_index("participant_id")["split"]
    for split, items in lists.items():
        assert {splits[i["participant_id"]] for i in items} == {split}


def test_a_second_time_nothing_is_done_and_a_change_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = dataset(tmp_path / "bids", 4)
    folder = prepare_slices(source, tmp_path / "run", SMALL)
    before = (folder / "provenance.json").read_text()
    capsys.readouterr()
    prepare_slices(
        source, tmp_path / "run", PrepareOptions(size=(32, 28), spacing=7.0, count=4, jobs=2)
    )
    assert capsys.readouterr().out == f"{folder} is up to date\n"
    assert (folder / "provenance.json").read_text() == before
    prepare_slices(source, tmp_path / "run", PrepareOptions(size=(32, 28), spacing=7.0, count=3))
    assert "count was 4, is 3; 5 of 5 volumes to slice (layout bids)" in capsys.readouterr().out
    nib.save(brain_image(99), source / "sub-01/anat/sub-01_T1w.nii.gz")
    prepare_slices(source, tmp_path / "run", PrepareOptions(size=(32, 28), spacing=7.0, count=3))
    assert "sub-01/anat/sub-01_T1w.nii.gz changed" in capsys.readouterr().out


@pytest.mark.slow
def test_two_processes_write_the_same_bytes(source: Path, prepared: Path, tmp_path: Path) -> None:
    options = PrepareOptions(size=(32, 28), spacing=7.0, count=4, jobs=2)
    again = prepare_slices(source, tmp_path, options)
    for file in [
        "slices.tsv",
        "datalist.json",
        *(f"stacks/{p.name}" for p in (prepared / "stacks").iterdir()),
    ]:
        assert (again / file).read_bytes() == (prepared / file).read_bytes()


def test_people_added_later_move_nobody(tmp_path: Path) -> None:
    source = dataset(tmp_path / "bids", 5)
    first = table(prepare_slices(source, tmp_path / "run", SMALL), "participants")
    dataset(source, 9)
    second = table(prepare_slices(source, tmp_path / "run", SMALL), "participants")
    before, after = (t.set_index("participant_id")["split"] for t in (first, second))
    assert len(after) == 9
    assert (after[before.index] == before).all()


def splits_of(folder: Path) -> dict[str, str]:
    return dict(table(folder, "participants")[["participant_id", "split"]].to_numpy())


LEFT_OUT = ("sub-02", "sub-05", "sub-08")


@pytest.mark.parametrize("way", ["excluded", "gone", "torn"])
def test_a_participant_left_out_once_comes_back_to_its_split(tmp_path: Path, way: str) -> None:
    source = dataset(tmp_path / "bids", 10)
    before = splits_of(prepare_slices(source, tmp_path / "run", SMALL))
    for name in LEFT_OUT:
        if way == "gone":
            shutil.rmtree(source / name)
        elif way == "torn":
            (source / name / "anat" / f"{name}_T1w.nii.gz").write_bytes(b"torn")
    options = replace(SMALL, exclude=LEFT_OUT if way == "excluded" else ())
    dataset(tmp_path / "more", 16)
    for new in sorted((tmp_path / "more").glob("sub-1*")):
        shutil.copytree(new, source / new.name)
    less = splits_of(prepare_slices(source, tmp_path / "run", options))
    assert not set(LEFT_OUT) & less.keys()
    dataset(source, 16)
    after = splits_of(prepare_slices(source, tmp_path / "run", SMALL))
    assert before.items() <= after.items()
    assert less.items() <= after.items()


def test_splits_outlast_the_slices_and_another_seed(tmp_path: Path) -> None:
    source = dataset(tmp_path / "bids", 5)
    prepare_slices(source, tmp_path / "run", SMALL)
    dataset(source, 9)
    before = splits_of(prepare_slices(source, tmp_path / "run", SMALL))
    prepare_slices(source, tmp_path / "run", replace(SMALL, seed=1))
    shutil.rmtree(tmp_path / "run" / "2-slices")
    assert splits_of(prepare_slices(source, tmp_path / "run", SMALL)) == before
    (tmp_path / "run" / "splits.tsv").unlink()  # those of the present slices are known all the same
    prepare_slices(source, tmp_path / "run", replace(SMALL, count=2))
    assert splits_of(tmp_path / "run" / "2-slices") == before


def test_a_kill_between_the_renames_moves_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = dataset(tmp_path / "bids", 5)
    run = RunFolder(tmp_path / "run")
    before = splits_of(prepare_slices(source, run.path, SMALL))
    dataset(source, 9)
    move = Path.replace

    def killed(path: Path, target: Path) -> Path:
        if target == run.slices:
            raise KeyboardInterrupt
        return move(path, target)

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        prepare_slices(source, run.path, SMALL)
    monkeypatch.undo()
    assert not run.slices.exists()
    run.need(run.slices, "prepare SOURCE")  # a later command finds what was finished
    after = splits_of(run.slices)
    assert len(after) == 9
    assert before.items() < after.items()
    assert sorted(path.name for path in run.path.iterdir()) == [
        ".2-slices.lock", "2-slices", "splits.tsv",
    ]  # fmt: skip


DAMAGED_SPLITS = {
    "no participant": ("\ttest\t0", "splits.tsv is damaged: restore it from a copy"),
    "no split": ("sub-00\tdev\t0", "splits.tsv is damaged: restore it from a copy"),
    "two splits": ("sub-00\ttest\t0\nsub-00\ttraining\t0", r"in two splits: sub-00"),
}


@pytest.mark.parametrize("case", DAMAGED_SPLITS)
def test_damaged_stored_splits_are_refused(source: Path, tmp_path: Path, case: str) -> None:
    rows, words = DAMAGED_SPLITS[case]
    (tmp_path / "splits.tsv").write_text(f"participant_id\tsplit\tseed\n{rows}\n")
    with pytest.raises(VQBrainError, match=words):
        prepare_slices(source, tmp_path, SMALL)
    (tmp_path / "splits.tsv").write_text("participant_id\tsplit\nsub-00\ttest\n")
    with pytest.raises(VQBrainError, match="is damaged: restore it from a copy"):
        prepare_slices(source, tmp_path, SMALL)


def test_nobody_is_in_two_splits(tmp_path: Path) -> None:
    """The guard works on the datalist itself, whatever dealt the splits."""
    scan = Scan(participant_id="sub-7", path=tmp_path, source="x")
    place = {"index": 0, "axis": "axial", "brain_fraction": 0.5, "stack": "stacks/a_axial_T1w.nii"}
    rows = slice_rows([(scan, (place,))], {"sub-7": "training"})
    assert make_datalist(rows, "")["training"][0]["label"] == "stacks/a_axial_desc-brain_mask.nii"
    leaking = [*rows, {**rows[0], "split": "test"}]
    with pytest.raises(VQBrainError, match=r"in two splits: sub-7 \(test, training\)"):
        make_datalist(leaking, "")


def test_prepared_people_are_in_one_split_each(prepared: Path) -> None:
    splits = table(prepared).groupby("participant_id")["split"].nunique()
    assert (splits == 1).all()
    assert set(table(prepared, "participants")["split"]) == {"training", "validation", "test"}


def spoil(path: Path, change: Callable[[np.ndarray], np.ndarray], dtype: type = np.float32) -> None:
    image = nib.load(path)
    nib.save(nib.Nifti1Image(change(image.get_fdata()).astype(dtype), image.affine), path)


def put_nan(values: np.ndarray) -> np.ndarray:
    values[3, 3, 3] = np.nan
    return values


def only_corners_zero(values: np.ndarray) -> np.ndarray:
    full = np.ones_like(values)
    full[np.ix_([0, -1], [0, -1], [0, -1])] = 0
    return full


BAD: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "nan": (put_nan, "1 voxels are NaN or infinite"),
    "4d": (lambda v: np.stack([v, v], axis=-1), "holds 2 volumes"),
    "one slice": (lambda v: v[..., :1], "one slice of shape"),
    "with skull": (lambda v: v + 1, "not skull-stripped (the background is not 0)"),
    "full frame": (only_corners_zero, "only 0% of the voxels are 0"),
    "whole head": (
        lambda v: np.pad(np.ones((22, 24, 20)), 4),
        "3.6 litres are not 0, more than a br",
    ),
    "black": (lambda v: v * 0, "every voxel is 0"),
    "constant": (lambda v: v * 0 + 7, "every voxel is 7"),
    "infinite": (lambda v: np.where(v > v.max() / 2, np.inf, v), "voxels are NaN or infinite"),
    "specks": (lambda v: v * (v == v.max()), "no brain found: only "),
    "one value": (lambda v: -v * 0 - (v > 0), "100% of its voxels are equal to their neighbours"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_volume_is_one_line_and_no_more(tmp_path: Path, case: str) -> None:
    change, words = BAD[case]
    source = dataset(tmp_path / "bids", 4)
    spoil(source / "sub-02/anat/sub-02_T1w.nii.gz", change)
    folder = prepare_slices(source, tmp_path / "run", replace(SMALL, brain="zero"))
    problems = table(folder, "problems")
    assert list(problems["path"]) == ["sub-02/anat/sub-02_T1w.nii.gz"]
    assert words in problems["problem"][0]
    assert problems["advice"][0]
    assert "sub-02" not in set(table(folder)["participant_id"])
    assert "sub-02" not in set(table(folder, "participants")["participant_id"])


def test_a_torn_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = dataset(tmp_path / "bids", 4)
    path = source / "sub-01/anat/sub-01_T1w.nii.gz"
    path.write_bytes(path.read_bytes()[:2000])
    folder = prepare_slices(source, tmp_path / "run", SMALL)
    assert "is damaged" in table(folder, "problems")["problem"][0]
    assert (
        "1 problem(s), first: sub-01/anat/sub-01_T1w.nii.gz: is damaged" in capsys.readouterr().err
    )
    stop = PrepareOptions(size=(32, 28), spacing=7.0, count=4, on_error="stop")
    with pytest.raises(VQBrainError, match=r"sub-01_T1w.nii.gz: is damaged .*get the file again"):
        prepare_slices(source, tmp_path / "run2", stop)
    assert not (tmp_path / "run2" / "2-slices").exists()


NO_IMAGE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "cannot be opened (Empty file"),
    "text": (b"this is no image" * 40, "is not a gzip file)"),
    "header alone": (b"", "is damaged (Expected"),
}


@pytest.mark.parametrize("case", NO_IMAGE)
def test_a_file_that_is_no_image_is_one_line(tmp_path: Path, case: str) -> None:
    content, words = NO_IMAGE[case]
    source = dataset(tmp_path / "bids", 4)
    path = source / "sub-01/anat/sub-01_T1w.nii.gz"
    if case == "header alone":
        path, old = path.with_suffix(""), path
        nib.save(brain_image(), path)
        content = path.read_bytes()[:352]
        old.unlink()
    path.write_bytes(content)
    folder = prepare_slices(source, tmp_path / "run", SMALL)
    assert len(table(folder, "problems")) == 1
    assert words in table(folder, "problems")["problem"][0]


def test_a_locked_file_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read everything, so permissions are played."""
    source = dataset(tmp_path / "bids", 4)
    load, access = nib.load, os.access

    def refuse(path: Any, *args: Any) -> Any:
        if "sub-01" in str(path):
            raise PermissionError(13, "Permission denied")
        return load(path, *args)

    monkeypatch.setattr(nib, "load", refuse)
    monkeypatch.setattr(os, "access", lambda p, mode: "sub-01" not in str(p) and access(p, mode))
    folder = prepare_slices(source, tmp_path / "run", SMALL)
    assert "cannot be opened ([Errno 13]" in table(folder, "problems")["problem"][0]


def test_a_brain_of_separate_planes_ends_no_run(tmp_path: Path) -> None:
    source = dataset(tmp_path / "bids", 3)
    striped = np.zeros((24, 24, 256), dtype=np.uint8)
    striped[4:20, 4:20, 1:-1:2] = np.random.default_rng(0).integers(50, 200, (16, 16, 127))
    affine = np.diag([8.0, 8.0, 1.0, 1.0])
    nib.save(nib.Nifti1Image(striped, affine), source / "sub-01/anat/sub-01_T1w.nii.gz")
    folder = prepare_slices(source, tmp_path / "run", SMALL)
    assert len(table(folder)) > 2 * 4


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_header_that_lies_about_its_size_is_one_line(tmp_path: Path, ending: str) -> None:
    source = dataset(tmp_path / "bids", 3)
    path = source / "sub-01/anat/sub-01_T1w.nii.gz"
    image = nib.Nifti1Image(np.zeros((2, 2, 2), dtype=np.float64), np.eye(4))
    header = bytearray(image.to_bytes())
    header[42:48] = np.array([32767] * 3, dtype="<i2").tobytes()  # dim[1:4]
    path.unlink()
    content = gzip.compress(bytes(header)) if ending == ".nii.gz" else bytes(header)
    path.with_name(f"sub-01_T1w{ending}").write_bytes(content)
    folder = prepare_slices(source, tmp_path / "run", SMALL)
    (row,) = table(folder, "problems").to_dict("records")
    assert row["problem"].startswith("is damaged (")
    assert len(table(folder)) > 4


def test_leaving_out_all_of_training_is_said(tmp_path: Path) -> None:
    source = dataset(tmp_path / "bids", 4)
    folder = prepare_slices(source, tmp_path / "run", SMALL)
    people = table(folder, "participants")
    training = list(people["participant_id"][people["split"] == "training"])
    with pytest.raises(VQBrainError, match="no participant is left in the training split"):
        prepare_slices(source, tmp_path / "run", replace(SMALL, exclude=training))


def test_an_affine_that_places_nothing_is_one_line(tmp_path: Path) -> None:
    source = dataset(tmp_path / "bids", 4)
    path = source / "sub-01/anat/sub-01_T1w.nii.gz"
    image = nib.load(path)
    flat = nib.Nifti1Image(np.asarray(image.dataobj), None)
    flat.header["sform_code"], flat.header["srow_x"] = 1, [1, 0, 0, 0]
    nib.save(flat, path)
    folder = prepare_slices(source, tmp_path / "run", SMALL)
    assert table(folder, "problems")["problem"][0] == "the affine is singular or not finite"


def test_every_odd_file_is_used_or_said(shared_data: Path, tmp_path: Path) -> None:
    """Real files that a loader must survive, beside three brains with strange names."""
    source = tmp_path / "odd inputs"
    shutil.copytree(shared_data / "odd-inputs", source)
    for number, name in enumerate(("a b", "ä", "c.d")):
        nib.save(brain_image(number), source / f"{name}.nii.gz")
    folder = prepare_slices(source, tmp_path / "run", replace(SMALL, brain="zero"))
    used, said = set(table(folder)["source"]), set(table(folder, "problems")["path"])
    assert used == {"a b.nii.gz", "ä.nii.gz", "c.d.nii.gz", "reoriented_anat_moved.nii"}
    images = {path.name for path in source.iterdir()} - {"COPYING"}
    assert said == images - used | {"participants.tsv"}


@pytest.mark.parametrize("place", ["run", "run/below"])
def test_a_run_that_is_a_file_is_refused(source: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "run").write_text("x")
    with pytest.raises(UsageError, match="run is a file: name a folder for the run$"):
        prepare_slices(source, tmp_path / place, SMALL)


def test_nothing_usable_is_an_error(tmp_path: Path) -> None:
    source = dataset(tmp_path / "bids", 1)
    for path in source.glob("sub-*/**/*.nii.gz"):
        spoil(path, lambda v: v + 1)
    none = replace(SMALL, align="none", brain="zero")
    with pytest.raises(
        VQBrainError, match=r"no volume is usable, the first: sub-00/.* not skull-stripped.*all of"
    ):
        prepare_slices(source, tmp_path / "run", none)
    assert len(table(tmp_path / "run" / "2-slices", "problems")) == 2  # a volume each visit
    good = dataset(tmp_path / "other", 1)
    folder = prepare_slices(good, tmp_path / "run", none)
    assert len(table(folder)) == 2 * 4
    before = table(folder, "problems")
    with pytest.raises(
        VQBrainError, match=r"no volume is usable, the first: sub-00/.* use --brain auto$"
    ):
        prepare_slices(source, tmp_path / "run", none)
    assert table(folder, "problems").equals(before)


def test_positions_beside_the_brain_are_an_error(source: Path, tmp_path: Path) -> None:
    far = PrepareOptions(size=(32, 28), spacing=7.0, positions="900:910:5")
    with pytest.raises(VQBrainError, match="no slice of a training participant is 5% brain"):
        prepare_slices(source, tmp_path / "run", far)


def write(path: Path, values: np.ndarray, slope: float = 1, inter: float = 0) -> Path:
    image = nib.Nifti1Image(values, np.diag([MM, MM, MM, 1]))
    image.header.set_slope_inter(slope, inter)
    nib.save(image, path)
    return path


def test_a_mask_beside_the_image_is_used_and_the_rest_becomes_black(tmp_path: Path) -> None:
    inside = np.asarray(brain_image().dataobj) > 0
    head = np.random.default_rng(0).integers(50, 200, SHAPE, dtype=np.int16)
    volume = read_volume(write(tmp_path / "head.nii.gz", head))
    mask = write(tmp_path / "mask.nii.gz", inside.astype(np.uint8))
    stripped, brain, source = find_brain(volume, mask)
    assert source == "derivative"
    assert np.array_equal(brain, inside)
    assert stripped.array.dtype == np.int16
    assert np.array_equal(stripped.array, head * inside)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.zeros(SHAPE, dtype=np.uint8), "its mask mask.nii.gz is empty"),
        (np.ones((5, 5, 5), dtype=np.uint8), r"its mask mask.nii.gz has another shape \(5, 5, 5\)"),
        (np.full(SHAPE, np.nan, dtype=np.float32), "its mask mask.nii.gz 18720 voxels are NaN"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(
    tmp_path: Path, values: np.ndarray, words: str
) -> None:
    volume = read_volume(write(tmp_path / "a.nii.gz", np.ones(SHAPE, dtype=np.uint8)))
    with pytest.raises(VQBrainError, match=words):
        find_brain(volume, write(tmp_path / "mask.nii.gz", values))


@pytest.mark.parametrize(("outside", "inside"), [(0, 1), (0, 255), (0.49, 1), (1e-26, 0.3)])
def test_a_mask_is_cut_at_half_of_its_maximum(
    tmp_path: Path, outside: float, inside: float
) -> None:
    """Probabilities, interpolated edges and 0/255 give the same brain."""
    brain = np.asarray(brain_image().dataobj) > 0
    values = np.where(brain, inside, outside).astype(np.float32)
    volume = read_volume(write(tmp_path / "a.nii.gz", np.ones(SHAPE, dtype=np.uint8)))
    assert np.array_equal(find_brain(volume, write(tmp_path / "mask.nii.gz", values))[1], brain)


def test_a_mask_of_labels_is_refused(tmp_path: Path) -> None:
    brain = np.asarray(brain_image().dataobj) > 0
    labels = np.where(brain, 1 + np.arange(SHAPE[2]) // 10, 0).astype(np.uint8)
    volume = read_volume(write(tmp_path / "a.nii.gz", np.ones(SHAPE, dtype=np.uint8)))
    with pytest.raises(VQBrainError, match=r"has the labels 1 to 2, .*: create a mask of 0 and 1"):
        find_brain(volume, write(tmp_path / "mask.nii.gz", labels))


@pytest.mark.parametrize("background", [0, 9])
@pytest.mark.parametrize("labels", [1, 3, 40])
def test_a_label_map_of_any_name_is_no_image(tmp_path: Path, labels: int, background: int) -> None:
    """In the middle of a brain of 26 x 30 x 24 voxels, few neighbours have different labels."""
    inside = np.asarray(brain_image().dataobj) > 0
    values = np.where(inside, 10 + np.arange(SHAPE[2]) * labels // SHAPE[2], background)
    volume = read_volume(write(tmp_path / "a.nii.gz", values.astype(np.uint8)))
    with pytest.raises(VQBrainError, match="of its voxels are equal to their neighbours, as in a"):
        find_brain(volume, None)


@pytest.mark.parametrize(("side", "words"), [(None, "6421 ml"), (6, "74 ml")])
def test_a_mask_has_the_volume_of_a_brain(tmp_path: Path, side: int | None, words: str) -> None:
    values = np.zeros(SHAPE, dtype=np.uint8)
    values[:side, :side, :side] = 1
    volume = read_volume(write(tmp_path / "a.nii.gz", np.ones(values.shape, dtype=np.uint8)))
    with pytest.raises(VQBrainError, match=f"has {words}, but a brain has 200 to 2500 ml"):
        find_brain(volume, write(tmp_path / "mask.nii.gz", values))


@pytest.mark.parametrize("dust", [1e-26, -1e-26, 1e-7, -0.0])
def test_traces_of_an_interpolation_are_a_zero_background(tmp_path: Path, dust: float) -> None:
    values = np.asarray(brain_image().dataobj).astype(np.float32)
    inside = values > 0
    volume = read_volume(write(tmp_path / "a.nii.gz", np.where(inside, values, np.float32(dust))))
    _, brain, source = find_brain(volume, None)
    assert source == "zero-background"
    assert np.array_equal(brain, inside)
    assert np.array_equal(volume.array, values)


def test_an_intercept_is_applied_and_hides_no_zero_background(tmp_path: Path) -> None:
    stored = np.asarray(brain_image().dataobj).astype(np.int16) * 3 - 1024
    volume = read_volume(write(tmp_path / "a.nii.gz", stored, slope=0.1, inter=102.4))
    theirs = nib.load(tmp_path / "a.nii.gz").get_fdata()
    assert np.allclose(volume.array, theirs, atol=1e-4)
    assert find_brain(volume, None)[2] == "zero-background"


def test_a_single_volume_in_4d_is_taken(tmp_path: Path) -> None:
    values = np.asarray(brain_image().dataobj)
    volume = read_volume(write(tmp_path / "a.nii.gz", values[..., None]))
    assert volume.array.shape == SHAPE


def test_z_scores_keep_their_dark_half(tmp_path: Path) -> None:
    """Images normalised about their mean hold negative values in the brain, 0 outside."""
    values = np.asarray(brain_image().dataobj).astype(np.float32)
    inside = values > 0
    scores = np.where(inside, (values - values[inside].mean()) / values[inside].std(), 0)
    volume = read_volume(write(tmp_path / "a.nii.gz", scores.astype(np.float32)))
    stack = brain_slices(volume.array, volume.affine, inside, SMALL.extract())
    plain = brain_slices(values, volume.affine, inside, SMALL.extract())
    whole = SMALL.extract().stack(inside[None].astype(np.float32), volume.affine, inside)
    inner = (whole.image[0] == 1) & (stack.image[0] > 0) & (plain.image[0] < 1)
    line = np.polyfit(plain.image[0][inner], stack.image[0][inner], 1)
    assert np.allclose(np.polyval(line, plain.image[0][inner]), stack.image[0][inner], atol=1e-3)
    assert (stack.image[0][whole.image[0] == 0] == 0).all()


def test_a_header_without_orientation_is_told_and_taken(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.asarray(brain_image().dataobj), None)
    image.header.set_zooms((MM, MM, MM))
    nib.save(image, tmp_path / "a.nii.gz")
    scan = Scan(participant_id="p", path=tmp_path / "a.nii.gz", source="a.nii.gz")
    notes = NormalisationCache(tmp_path, "p", "")
    cut = slice_scan(scan, SMALL.extract(), Normalisation(), tmp_path / "out", notes)
    assert len(cut.slices) == 4
    assert cut.problems[0].problem == "the header does not say which side is left"


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "align typo": (
        {"align": "nnoe"},
        "--align must be auto or none or rigid or affine, got 'nnoe'",
    ),
    "on_error": ({"on_error": "go"}, "--on-error must be skip or stop, got 'go'"),
    "axis": ({"axis": "up"}, "axis must be one of axial, coronal, sagittal, got 'up'"),
    "size": ({"size": (4, 128)}, "--size must be 8 pixels or more"),
    "spacing": ({"spacing": -1.0}, "--spacing above 0 mm"),
    "count": ({"count": 0}, "--count 1 or more, got 128 x 128, 1.8, 0"),
    "jobs": ({"jobs": 0}, "--jobs must be at least 1, got 0"),
    "both": ({"count": 3, "positions": "1:2:1"}, "--positions and --count exclude each other"),
    "positions": ({"positions": "1:2"}, "--positions must be FROM:TO:STEP in mm, such as"),
    "backwards": ({"positions": "5:1:1"}, "--positions must be FROM:TO:STEP"),
    "no step": ({"positions": "1:5:0"}, "--positions must be FROM:TO:STEP"),
    "nan": ({"positions": "nan:5:1"}, "--positions must be FROM:TO:STEP"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_options_that_cannot_be_are_refused(case: str) -> None:
    options, words = REFUSED[case]
    with pytest.raises(UsageError, match=words):
        PrepareOptions(**options)


def test_positions_include_both_ends() -> None:
    assert np.allclose(parse_positions("-20:34:3.6"), -20 + 3.6 * np.arange(16))


def test_the_defaults_are_the_protocols() -> None:
    extract = PrepareOptions().extract()
    assert isinstance(extract, ExtractSlices)
    assert (extract.axis, extract.size, extract.spacing) == ("axial", (128, 128), 1.8)


def test_real_volumes_by_the_protocol(shared_data: Path, tmp_path: Path) -> None:
    """One oblique scan of ds002748: 16 slices, the first 36 mm below the top of the brain."""
    path = shared_data / "ds002748/sub-04/anat/sub-04_T1w.nii.gz"
    image = nib.load(path)
    points = nib.affines.apply_affine(image.affine, np.argwhere(np.asarray(image.dataobj) != 0))
    scan = Scan(participant_id="sub-04", path=path, source=path.name)
    notes = NormalisationCache(tmp_path, "sub-04", "")
    rows = slice_scan(scan, PrepareOptions().extract(), Normalisation(), tmp_path, notes).slices
    assert len(rows) == 16
    assert rows[-1]["position_mm"] == pytest.approx(points[:, 2].max() - 36, abs=0.01)
    assert np.allclose(np.diff([row["position_mm"] for row in rows]), 3.6)
    stack = nib.load(tmp_path / rows[0]["stack"])
    middle = nib.affines.apply_affine(stack.affine, (np.array(stack.shape) - 1) / 2)
    assert np.allclose(middle[:2], ((points.min(0) + points.max(0)) / 2)[:2], atol=0.01)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("example4d.nii.gz", "holds 2 volumes"),
        ("resampled_anat_moved.nii", "153 voxels are NaN"),
        ("row_major.dconn.nii", r"shape \(10, 10\) is not a volume"),
        ("nifti1.hdr", "is damaged"),
        ("0.dcm", "cannot be opened"),
    ],
)
def test_odd_files_are_refused_in_one_line(shared_data: Path, name: str, words: str) -> None:
    with pytest.raises(VQBrainError, match=words) as caught:
        read_volume(shared_data / "odd-inputs" / name)
    assert "\n" not in str(caught.value)


@pytest.fixture
def cut_now(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the scans that are really cut, in order; the sixth cut fails if `stop` is there."""
    names: list[str] = []

    def counted(scan: Scan, *others: Any) -> SlicedScan:
        if len(names) == 5 and (others[2].parent / "stop").exists():
            raise KeyboardInterrupt
        names.append(scan.name)
        return slice_scan(scan, *others)

    monkeypatch.setattr("monai_vqbrain.stages.slicing.stack_cache.slice_scan", counted)
    return names


def test_what_is_finished_is_not_cut_again(tmp_path: Path, cut_now: list[str]) -> None:
    source = dataset(tmp_path / "bids", people=7)
    folder = prepare_slices(source, tmp_path / "run", SMALL)
    before = {path.name: path.read_bytes() for path in (folder / "stacks").iterdir()}
    splits = table(folder, "participants").set_index("participant_id")["split"]
    assert len(cut_now) == 8
    dataset(source, people=9)  # sub-06 keeps its session 2, sub-08 has one
    prepare_slices(source, tmp_path / "run", SMALL)
    assert cut_now[8:] == ["sub-07", "sub-08", "sub-08_ses-2"]
    after = {path.name: path.read_bytes() for path in (folder / "stacks").iterdir()}
    assert before.items() < after.items()
    now = table(folder, "participants").set_index("participant_id")["split"]
    assert now[splits.index].equals(splits)


def test_another_option_or_image_cuts_what_rests_on_it(tmp_path: Path, cut_now: list[str]) -> None:
    source = dataset(tmp_path / "bids", people=3)
    prepare_slices(source, tmp_path / "run", SMALL)
    nib.save(brain_image(99), source / "sub-01/anat/sub-01_T1w.nii.gz")
    prepare_slices(source, tmp_path / "run", SMALL)
    assert cut_now[4:] == ["sub-01"]
    prepare_slices(source, tmp_path / "run", replace(SMALL, seed=5))  # decides the splits alone
    assert len(cut_now) == 5
    prepare_slices(source, tmp_path / "run", replace(SMALL, count=3))
    assert len(cut_now) == 9


def test_an_interrupted_run_goes_on(tmp_path: Path, cut_now: list[str]) -> None:
    source = dataset(tmp_path / "bids", people=6)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "stop").touch()
    with pytest.raises(KeyboardInterrupt):
        prepare_slices(source, tmp_path / "run", SMALL)
    (tmp_path / "run" / "stop").unlink()
    shutil.rmtree(source / "sub-00")
    folder = prepare_slices(source, tmp_path / "run", SMALL)
    assert len(cut_now) == 7
    names = {path.name.split("_")[0] for path in (folder / "stacks").iterdir()}
    assert "sub-00.json" not in names
    assert len(table(folder)) == 6 * 4
