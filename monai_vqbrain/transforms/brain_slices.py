"""Cut the slices of one brain and scale them to [0, 1]."""

from __future__ import annotations

import numpy as np

from monai_vqbrain.transforms.extent import brain_box
from monai_vqbrain.transforms.intensity import ScaleBrainIntensity, to_unit
from monai_vqbrain.transforms.slices import ExtractSlices, SliceStack

NEGATIVE_SHARE = 0.01  # of the brain's voxels: above it, intensities are centred (z-scores)
FLOOR_PERCENTILE = 0.5  # of the brain's voxels: becomes 0 in an image with centred intensities


def brain_slices(
    array: np.ndarray, affine: np.ndarray, brain: np.ndarray, extract: ExtractSlices
) -> SliceStack:
    """Cut a volume into slices and scale them by its brain's voxels.

    Where more than 1 % of the brain is negative (z-scores), the brain's 0.5th percentile becomes 0;
    otherwise 0 stays 0.

    Args:
        array: (X, Y, Z), integers as they are stored or floats, 0 outside the brain.
        affine: (4, 4), voxel -> world, mm, RAS.
        brain: (X, Y, Z) bool.
        extract: where to cut.

    Returns:
        The slices, in [0, 1], with their masks and their grid.

    Raises:
        ValueError: for an empty brain, or one without positive values.

    Example:
        >>> brain = np.zeros((40, 40, 40), dtype=bool)
        >>> brain[10:30, 10:30, 10:30] = True
        >>> extract = ExtractSlices(size=(32, 32), spacing=1.0, count=4)
        >>> stack = brain_slices(200.0 * brain, np.eye(4), brain, extract)
        >>> stack.image.shape, float(stack.image.max())
        ((1, 32, 32, 4), 1.0)
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
    """The intensities that `brain_slices` maps to 0 and 1.

    Args:
        array: (X, Y, Z), 0 outside the brain; the brain's box, without stray specks (`brain_box`),
            for the limits of `brain_slices`.
        brain: (X, Y, Z) bool.

    Raises:
        ValueError: for an empty brain, or one without positive values.

    Example:
        >>> values = np.arange(101, dtype=np.uint8)
        >>> brain_limits(values, values > 0)[0], round(brain_limits(values, values > 0)[1], 3)
        (0.0, 99.505)
    """
    voxels = int(np.count_nonzero(brain))
    negative = 0 if array.dtype.kind == "u" else np.count_nonzero(array < 0)
    if negative > NEGATIVE_SHARE * voxels:
        return ScaleBrainIntensity(floor=FLOOR_PERCENTILE).limits(array[brain])
    return ScaleBrainIntensity().limits(array, voxels)
