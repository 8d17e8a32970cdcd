"""Atomic files and folders: each is complete or does not exist."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.locks import is_locked, lock, reading, unlock

TEMPORARY = re.compile(r"\.\d+\..+")  # the names of `writing`


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it is renamed when the block ends without an exception.

    The temporary name keeps the suffixes, by which nibabel and torch choose a format. Some
    libraries make files that no other user may read; all get the mode of the umask.

    Args:
        path: the file to write; its folder is made if needed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)
        flush(temporary)
        temporary.replace(path)
        flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def remove_temporaries(paths: Iterable[Path]) -> None:
    """Remove those of some files that `writing` left because its process was killed."""
    for path in [path for path in paths if TEMPORARY.fullmatch(path.name) and path.is_file()]:
        path.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Have a file, or the names in a folder, written to disk.

    A renamed file could otherwise be empty after a crash of the machine.
    """
    if path.is_dir() and os.name != "posix":
        return  # only POSIX opens folders
    number = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def partial(folder: Path) -> Path:
    """The visible partial folder of a stage in progress: `R/3-vqvae.partial` for `R/3-vqvae`."""
    return folder.with_name(folder.name + ".partial")


def publish(folder: Path, work: Path | None = None) -> None:
    """Rename a finished folder to its final name, once its files are on disk.

    An earlier folder is removed afterwards.

    What a kill interrupts here is completed by `finish_publication`. The folder is unlocked, see
    `hold`.

    Args:
        folder: the final name.
        work: the folder to rename, by default the partial folder.
    """
    work = work or partial(folder)
    for path in (*work.rglob("*"), work):
        flush(path)
    new = _hidden(folder, "new")
    shutil.rmtree(new, ignore_errors=True)
    work.replace(new)
    _swap(folder)
    flush(folder.parent)
    unlock(folder)


def finish_publication(folder: Path) -> None:
    """Complete a publication that was interrupted, unless another process works on `folder`.

    Nothing is done in a folder that may not be written to.
    """
    left = any(_hidden(folder, what).exists() for what in ("new", "old"))
    if left and not is_locked(folder):
        with suppress(OSError, VQBrainError):
            hold(folder)
            unlock(folder)


def finish_publications(parent: Path) -> None:
    """Complete every publication of a folder in `parent` that was interrupted."""
    for what in ("new", "old"):
        for path in parent.glob(f".*.{what}"):
            name = path.name.removeprefix(".").removesuffix(f".{what}")
            finish_publication(parent / name)


def _swap(folder: Path) -> None:
    """Put the finished new folder, if there is one, in the place of `folder`.

    The new folder has its hidden name from when it is finished until it is in its place, so that
    at any moment it is known whether it has to get there.
    """
    new, old = _hidden(folder, "new"), _hidden(folder, "old")
    if new.exists():
        _remove(old)
        if os.path.lexists(folder):  # a broken link, too
            folder.replace(old)
        new.replace(folder)
    elif old.exists() and not folder.exists():
        old.replace(folder)
    _remove(old)


def _remove(path: Path) -> None:
    """Remove a folder, or the file or link that was in its place."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def hold(folder: Path) -> None:
    """Lock `folder` against other processes until `unlock`, `publish` or the end of this process.

    An interrupted publication of it is completed.

    Raises:
        VQBrainError: if another process makes or reads it.
    """
    if not is_locked(folder):
        lock(folder)
        _swap(folder.absolute())


@contextmanager
def using(folders: Iterable[Path]) -> Iterator[None]:
    """Keep finished folders as they are in this block: no other process replaces them meanwhile.

    Interrupted publications of them are completed first.

    Raises:
        VQBrainError: if another process is making one of them.
    """
    folders = list(folders)
    for folder in folders:
        finish_publication(folder)
    with reading(folders):
        yield


@contextmanager
def building(folder: Path, go_on: bool = False) -> Iterator[Path]:
    """Yield an empty folder; it replaces `folder` when the block ends without an exception.

    Its name is hidden, `.NAME.partial`, because users may keep other folders beside `folder`.

    Args:
        folder: the final name.
        go_on: keep the files of an interrupted build.

    Raises:
        VQBrainError: if another process makes or reads the folder.
    """
    hold(folder)
    try:
        work = unfinished(folder)
        if not go_on:
            shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True, exist_ok=go_on)
        remove_temporaries(work.rglob("*"))
        yield work
        publish(folder, work)
    finally:
        unlock(folder)


def unfinished(folder: Path) -> Path:
    """The hidden partial folder of `building`: `R/.2-slices.partial` for `R/2-slices`."""
    return _hidden(folder, "partial")


def _hidden(folder: Path, what: str) -> Path:
    return folder.with_name(f".{folder.name}.{what}")


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
