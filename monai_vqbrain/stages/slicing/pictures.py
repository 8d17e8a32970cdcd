"""2D pictures to a stack of slices without spatial metadata."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from monai_vqbrain.cohorts import Problem, Scan
from monai_vqbrain.errors import UnavailableImageError, UnusableImageError
from monai_vqbrain.transforms import ScaleBrainIntensity, SliceGrid, SliceStack
from monai_vqbrain.transforms.input_slice import open_picture
from monai_vqbrain.transforms.intensity import to_unit
from monai_vqbrain.transforms.mask import solid

DARK = 16  # of 255; a JPEG's background is not exactly 0


def pictures_to_slices(
    scan: Scan, size: Sequence[int], spacing: float
) -> tuple[SliceStack, list[Problem]]:
    """Read the pictures of a scan, fit each into the frame, and scale all together.

    The columns of a picture run from left to right as displayed, its rows from anterior to
    posterior. It is downsampled until it fits, never enlarged, and padded with 0. The brain mask
    contains the pixels brighter than a JPEG's background, closed and with holes filled; pixels
    outside become 0.

    Args:
        scan: a scan of the form `pictures`.
        size: (W, H) pixels of a slice.
        spacing: mm per pixel, for the header only: the true pixel size is unknown.

    Returns:
        The slices, in [0, 1], and one problem per picture that cannot be read.

    Raises:
        UnusableImageError: if no picture can be read, or all are black.
        UnavailableImageError: if the disk or the network does not give one.
    """
    planes: list[np.ndarray] = []
    problems: list[Problem] = []
    for path in scan.files:
        try:
            with open_picture(path) as picture:
                planes.append(_fit(picture.convert("L"), size))
        except UnavailableImageError:
            raise
        except UnusableImageError:
            name = f"{scan.source.rpartition(': ')[0]}/{path.name}"
            problems.append(Problem(name, "cannot be read as a picture", "get the file again"))
    if not planes:
        raise UnusableImageError("none of its pictures can be read", "get the files again")
    stack = np.stack(planes, axis=-1)
    mask = solid(stack > DARK, planar=True)
    if not mask.any():
        raise UnusableImageError("its pictures are black", "get the files again")
    stack = np.where(mask, stack, np.uint8(0))
    low, high = ScaleBrainIntensity().limits(stack[mask])
    affine = np.diag([spacing, spacing, spacing, 1.0])
    grid = SliceGrid("axial", affine, stack.shape, low=np.nan, high=np.nan)
    return SliceStack(to_unit(stack[None], low, high), mask[None], grid), problems


def _fit(picture: Image.Image, size: Sequence[int]) -> np.ndarray:
    """Fit a picture into the frame: (W, H) uint8, x to the right, y to the front."""
    width, height = size
    picture.thumbnail((width, height), Image.Resampling.BOX)
    shown = np.asarray(picture).T[:, ::-1]
    left, bottom = ((frame - side) // 2 for frame, side in zip(size, shown.shape, strict=True))
    framed = np.zeros((width, height), dtype=np.uint8)
    framed[left : left + shown.shape[0], bottom : bottom + shown.shape[1]] = shown
    return framed
