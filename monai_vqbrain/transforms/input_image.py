"""An image that a network reconstructs or scores: its slices, and the way back."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError, HeaderTypeError

from monai_vqbrain.errors import REDOWNLOAD, UnavailableImageError, UnusableImageError

ZERO_SHARE = 0.1  # of the voxels must be 0 for the background to count as zero
UNREADABLE = (
    OSError, EOFError, ValueError, ImportError, MemoryError, zlib.error, struct.error,
    ImageFileError, HeaderDataError, HeaderTypeError,
)  # fmt: skip
"""What nibabel and Pillow raise for a file that they cannot read."""


def unreadable(error: Exception, problem: str) -> UnusableImageError:
    """What to raise for an image that cannot be read.

    Args:
        error: one of `UNREADABLE`, or raised from one; errors of the system have a number, those
            about a file's content have none.
        problem: what is wrong with the image; the first line of `error` is added.
    """
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    cause = error.__cause__ or error
    missing = isinstance(cause, FileNotFoundError)  # nibabel's has no number
    if missing or getattr(cause, "errno", None) is not None:
        return UnavailableImageError(f"{problem} ({reason})", "make it available again")
    return UnusableImageError(f"{problem} ({reason})", REDOWNLOAD)


@dataclass(frozen=True, eq=False)
class InputImage:
    """An image to reconstruct.

    Args:
        slices: (W, H, S) float32 in [0, 1], on the axes of RAS.
        mask: (W, H, S) bool, the brain by prepare's rule; empty where that rule finds none.
        places: what is known of each of the S slices: index, position_mm, brain_fraction ...
        unit: (X, Y, Z) float32, the image in its own voxels, in [0, 1].
        brain: (X, Y, Z) bool, the brain in the image's own voxels; all of it where none is known.
        limits: the intensities that became 0 and 1, in the file's units.
        back: reads a stack of slices, (W, H, S), on the image's own voxels, (X, Y, Z).
        like: the image as nibabel opened it, with its shape, affine and header.
        mask_path: the file that says where the brain is, if one does.
        notes: what the user should know about it.
    """

    slices: np.ndarray
    mask: np.ndarray
    places: tuple[dict[str, Any], ...]
    unit: np.ndarray
    brain: np.ndarray
    limits: tuple[float, float]
    back: Callable[[np.ndarray], np.ndarray]
    like: Any
    mask_path: Path | None = None
    notes: tuple[str, ...] = ()

    def intensities(self, unit: np.ndarray) -> np.ndarray:
        """From [0, 1] to the file's units, (X, Y, Z) float32."""
        low, high = self.limits
        values = unit * np.float32(high - low)
        return np.asarray(values + np.float32(low) * self.brain if low else values)
