"""Every file below a folder, and what could not be entered."""

from __future__ import annotations

import os
from pathlib import Path

from monai_vqbrain.cohorts.cohort import Problem

NOWHERE = "a symbolic link that leads nowhere"
STAGES = {
    "0-phantom", "1-volumes", "2-slices", "3-vqvae", "4-codes", "5-prior", "6-samples", "7-report",
}  # fmt: skip
SPLITS = "splits.tsv"  # of a run, beside its stages
RESULT = "holds results of vqbrain, which are no source"


def walk(source: Path) -> tuple[list[Path], list[Problem]]:
    """List all files below a folder, symbolic links followed, hidden names left out.

    Args:
        source: the folder.

    Returns:
        The files in order, and a line for each folder that cannot be read, each that holds the
        stages of a run or is another result of this package, which are left out, and each link that
        leads nowhere or back to a folder above it.
    """
    seen = _Walk(source)
    seen.enter(source, frozenset())
    return seen.files, seen.problems


class _Walk:
    """What was found on the way through a folder."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self.files: list[Path] = []
        self.problems: list[Problem] = []

    def enter(self, folder: Path, above: frozenset[Path]) -> None:
        """Look at all that lies in a folder; `above` are the folders that hold it."""
        try:
            found = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            self._say(folder, f"cannot be read ({error.strerror})", "allow yourself to read it")
            return
        names = {entry.name for entry in found}
        stages = [entry for entry in found if entry.name.removesuffix(".partial") in STAGES]
        result = folder != self.source and "provenance.json" in names and is_result(folder)
        if stages or result:
            self._say(folder, RESULT, "nothing, or put them elsewhere")
        if result:
            return
        here = above | {folder.resolve()}
        for entry in found:
            of_a_run = entry in stages or (stages and entry.name == SPLITS)
            if entry.name[0] != "." and not of_a_run:
                self._add(folder / entry.name, entry, here)

    def _add(self, path: Path, entry: os.DirEntry[str], here: frozenset[Path]) -> None:
        if not entry.is_symlink():  # known without another look at the disk
            self.enter(path, here) if entry.is_dir() else self.files.append(path)
        elif not path.exists():
            self._say(path, NOWHERE, "get the file, or take it away")
        elif not path.is_dir():
            self.files.append(path)
        elif path.resolve() in here:
            self._say(path, "a symbolic link that leads back to a folder above it", "take it away")
        else:
            self.enter(path, here)

    def _say(self, path: Path, problem: str, advice: str) -> None:
        self.problems.append(Problem(path.relative_to(self.source).as_posix(), problem, advice))


def is_result(folder: Path) -> bool:
    """The folder is a finished result of this package, by its provenance."""
    try:
        text = (folder / "provenance.json").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return '"monai-vqbrain"' in text


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, in order; nothing where it is none or cannot be read."""
    try:
        return sorted(folder / entry.name for entry in os.scandir(folder))
    except OSError:
        return []
