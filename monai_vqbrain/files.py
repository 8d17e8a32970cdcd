"""Files and folders that are whole or not there at all."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
    """Where a folder is built until it is whole: `R/4-codes` is built in `R/4-codes.partial`."""
    return folder.with_name(folder.name + ".partial")


def publish(folder: Path) -> None:
    """Rename the finished partial folder to its own name; what stood there before goes last."""
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.replace(old)
    partial(folder).replace(folder)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def building(folder: Path) -> Iterator[Path]:
    """Give an empty partial folder; it takes the place of `folder` when the block ends well."""
    work = partial(folder)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    yield work
    publish(folder)


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
