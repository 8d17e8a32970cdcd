"""Slices in a file, read when they are used."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np

_READING = threading.Lock()


class StoredImages:
    """(N, W, H) uint8 slices on disk, indexed like an array; indexing returns an array.

    The memory of an evaluation thus does not grow with the number of slices. The file has no name
    and is deleted with the last object that reads it. Several threads may read at once.

    Args:
        file: the slices, one after the other.
        size: (W, H).
        rows: (N,) numbers of slices in the file.
    """

    dtype = np.dtype(np.uint8)
    ndim = 3

    def __init__(self, file: IO[bytes], size: tuple[int, int], rows: np.ndarray) -> None:
        self.file, self.size, self.rows = file, size, rows

    @property
    def shape(self) -> tuple[int, int, int]:
        """N, W, H."""
        return (len(self.rows), *self.size)

    def __len__(self) -> int:
        """How many slices there are."""
        return len(self.rows)

    def __getitem__(self, which: Any) -> np.ndarray:
        """Read a slice (W, H) by its number, or (n, W, H) by a range, numbers or a mask."""
        rows = np.asarray(self.rows[which])
        found = np.empty((rows.size, *self.size), dtype=np.uint8)
        for image, row in zip(found, rows.flat, strict=True):
            with _READING:  # threads share the file's position
                self.file.seek(int(row) * image.nbytes)
                self.file.readinto(image)  # type: ignore[attr-defined]
        return found.reshape(*rows.shape, *self.size)

    def take(self, which: np.ndarray) -> StoredImages:
        """The slices of these numbers or this mask, without reading them."""
        return StoredImages(self.file, self.size, self.rows[which])


def store(batches: Iterable[np.ndarray], folder: Path | None = None) -> StoredImages:
    """Write slices to a file without a name, and return them like an array.

    Args:
        batches: (B, W, H) uint8 each, at least one.
        folder: whose disk has room for them; by default that of temporary files.
    """
    file = TemporaryFile(dir=folder)  # noqa: SIM115  (it is open as long as its slices are used)
    count, size = 0, (0, 0)
    for batch in batches:
        count, size = count + len(batch), batch.shape[1:]
        file.write(batch.tobytes())
    return StoredImages(file, size, np.arange(count))
