"""Files and folders that are whole or not there at all."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from monai_vqbrain.errors import VQBrainError

_held: dict[Path, FileLock] = {}  # by folder; a lock that nobody refers to would be given up


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`, renamed to it when the block ends well.

    The temporary name keeps the suffixes (nibabel and torch choose a format by them). Files are
    made by plain `open`, so that they get the umask's mode and colleagues can read them.

    Args:
        path: the file to make; its folder is made if need be.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def partial(folder: Path) -> Path:
    """Where a stage that people look into meanwhile is made: `R/3-vqvae` in `R/3-vqvae.partial`."""
    return folder.with_name(folder.name + ".partial")


def publish(folder: Path, work: Path | None = None) -> None:
    """Rename a finished folder to its own name; what stood there before goes last.

    The folder is released, see `hold`.

    Args:
        folder: its own name.
        work: where it was made, by default its partial folder.
    """
    old = _hidden(folder, "old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.replace(old)
    (work or partial(folder)).replace(folder)
    shutil.rmtree(old, ignore_errors=True)
    release(folder)


def hold(folder: Path) -> None:
    """Keep other processes from building `folder` until `release`, `publish` or this process ends.

    Raises:
        VQBrainError: if another process holds it.
    """
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = _held.setdefault(folder, FileLock(_hidden(folder, "lock")))
    try:
        if not lock.is_locked:
            lock.acquire(timeout=0)
    except Timeout as error:
        raise VQBrainError(
            f"another process is working on {folder}: wait for it, or use another run folder"
        ) from error


def release(folder: Path) -> None:
    """Let other processes build `folder`, if this one holds it."""
    lock = _held.pop(folder.absolute(), None)
    if lock is not None:
        lock.release()


@contextmanager
def building(folder: Path, go_on: bool = False) -> Iterator[Path]:
    """Give an empty folder; it takes the place of `folder` when the block ends well.

    Its name is hidden, `.NAME.partial`: beside a folder that a person named, others of theirs lie.

    Args:
        folder: its own name.
        go_on: leave in it what an interrupted build has left.

    Raises:
        VQBrainError: if another process builds it.
    """
    hold(folder)
    try:
        work = unfinished(folder)
        if not go_on:
            shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True, exist_ok=go_on)
        yield work
        publish(folder, work)
    finally:
        release(folder)


def unfinished(folder: Path) -> Path:
    """Where `building` makes a folder: `R/2-slices` in `R/.2-slices.partial`."""
    return _hidden(folder, "partial")


def _hidden(folder: Path, what: str) -> Path:
    return folder.with_name(f".{folder.name}.{what}")


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
