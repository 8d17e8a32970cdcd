"""Files below a folder, with links and locked doors among them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monai_vqbrain.cohorts import read_cohort
from monai_vqbrain.cohorts.walk import walk


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def names(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in walk(root)[0]]


def test_all_files_in_order_and_none_that_hides(tmp_path: Path) -> None:
    touch(tmp_path, "b/c/x y.nii", "a.nii", "b/ä.nii", ".git/config", "b/._x.nii")
    assert names(tmp_path) == ["a.nii", "b/c/x y.nii", "b/ä.nii"]
    assert walk(tmp_path)[1] == []


def test_links_are_followed_but_not_in_a_circle(tmp_path: Path) -> None:
    touch(tmp_path, "store/a.nii")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "people").symlink_to(tmp_path / "store")
    (tmp_path / "data" / "up").symlink_to(tmp_path)
    (tmp_path / "data" / "self.nii").symlink_to("self.nii")
    (tmp_path / "data" / "gone.nii").symlink_to("nowhere.nii")
    assert names(tmp_path) == ["data/people/a.nii", "store/a.nii"]
    assert [(problem.path, problem.problem) for problem in walk(tmp_path)[1]] == [
        ("data/gone.nii", "a broken symbolic link"),
        ("data/self.nii", "a broken symbolic link"),
        ("data/up", "a symbolic link to a folder above it"),
    ]


def test_pipes_are_skipped_and_listed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a_T1w.nii")
    (tmp_path / "link.nii").symlink_to("a_T1w.nii")
    (tmp_path / "b.nii").touch()
    files, problems = walk(tmp_path)
    assert files == [tmp_path / "b.nii"]
    assert [(one.path, one.problem) for one in problems] == [
        (name, "a pipe, socket or device, skipped") for name in ("a_T1w.nii", "link.nii")
    ]


def test_the_splits_of_a_run_are_no_table_of_the_source(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii", "splits.tsv", "run/splits.tsv", "run/2-slices/slices.tsv")
    assert names(tmp_path) == ["a.nii", "splits.tsv"]


def lock(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Root may read everything, so permissions are played."""
    inside = os.scandir

    def refuse(folder: Any = ".") -> Any:
        if Path(folder).name == name:
            raise PermissionError(13, "Permission denied")
        return inside(folder)

    monkeypatch.setattr(os, "scandir", refuse)


def bids(root: Path) -> None:
    touch(root, "sub-1/anat/sub-1_T1w.nii.gz", "sub-2/anat/sub-2_T1w.nii.gz")


def loni(root: Path) -> None:
    for number in (1, 2):
        touch(
            root, f"ADNI/00{number}_S_0001/MPRAGE/2010-01-01_00_00_00.0/I{number}/a_I{number}.nii"
        )


def ad_nc(root: Path) -> None:
    touch(root, "train/AD/1_1.jpeg", "train/NC/2_1.jpeg")


def oasis(root: Path) -> None:
    touch(root, "keras_png_slices_train/case_001_slice_0.nii.png")
    touch(root, "keras_png_slices_test/case_002_slice_0.nii.png")


@pytest.mark.parametrize(
    ("make", "locked", "path"),
    [
        (bids, "sub-2", "sub-2"),
        (loni, "I2", "ADNI/002_S_0001/MPRAGE/2010-01-01_00_00_00.0/I2"),
        (ad_nc, "NC", "train/NC"),
        (oasis, "keras_png_slices_test", "keras_png_slices_test"),
    ],
)
def test_every_layout_says_what_is_locked_and_goes_on(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path], None],
    locked: str,
    path: str,
) -> None:
    make(tmp_path)
    assert len(read_cohort(tmp_path).scans) == 2
    assert "Permission denied" not in str(read_cohort(tmp_path).problems)
    lock(monkeypatch, locked)
    cohort = read_cohort(tmp_path, make.__name__)
    said = {problem.path: problem.problem for problem in cohort.problems}
    assert said[path] == "cannot be read (Permission denied)"
    if make is not bids:  # pathlib's glob, which skips what is locked, sees through the play
        assert len(cohort.scans) == 1


def test_links_that_were_never_fetched_are_said_of_t1_alone(tmp_path: Path) -> None:
    bids(tmp_path)
    (tmp_path / "sub-1" / "func").mkdir()
    (tmp_path / "sub-1" / "func" / "sub-1_bold.nii.gz").symlink_to("annex/objects/x")
    (tmp_path / "sub-1" / "anat" / "sub-1_acq-2_T1w.nii.gz").symlink_to("annex/objects/y")
    said = [problem.path for problem in read_cohort(tmp_path, "bids").problems]
    assert "sub-1/anat/sub-1_acq-2_T1w.nii.gz" in said
    assert not any("bold" in path for path in said)


def test_a_folder_that_cannot_be_read_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a.nii", "locked/b.nii")
    lock(monkeypatch, "locked")
    files, (problem,) = walk(tmp_path)
    assert [path.name for path in files] == ["a.nii"]
    assert (problem.path, problem.problem) == ("locked", "cannot be read (Permission denied)")
