"""Files below a folder, with links and locked doors among them."""

from __future__ import annotations

from pathlib import Path

import pytest

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
        ("data/gone.nii", "a symbolic link that leads nowhere"),
        ("data/self.nii", "a symbolic link that leads nowhere"),
        ("data/up", "a symbolic link that leads back to a folder above it"),
    ]


def test_a_folder_that_cannot_be_read_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a.nii", "locked/b.nii")
    inside = Path.iterdir

    def refuse(folder: Path) -> object:  # root may read everything, so permissions show nothing
        if folder.name == "locked":
            raise PermissionError(13, "Permission denied")
        return inside(folder)

    monkeypatch.setattr(Path, "iterdir", refuse)
    files, (problem,) = walk(tmp_path)
    assert [path.name for path in files] == ["a.nii"]
    assert (problem.path, problem.problem) == ("locked", "cannot be read (Permission denied)")
