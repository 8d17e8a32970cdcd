"""A source that disappears or changes while `prepare` works on it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from test_prepare import SMALL, brain_image, dataset, table

from monai_vqbrain.cohorts import Scan
from monai_vqbrain.errors import UnavailableImageError, VQBrainError
from monai_vqbrain.runs.freshness import scan_inputs
from monai_vqbrain.stages.prepare import prepare_slices
from monai_vqbrain.stages.slicing.dicom import converted_volume
from monai_vqbrain.stages.slicing.normalisation import Normalisation
from monai_vqbrain.stages.slicing.normalisation_cache import NormalisationCache, NormalisationResult
from monai_vqbrain.stages.slicing.pictures import pictures_to_slices
from monai_vqbrain.stages.slicing.scan_slices import SlicedScan, slice_scan
from monai_vqbrain.stages.slicing.source_state import SourceState, file_stats
from monai_vqbrain.stages.slicing.stack_cache import StackCache

Happens = Callable[[Callable[[str], None]], list[str]]


@pytest.fixture
def before_slicing(monkeypatch: pytest.MonkeyPatch) -> Happens:
    """Sets what happens before a scan of that name is sliced; gives the names of those sliced."""

    def set_event(event: Callable[[str], None]) -> list[str]:
        names: list[str] = []

        def watched(scan: Scan, *others: Any) -> SlicedScan:
            event(scan.name)
            names.append(scan.name)
            return slice_scan(scan, *others)

        monkeypatch.setattr("monai_vqbrain.stages.slicing.stack_cache.slice_scan", watched)
        return names

    return set_event


def test_a_source_that_disappears_ends_the_command_and_the_same_one_goes_on(
    tmp_path: Path, before_slicing: Happens
) -> None:
    source, run = dataset(tmp_path / "bids", 6), tmp_path / "run"
    drive = tmp_path / "drive"

    def unmount(name: str) -> None:
        if name == "sub-03":
            source.rename(drive)

    before_slicing(unmount)
    words = r"4 of 7 volumes were not available .* first: sub-03/anat/sub-03_T1w.nii.gz: .*same com"
    with pytest.raises(VQBrainError, match=words) as caught:
        prepare_slices(source, run, SMALL)
    assert caught.value.exit_code == 1
    assert not (run / "2-slices").exists()
    drive.rename(source)
    later = before_slicing(lambda _: None)
    folder = prepare_slices(source, run, SMALL)
    assert later == ["sub-03", "sub-04", "sub-05", "sub-05_ses-2"]
    alone = prepare_slices(source, tmp_path / "alone", SMALL)
    for path in sorted((alone / "stacks").iterdir()):
        assert (folder / "stacks" / path.name).read_bytes() == path.read_bytes()
    assert (folder / "slices.tsv").read_bytes() == (alone / "slices.tsv").read_bytes()


def test_an_earlier_result_stays_where_the_source_disappears(
    tmp_path: Path, before_slicing: Happens
) -> None:
    source = dataset(tmp_path / "bids", 4)
    folder = prepare_slices(source, tmp_path / "run", SMALL)
    before = (folder / "provenance.json").read_bytes()
    nib.save(brain_image(50), source / "sub-01/anat/sub-01_T1w.nii.gz")
    before_slicing(lambda _: shutil.rmtree(source))
    with pytest.raises(VQBrainError, match="1 of 5 volumes were not available"):
        prepare_slices(source, tmp_path / "run", SMALL)
    assert (folder / "provenance.json").read_bytes() == before


@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_image_replaced_meanwhile_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Replaced before or after its voxels are read, by an older image."""
    source, run = dataset(tmp_path / "bids", 4), tmp_path / "run"
    path = source / "sub-01/anat/sub-01_T1w.nii.gz"
    other = tmp_path / "other.nii.gz"
    nib.save(brain_image(50), other)
    os.utime(other, (1e9, 1e9))

    def replaced(scan: Scan, *others: Any) -> SlicedScan:
        if scan.name == "sub-01" and moment == "before":
            shutil.copy2(other, path)
        sliced = slice_scan(scan, *others)
        if scan.name == "sub-01" and moment == "after":
            other.replace(path)
        return sliced

    with monkeypatch.context() as patch:
        patch.setattr("monai_vqbrain.stages.slicing.stack_cache.slice_scan", replaced)
        patch.setattr("monai_vqbrain.stages.prepare.remove_stale", None)  # not reached
        with pytest.raises(VQBrainError, match="sub-01_T1w.nii.gz: disappeared or changed while"):
            prepare_slices(source, run, SMALL)
    folder = prepare_slices(source, run, SMALL)
    alone = prepare_slices(source, tmp_path / "alone", SMALL)
    name = "stacks/sub-01_axial_T1w.nii"
    assert (folder / name).read_bytes() == (alone / name).read_bytes()


def test_a_touched_image_is_the_same(tmp_path: Path) -> None:
    scan = Scan(participant_id="a", path=tmp_path / "a.nii.gz", source="a.nii.gz")
    scan.path.write_bytes(b"image")
    state = SourceState(file_stats(scan), scan_inputs([scan]))
    scan.path.write_bytes(b"image")
    assert file_stats(scan) != state.stats
    assert state.holds(scan, by_content=False)
    scan.path.unlink()
    assert not state.holds(scan, by_content=False)


def test_what_the_disk_does_not_give_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = dataset(tmp_path / "bids", 4)
    load = nib.load

    def fail(path: Any, *args: Any) -> Any:
        if "sub-02" in str(path):
            raise OSError(5, "Input/output error", str(path))
        return load(path, *args)

    monkeypatch.setattr(nib, "load", fail)
    with pytest.raises(VQBrainError, match=r"cannot be opened \(\[Errno 5\] Input/output error"):
        prepare_slices(source, tmp_path / "run", SMALL)
    monkeypatch.undo()
    folder = prepare_slices(source, tmp_path / "run", SMALL)
    assert "sub-02" in set(table(folder)["participant_id"])


def test_an_image_that_is_gone_before_it_is_hashed_is_an_error(tmp_path: Path) -> None:
    gone = Scan(participant_id="a", path=tmp_path / "a.nii", source="a.nii")
    with pytest.raises(VQBrainError, match=r"a.nii could not be read \(No such file .*same comm"):
        scan_inputs([gone])
    gone.path.symlink_to("nowhere")
    assert scan_inputs([gone]) == {}


def test_estimates_from_a_replaced_image_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.nii.gz"
    nib.save(brain_image(), path)
    scan = Scan(participant_id="a", path=path, source="a.nii.gz")
    state = SourceState(file_stats(scan), scan_inputs([scan]))

    def estimate(scan: Scan, *others: Any) -> SlicedScan:
        others[3].write(NormalisationResult())
        nib.save(brain_image(9), path)
        return slice_scan(scan, *others)

    monkeypatch.setattr("monai_vqbrain.stages.slicing.stack_cache.slice_scan", estimate)
    volumes = tmp_path / "1-volumes"
    stacks = StackCache(SMALL.extract(), Normalisation(), tmp_path, tmp_path / "none", volumes, {})
    assert stacks(scan, "x", "y", state).unavailable
    assert NormalisationCache(volumes, "a", "y").read() is None
    assert not list((tmp_path / "stacks").glob("*.json"))


def test_files_of_a_series_that_are_gone_are_said(tmp_path: Path) -> None:
    files = (tmp_path / "1.dcm",)
    series = Scan(participant_id="a", path=tmp_path, form="dicom", files=files)
    with pytest.raises(UnavailableImageError, match="is not there .*: make it available again"):
        converted_volume(series, tmp_path / "1-volumes")
    Image.fromarray(np.full((40, 40), 200, dtype=np.uint8)).save(tmp_path / "a.png")
    files = (tmp_path / "a.png", tmp_path / "b.png")
    pictures = Scan(participant_id="a", path=tmp_path, form="pictures", files=files)
    with pytest.raises(UnavailableImageError, match="cannot be opened .*No such file"):
        pictures_to_slices(pictures, (32, 32), 1.0)
