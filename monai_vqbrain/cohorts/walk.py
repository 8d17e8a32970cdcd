"""Every file below a folder, and what could not be entered."""

from __future__ import annotations

import os
from pathlib import Path

from monai_vqbrain.cohorts.cohort import Problem

NOWHERE = "a symbolic link that leads nowhere"


def walk(source: Path) -> tuple[list[Path], list[Problem]]:
    """List all files below a folder, symbolic links followed, hidden names left out.

    Args:
        source: the folder.

    Returns:
        The files in order, and a line for each folder that cannot be read and each link that leads
        nowhere or back to a folder above it.
    """
    files: list[Path] = []
    problems: list[Problem] = []

    def say(path: Path, problem: str, advice: str) -> None:
        problems.append(Problem(path.relative_to(source).as_posix(), problem, advice))

    def enter(folder: Path, above: frozenset[Path]) -> None:
        here = above | {folder.resolve()}
        try:
            found = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            say(folder, f"cannot be read ({error.strerror})", "allow yourself to read it")
            return
        for entry in found:
            path = folder / entry.name
            if entry.name[0] == ".":
                continue
            if not entry.is_symlink():  # known without another look at the disk
                enter(path, here) if entry.is_dir() else files.append(path)
            elif not path.exists():
                say(path, NOWHERE, "get the file, or take it away")
            elif not path.is_dir():
                files.append(path)
            elif path.resolve() in here:
                say(path, "a symbolic link that leads back to a folder above it", "take it away")
            else:
                enter(path, here)

    enter(source, frozenset())
    return files, problems


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, in order; nothing where it is none or cannot be read."""
    try:
        return sorted(folder / entry.name for entry in os.scandir(folder))
    except OSError:
        return []
