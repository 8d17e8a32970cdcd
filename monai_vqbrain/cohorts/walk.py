"""All files below a folder, and the folders that could not be read."""

from __future__ import annotations

import os
from pathlib import Path

from monai_vqbrain.cohorts.cohort import Problem

BROKEN_LINK = "a broken symbolic link"
STAGES = {
    "0-phantom", "1-volumes", "2-slices", "3-vqvae", "4-codes", "5-prior", "6-samples", "7-report",
}  # fmt: skip
SPLITS = "splits.tsv"  # of a run, beside its stages
RESULT = "contains results of vqbrain, which are not a source"


def walk(source: Path) -> tuple[list[Path], list[Problem]]:
    """List all files below a folder, symbolic links followed, hidden names left out.

    Args:
        source: the folder.

    Returns:
        The files in order, and a problem for each folder that is unreadable, contains the stages of
        a run or is another result of this package (these are skipped), for each link that is
        broken or points to a folder above it, and for each pipe, socket or device.
    """
    seen = _Walk(source)
    seen.enter(source, frozenset())
    return seen.files, seen.problems


class _Walk:
    """The files and problems found in a folder and below it."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self.files: list[Path] = []
        self.problems: list[Problem] = []

    def enter(self, folder: Path, above: frozenset[Path]) -> None:
        """Add the entries of a folder; `above` are the folders that contain it."""
        try:
            found = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            self._report(folder, f"cannot be read ({error.strerror})", "change its permissions")
            return
        names = {entry.name for entry in found}
        stages = [entry for entry in found if entry.name.removesuffix(".partial") in STAGES]
        result = folder != self.source and "provenance.json" in names and is_result(folder)
        if stages or result:
            self._report(folder, RESULT, "nothing, or move them elsewhere")
        if result:
            return
        here = above | {folder.resolve()}
        for entry in found:
            of_a_run = entry in stages or (stages and entry.name == SPLITS)
            if entry.name[0] != "." and not of_a_run:
                self._add(folder / entry.name, entry, here)

    def _add(self, path: Path, entry: os.DirEntry[str], here: frozenset[Path]) -> None:
        if entry.is_symlink() and not path.exists():
            self._report(path, BROKEN_LINK, "restore the file, or remove the link")
        elif entry.is_file():  # mostly known without another access to the disk
            self.files.append(path)
        elif not entry.is_dir():  # reading a pipe would wait for ever
            self._report(path, "a pipe, socket or device, skipped", "remove it")
        elif not entry.is_symlink():
            self.enter(path, here)
        elif path.resolve() in here:
            self._report(path, "a symbolic link to a folder above it", "remove it")
        else:
            self.enter(path, here)

    def _report(self, path: Path, problem: str, advice: str) -> None:
        self.problems.append(Problem(path.relative_to(self.source).as_posix(), problem, advice))


def is_result(folder: Path) -> bool:
    """The folder is a finished result of this package, by its provenance."""
    try:
        text = (folder / "provenance.json").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return '"monai-vqbrain"' in text


def entries(folder: Path) -> list[Path]:
    """The entries of a folder, sorted; none if it is no folder or unreadable."""
    try:
        return sorted(folder / entry.name for entry in os.scandir(folder))
    except OSError:
        return []
