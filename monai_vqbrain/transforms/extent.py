"""The extent of a brain in world space."""

from __future__ import annotations

import numpy as np

Extent = tuple[np.ndarray, np.ndarray]  # lowest and highest x, y, z of the brain, mm, RAS

SPECK = 0.01  # of the foreground: a smaller piece behind an empty plane is ignored


def brain_extent(mask: np.ndarray, affine: np.ndarray) -> Extent:
    """Find the lowest and the highest world coordinates of a mask's voxel centres.

    A world coordinate is linear along a line of voxels, so only the first and the last voxel of
    each line are needed: exact for oblique affines, and cheap. Pieces that are separated by empty
    planes and contain under 1 % of the foreground (stray specks) are ignored.

    Args:
        mask: (X, Y, Z) bool, in any memory order.
        affine: (4, 4), voxel -> world, mm, RAS.

    Returns:
        The lowest and the highest x, y, z in mm, each of shape (3,).

    Raises:
        ValueError: for an empty mask.

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
    first = lines.argmax(axis=-1)
    rows = np.nonzero(np.take_along_axis(lines, first[..., None], axis=-1)[..., 0])
    last = lines.shape[-1] - 1 - lines[..., ::-1].argmax(axis=-1)
    corner = affine[:3, :3] @ [side.start for side in box] + affine[:3, 3]
    low, high = np.empty(3), np.empty(3)
    for world, row in enumerate(affine[:3, :3]):
        across = row[order[0]] * rows[0] + row[order[1]] * rows[1] + corner[world]
        ends = [across + row[order[2]] * end[rows] for end in (first, last)]
        low[world], high[world] = np.min(ends), np.max(ends)
    return low, high


def brain_box(mask: np.ndarray) -> tuple[slice, slice, slice]:
    """Find the smallest box of voxels around a mask, without stray specks.

    Args:
        mask: (X, Y, Z) bool.

    Returns:
        One slice for each array axis.

    Raises:
        ValueError: for an empty mask, or one that is not 3D.
    """
    if mask.ndim != 3:
        raise ValueError(f"a brain mask has 3 dimensions here, got shape {mask.shape}")
    box = [slice(0, n) for n in mask.shape]
    outermost_first = sorted(range(3), key=lambda axis: -abs(mask.strides[axis]))
    cut = [_cut(mask, box, axis) for axis in outermost_first]
    if any(cut):  # another speck may be separated now
        for axis in outermost_first:
            _cut(mask, box, axis)
    return box[0], box[1], box[2]


def _cut(mask: np.ndarray, box: list[slice], axis: int) -> bool:
    """Narrow the box along one axis; return whether a speck was removed."""
    others = tuple(a for a in range(3) if a != axis)
    outer = max(others, key=lambda a: abs(mask.strides[a]))  # whole planes at a time are fast
    seen = np.logical_or.reduce(mask[tuple(box)], axis=outer, keepdims=True)
    occupied = np.logical_or.reduce(seen, axis=others)
    steps = np.diff(occupied.astype(np.int8), prepend=0, append=0)
    starts, stops = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
    if len(starts) == 0:
        raise ValueError("the brain mask is empty: not one voxel is set")
    several = len(starts) > 1
    if several:
        pieces = np.split(np.count_nonzero(mask[tuple(box)], axis=others), starts[1:])
        counts = np.array([piece.sum() for piece in pieces])
        kept = counts >= min(SPECK * counts.sum(), counts.max())
        starts, stops = starts[kept], stops[kept]
    before = box[axis].start
    box[axis] = slice(int(starts[0]) + before, int(stops[-1]) + before)
    return several
