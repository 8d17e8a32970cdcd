"""Files and folders that are whole or not there at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from monai_vqbrain.files import (
    building,
    finish_publication,
    finish_publications,
    flush,
    partial,
    publish,
    sha256,
    unfinished,
    writing,
)
from monai_vqbrain.provenance import read_provenance, write_provenance


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if not p.name.endswith(".lock"))


def fail(context: AbstractContextManager[Path], why: str) -> None:
    with context as path:
        (path / "bad" if path.is_dir() else path).touch()
        raise RuntimeError(why)


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "scan.nii.gz"
    with writing(path) as temporary:
        temporary.write_text("half")
        assert temporary.name.endswith(".scan.nii.gz")  # formats are chosen by the suffixes
        assert not path.exists()
    assert path.read_text() == "half"
    assert names(path.parent) == ["scan.nii.gz"]


def test_a_failure_leaves_the_earlier_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "table.tsv"
    path.write_text("earlier")
    with pytest.raises(RuntimeError, match="full disk"):
        fail(writing(path), "full disk")
    assert path.read_text() == "earlier"
    assert names(tmp_path) == ["table.tsv"]


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_colleagues_can_read_what_the_umask_lets_them(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        with writing(tmp_path / "a.txt") as temporary:
            temporary.write_text("a")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640


def test_a_folder_appears_when_it_is_whole_and_replaces_the_earlier(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "4-codes"
    for content in ("first", "second"):
        with building(folder) as work:
            assert work == tmp_path / "run" / ".4-codes.partial"
            assert names(work) == []
            (work / content).touch()
        assert names(folder) == [content]
    assert names(folder.parent) == ["4-codes"]


def test_a_failure_leaves_the_earlier_folder_and_no_half_of_it_is_used(tmp_path: Path) -> None:
    folder = tmp_path / "4-codes"
    with building(folder) as work:
        (work / "good").touch()
    with pytest.raises(RuntimeError, match="killed"):
        fail(building(folder), "killed")
    assert names(tmp_path / ".4-codes.partial") == ["bad"]
    assert names(folder) == ["good"]
    with building(folder) as work:
        assert names(work) == []


TEMPORARY = (".123.slices.tsv", "stacks/.45.a.nii")


def test_temporary_files_of_a_killed_process_are_not_published(tmp_path: Path) -> None:
    folder = tmp_path / "2-slices"
    kept = ("slices.tsv", ".hidden", ".1", "stacks/a.nii")
    (unfinished(folder) / "stacks").mkdir(parents=True)
    for name in (*TEMPORARY, *kept):
        (unfinished(folder) / name).touch()
    with building(folder, go_on=True):
        pass
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert found == set(kept)


def test_folders_of_other_names_beside_it_are_left_alone(tmp_path: Path) -> None:
    others = [f"x.{ending}" for ending in ("lock", "old", "partial")]
    for name in others:
        (tmp_path / name).mkdir()
    for _ in range(2):
        with building(tmp_path / "x"):
            pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".x.lock", "x", *others]


def test_what_an_earlier_publication_left_is_cleared(tmp_path: Path) -> None:
    folder = tmp_path / "3-vqvae"
    for path in (folder, tmp_path / ".3-vqvae.old", partial(folder)):
        path.mkdir()
        (path / path.name).touch()
    publish(folder)
    assert names(tmp_path) == ["3-vqvae"]
    assert names(folder) == ["3-vqvae.partial"]


@pytest.mark.parametrize("place", ["a file", "a broken link", "a link"])
def test_what_is_in_the_place_of_a_folder_is_replaced(tmp_path: Path, place: str) -> None:
    folder, elsewhere = tmp_path / "run" / "4-codes", tmp_path / "elsewhere"
    folder.parent.mkdir()
    if place == "a file":
        folder.write_text("x")
    else:
        folder.symlink_to(elsewhere)
    if place == "a link":
        elsewhere.mkdir()
        (elsewhere / "kept").touch()
    with building(folder) as work:
        (work / "new").touch()
    assert names(folder.parent) == ["4-codes"]
    assert names(folder) == ["new"]
    assert place != "a link" or names(elsewhere) == ["kept"]


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str]]]:
    """The name of each file that was flushed, and the names beside it at that time."""
    calls: list[tuple[str, list[str]]] = []

    def record(path: Path) -> None:
        calls.append((path.name, names(path.parent)))
        flush(path)

    monkeypatch.setattr("monai_vqbrain.files.flush", record)
    return calls


def test_a_file_is_on_disk_before_it_has_its_name(
    tmp_path: Path, flushed: list[tuple[str, list[str]]]
) -> None:
    with writing(tmp_path / "a.txt") as temporary:
        temporary.write_text("a")
    assert flushed[0] == (temporary.name, [temporary.name])
    assert flushed[1][0] == tmp_path.name  # then the new name itself


def test_all_files_of_a_folder_are_on_disk_before_it_has_its_name(
    tmp_path: Path, flushed: list[tuple[str, list[str]]]
) -> None:
    with building(tmp_path / "4-codes") as work:
        (work / "stacks").mkdir()
        (work / "stacks" / "a.nii").touch()
    before = [name for name, beside in flushed if "4-codes" not in beside]
    assert set(before) >= {"a.nii", "stacks", ".4-codes.partial"}
    assert flushed[-1][0] == tmp_path.name


class Killed(BaseException):
    """Ends the process for these tests."""


@pytest.mark.parametrize("moment", range(6))
def test_a_kill_while_publishing_loses_neither_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    """Killed before each of the six renames and removals in turn."""
    folder = tmp_path / "2-slices"
    for made in (folder, partial(folder)):
        made.mkdir()
    (folder / "earlier").touch()
    (partial(folder) / "later").touch()
    calls = 0

    def killed_at(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == moment + 1:
                raise Killed
            return function(*args, **options)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed_at(Path.replace))
        patch.setattr(shutil, "rmtree", killed_at(shutil.rmtree))
        with suppress(Killed):
            publish(folder)
    finish_publication(folder)
    unpublished = moment < 2  # the folder was not called finished yet
    assert names(folder) == (["earlier"] if unpublished else ["later"])
    assert names(tmp_path) == (["2-slices", "2-slices.partial"] if unpublished else ["2-slices"])


def test_all_publications_that_were_killed_between_two_renames_are_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while the earlier folder has its hidden name and the new one not yet its own."""
    rename = Path.replace

    def killed(path: Path, target: Path) -> Path:
        if target.name in ("default", "AD.75"):
            raise Killed
        return rename(path, target)

    for name in ("default", "AD.75"):
        with building(tmp_path / name) as work:
            (work / "earlier").touch()
        unfinished(tmp_path / name).mkdir()
        (unfinished(tmp_path / name) / "later").touch()
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", killed)
            with pytest.raises(Killed):
                publish(tmp_path / name, unfinished(tmp_path / name))
        assert not (tmp_path / name).exists()
    (tmp_path / ".another").mkdir()
    finish_publications(tmp_path)
    assert names(tmp_path) == [".another", "AD.75", "default"]
    assert [names(tmp_path / name) for name in ("AD.75", "default")] == [["later"], ["later"]]


def test_what_an_earlier_version_left_between_two_renames_is_found(tmp_path: Path) -> None:
    (tmp_path / ".2-slices.old").mkdir()
    write_provenance(tmp_path / ".2-slices.old", {}, {"seed": 1}, 0.0)
    record = read_provenance(tmp_path / "2-slices")
    assert record is not None
    assert record["options"] == {"seed": 1}
    assert names(tmp_path) == ["2-slices"]


def test_a_publication_under_way_is_left_to_its_process(tmp_path: Path) -> None:
    folder = tmp_path / "2-slices"
    (tmp_path / ".2-slices.new").mkdir()
    with FileLock(tmp_path / ".2-slices.lock", thread_local=False):
        finish_publication(folder)
        assert names(tmp_path) == [".2-slices.new"]
    finish_publication(folder)
    assert names(tmp_path) == ["2-slices"]


def test_sha256_is_hashlibs(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\x00brain" * 100_000)
    assert sha256(tmp_path / "x") == hashlib.sha256(b"\x00brain" * 100_000).hexdigest()


def test_a_file_that_a_library_hides_gets_the_mode_of_the_umask(tmp_path: Path) -> None:
    umask = os.umask(0o027)
    try:
        with writing(tmp_path / "codes.safetensors") as temporary:
            temporary.unlink()
            temporary.touch(mode=0o600)
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "codes.safetensors").stat().st_mode) == 0o640


def test_all_files_of_a_run_have_the_mode_of_the_umask(trained_run: Path) -> None:
    umask = os.umask(0)
    os.umask(umask)
    modes = {
        path.relative_to(trained_run).as_posix(): stat.S_IMODE(path.stat().st_mode)
        for path in trained_run.rglob("*")
        if path.is_file()
    }
    assert "4-codes/codes.safetensors" in modes
    assert {name for name, mode in modes.items() if mode != 0o666 & ~umask} == set()
