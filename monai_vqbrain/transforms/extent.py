"""Where a brain lies in world space."""

from __future__ import annotations

import numpy as np

Extent = tuple[np.ndarray, np.ndarray]  # lowest and highest x, y, z of the brain, mm, RAS

SPECK = 0.01  # a piece cut off by an empty plane counts from this part of the foreground


def brain_extent(mask: np.ndarray, affine: np.ndarray) -> Extent:
    """Find the lowest and the highest world coordinates of a mask's voxel centres.

    A world coordinate is linear along a line of voxels, so that only the first and the last voxel
    of each line count: exact for oblique affines, and cheap. Pieces that empty planes cut off and
    that hold under 1 % of the foreground (stray specks) do not count.

    Args:
        mask: (X, Y, Z) bool, in any memory order.
        affine: (4, 4), voxel -> world, mm, RAS.

    Returns:
        The lowest and the highest x, y, z in mm, each of shape (3,).

    Raises:
        ValueError: for a mask without a single voxel.

    Example:
        >>> mask = np.zeros((4, 4, 4), dtype=bool)
        >>> mask[1:3, 2, 3] = True
        >>> low, high = brain_extent(mask, np.diag([2.0, 2.0, 2.0, 1.0]))
        >>> low.tolist(), high.tolist()
        ([2.0, 4.0, 6.0], [4.0, 4.0, 6.0])
    """
    box = brain_box(mask)
    order = np.argsort([-abs(stride) for stride in mask.strides], kind="stable")
    lines = mask[box].transpose(order)  # contiguous along the last axis: argmax then runs fastest
    rows = np.argwhere(lines.any(axis=-1))
    length = lines.shape[-1]
    first = lines.argmax(axis=-1)[rows[:, 0], rows[:, 1]]
    last = length - 1 - lines[..., ::-1].argmax(axis=-1)[rows[:, 0], rows[:, 1]]
    ends = np.concatenate([np.column_stack([rows, end]) for end in (first, last)])
    voxels = np.empty_like(ends)
    voxels[:, order] = ends
    voxels += [side.start for side in box]
    world = voxels @ affine[:3, :3].T + affine[:3, 3]
    return world.min(axis=0), world.max(axis=0)


def brain_box(mask: np.ndarray) -> tuple[slice, slice, slice]:
    """Find the smallest box of voxels around a mask, stray specks left out.

    Args:
        mask: (X, Y, Z) bool.

    Returns:
        One slice for each array axis.

    Raises:
        ValueError: for a mask without a single voxel, or one that is not 3D.
    """
    if mask.ndim != 3:
        raise ValueError(f"a brain mask has 3 dimensions here, got shape {mask.shape}")
    box = [slice(0, n) for n in mask.shape]
    for axis in (0, 1, 2, 0, 1, 2):  # cutting along one axis may free the others of a speck
        box[axis] = _span(mask, box, axis)
    return box[0], box[1], box[2]


def _span(mask: np.ndarray, box: list[slice], axis: int) -> slice:
    others = tuple(a for a in range(3) if a != axis)
    occupied = mask[tuple(box)].any(axis=others)
    steps = np.diff(occupied.astype(np.int8), prepend=0, append=0)
    starts, stops = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
    if len(starts) == 0:
        raise ValueError("the brain mask is empty: not one voxel is set")
    if len(starts) > 1:
        pieces = np.split(np.count_nonzero(mask[tuple(box)], axis=others), starts[1:])
        counts = np.array([piece.sum() for piece in pieces])
        kept = counts >= SPECK * counts.sum()
        starts, stops = starts[kept], stops[kept]
    return slice(int(starts[0]) + box[axis].start, int(stops[-1]) + box[axis].start)
