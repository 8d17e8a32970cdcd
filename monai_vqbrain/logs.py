"""The log file of a stage, and records that it must not keep."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FILE = "log.txt"
PRIVATE = {"private": True}  # `extra` of a record that names a participant: no file keeps it
ROUTINE = {"routine": True}  # `extra` of a record that a terminal shows only when asked
FORMAT = "%(asctime)s %(levelname)-7s %(message)s"

logger = logging.getLogger(__name__)
_package = logging.getLogger("monai_vqbrain")
_open: dict[Path, logging.Handler] = {}  # by folder


class StageLog(logging.Handler):
    """Appends each record to a file, without keeping it open; nothing if the folder was removed.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(logging.INFO)
        self.path = path
        self.setFormatter(logging.Formatter(FORMAT))
        self.addFilter(lambda record: not getattr(record, "private", False))

    def emit(self, record: logging.LogRecord) -> None:
        """Append one line."""
        if self.path.parent.is_dir():
            with self.path.open("a", encoding="utf-8") as file:
                file.write(self.format(record) + "\n")


def open_log(folder: Path) -> None:
    """Append the package's records from INFO on to `folder`/log.txt until `close_log`."""
    close_log(folder)
    handler = StageLog(folder / FILE)
    if _package.getEffectiveLevel() > logging.INFO:
        _package.setLevel(logging.INFO)  # where they are shown is the application's choice
    _package.addHandler(handler)
    _open[folder.absolute()] = handler
    logger.info("%s: started", _stage_of(folder), extra=ROUTINE)


def close_log(folder: Path) -> None:
    """End the log of `folder`, if it has one."""
    handler = _open.pop(folder.absolute(), None)
    if handler is not None:
        logger.info("%s: ended", _stage_of(folder), extra=ROUTINE)
        _package.removeHandler(handler)


def _stage_of(folder: Path) -> str:
    """`3-vqvae` of the partial folders `3-vqvae.partial` and `.3-vqvae.partial`."""
    return folder.name.removeprefix(".").removesuffix(".partial")


@contextmanager
def logging_to(folder: Path) -> Iterator[None]:
    """Keep the package's records of a block in `folder`/log.txt."""
    open_log(folder)
    try:
        yield
    finally:
        close_log(folder)
