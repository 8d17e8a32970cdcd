"""Slices of a brain on one intensity scale, [0, 1]."""

from __future__ import annotations

import numpy as np

from monai_vqbrain.transforms.extent import brain_box
from monai_vqbrain.transforms.intensity import ScaleBrainIntensity, to_unit
from monai_vqbrain.transforms.slices import ExtractSlices, SliceStack

NEGATIVE_SHARE = 0.01  # of the brain's voxels: above it the image was normalised about its mean
FLOOR_PERCENTILE = 0.5  # becomes 0 then


def brain_slices(
    array: np.ndarray, affine: np.ndarray, brain: np.ndarray, extract: ExtractSlices
) -> SliceStack:
    """Cut a volume and scale it by its brain's voxels.

    Where over 1 % of the brain is negative (z-scores), the brain's 0.5th percentile becomes 0; else
    0 stays 0.

    Args:
        array: (X, Y, Z), 0 outside the brain.
        affine: (4, 4), voxel -> world, mm, RAS.
        brain: (X, Y, Z) bool.
        extract: how to cut.

    Returns:
        The slices, in [0, 1], with their masks.

    Raises:
        ValueError: for an empty brain, or one without a single positive value.
    """
    box = brain_box(brain)
    array, brain = array[box].copy(order="K"), brain[box].copy(order="K")
    affine = affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [side.start for side in box]
    low, high = brain_limits(array, brain)
    if low:
        array = np.where(brain, array - np.float32(low), np.float32(0))
    stack = extract.stack(array[None], affine, brain)
    return SliceStack(to_unit(stack.image, 0.0, high - low), stack.mask, stack.grid)


def brain_limits(array: np.ndarray, brain: np.ndarray) -> tuple[float, float]:
    """The intensities that become 0 and 1.

    Args:
        array: (X, Y, Z), 0 outside the brain.
        brain: (X, Y, Z) bool.

    Raises:
        ValueError: for an empty brain, or one without a single positive value.
    """
    voxels = int(np.count_nonzero(brain))
    below = 0 if array.dtype.kind == "u" else np.count_nonzero(array < 0)
    if below > NEGATIVE_SHARE * voxels:
        return ScaleBrainIntensity(floor=FLOOR_PERCENTILE).limits(array[brain])
    return ScaleBrainIntensity().limits(array, voxels)
