"""The plan of `prepare`: complete before anything is made, and the same that `check` prints."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from monai_vqbrain.cohorts import Scan, make_phantom
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.stages.check import check
from monai_vqbrain.stages.prepare import prepare
from monai_vqbrain.stages.slicing.options import PrepareOptions
from monai_vqbrain.stages.slicing.plan import make_plan
from monai_vqbrain.stages.slicing.plan_text import plan_lines
from monai_vqbrain.stages.slicing.scan_slices import SlicedScan, slice_scan
from monai_vqbrain.stages.slicing.stack_cache import ScanState

SMALL: dict[str, Any] = {"size": (32, 32), "spacing": 6.0, "count": 4}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_phantom(tmp_path / "bids", participants=4, resolution_mm=4, second_sessions=0)


def states(source: Path, run: Path, **options: Any) -> list[ScanState]:
    """What would become of each scan in a run."""
    return [planned.state for planned in check(source, run, **SMALL | options).scans]


def to_do(source: Path, run: Path, **options: Any) -> str:
    """The line of the plan that says what is made and what is kept."""
    lines = plan_lines(check(source, run, **SMALL | options))
    return next(line.removeprefix("to do       ") for line in lines if line.startswith("to do"))


def test_a_plan_is_frozen(source: Path) -> None:
    plan = check(source)
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.space = "MNI152"  # type: ignore[misc]


def test_a_plan_says_what_is_kept_and_why_the_rest_is_made(source: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert states(source, run) == [ScanState.NEW] * 4
    assert to_do(source, run) == "slice 4 new; 0 kept (not made yet)"
    prepare(source, run, **SMALL)
    assert states(source, run) == [ScanState.KEPT] * 4
    assert to_do(source, run) == "nothing: the slices are up to date"
    scan = next(source.glob("sub-phantom02/ses-01/anat/*_T1w.nii.gz"))
    image: Any = nib.load(scan)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) * 2, image.affine), scan)
    assert states(source, run) == [ScanState.KEPT, ScanState.CHANGED] + [ScanState.KEPT] * 2
    assert to_do(source, run).startswith(
        "slice 1 changed: its image, its stack, its registration or the options; 3 kept ("
    )
    assert states(source, run, count=3) == [ScanState.CHANGED] * 4


def test_prepare_makes_what_check_has_planned(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sliced: list[tuple[str, str]] = []

    def recorded(scan: Scan, *others: Any) -> SlicedScan:
        sliced.append((scan.name, others[1].align))
        return slice_scan(scan, *others)

    monkeypatch.setattr("monai_vqbrain.stages.slicing.stack_cache.slice_scan", recorded)
    plan = check(source, tmp_path / "run", **SMALL)
    prepare(source, tmp_path / "run", **SMALL)
    assert sliced == [(planned.scan.name, plan.options.align) for planned in plan.scans]
    options = PrepareOptions(**SMALL)
    again = make_plan(source, options, RunFolder(tmp_path / "other"), inspect_all=True)
    assert dataclasses.asdict(plan) == dataclasses.asdict(again)


def test_whole_heads_are_decided_before_the_first_is_sliced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No volume is sliced twice, once unaligned and once aligned."""
    pytest.importorskip("SimpleITK")
    source = make_phantom(
        tmp_path / "heads", participants=3, resolution_mm=4, skull=True, second_sessions=0
    )
    sliced: list[tuple[str, str]] = []

    def recorded(scan: Scan, *others: Any) -> SlicedScan:
        sliced.append((scan.name, others[1].align))
        return slice_scan(scan, *others)

    monkeypatch.setattr("monai_vqbrain.stages.slicing.stack_cache.slice_scan", recorded)
    plan = check(source, **SMALL, brain="template")
    assert (plan.options.align, plan.align_asked) == ("affine", "auto")
    assert plan.align_reason == "3 of 3 inspected volumes are whole heads"
    prepare(source, tmp_path / "run", **SMALL, brain="template")
    assert sliced == [(planned.scan.name, "affine") for planned in plan.scans]


def test_planning_writes_nothing(source: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    check(source, tmp_path / "run", **SMALL)
    assert sorted(tmp_path.rglob("*")) == before
