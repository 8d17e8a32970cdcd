"""The grid of a stack of slices, along the axes of world space."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import affine_transform

from monai_vqbrain.transforms.extent import Extent

AXES = {"axial": (0, 1, 2), "coronal": (0, 2, 1), "sagittal": (1, 2, 0)}
"""World axes (0 left-right, 1 back-front, 2 down-up) of an image's width, height and slices."""

TOLERANCE = 1e-3  # mm; positions whose gaps differ by less are evenly spaced


@dataclass(frozen=True, eq=False)
class SliceGrid:
    """The position of a stack of slices in world space.

    Args:
        axis: "axial", "coronal" or "sagittal".
        affine: (4, 4), voxel (i, j, k) of the stack -> world, mm, RAS.
        shape: (W, H, S), pixels in width and height, number of slices.
        low: the brain's lowest coordinate along the slice axis, mm.
        high: the brain's highest coordinate along the slice axis, mm.
    """

    axis: str
    affine: np.ndarray
    shape: tuple[int, int, int]
    low: float
    high: float

    @property
    def positions_mm(self) -> np.ndarray:
        """(S,) coordinates of the slices along their axis, mm, ascending."""
        along = AXES[self.axis][2]
        return self.affine[along, 3] + self.affine[along, 2] * np.arange(self.shape[2])

    @property
    def positions_rel(self) -> np.ndarray:
        """(S,) positions within the brain: 0 at its lowest voxel, 1 at its highest."""
        return (self.positions_mm - self.low) / max(self.high - self.low, TOLERANCE)

    def slice_affine(self, index: int) -> np.ndarray:
        """(4, 4) affine of one slice: its voxel (i, j, 0) -> world, mm, RAS."""
        affine = self.affine.copy()
        affine[:3, 3] += index * affine[:3, 2]
        return affine


def slice_grid(
    extent: Extent,
    axis: str,
    positions: np.ndarray,
    size: Sequence[int] = (128, 128),
    spacing: float = 1.8,
    centre: Sequence[float] | np.ndarray | None = None,
) -> SliceGrid:
    """Place a grid of slices through a brain, centred on it in the plane.

    Args:
        extent: the brain's lowest and highest x, y, z, mm (`brain_extent`).
        axis: "axial", "coronal" or "sagittal".
        positions: coordinates of the slices along that axis, mm, evenly spaced, in any order.
        size: (W, H) pixels; x, y for axial, x, z for coronal, y, z for sagittal slices.
        spacing: size of a pixel, mm.
        centre: x, y, z of the slices' centres, mm; by default the brain's. Unused along the axis.

    Returns:
        The grid, its slices in ascending order.

    Raises:
        ValueError: for an unknown axis, a size or spacing not positive, or uneven positions.

    Example:
        >>> extent = (np.array([-70.0, -100.0, -60.0]), np.array([70.0, 70.0, 80.0]))
        >>> grid = slice_grid(extent, "axial", from_top(*extent, "axial"))
        >>> grid.shape, grid.positions_mm[[0, -1]].tolist()
        ((128, 128, 16), [-10.0, 44.0])
    """
    first, second, along = world_axes(axis)
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"size must be two positive numbers (W, H), got {tuple(size)}")
    if not spacing > 0:
        raise ValueError(f"spacing must be positive, in mm, got {spacing}")
    low, high = extent
    ordered = np.sort(np.asarray(positions, dtype=float))
    step = even_step(ordered, spacing)
    middle = (low + high) / 2 if centre is None else np.asarray(centre, dtype=float)
    affine = np.zeros((4, 4))
    affine[3, 3] = 1.0
    for column, world, count in ((0, first, size[0]), (1, second, size[1])):
        affine[world, column] = spacing
        affine[world, 3] = middle[world] - spacing * (count - 1) / 2
    affine[along, 2], affine[along, 3] = step, ordered[0]
    shape = (int(size[0]), int(size[1]), len(ordered))
    return SliceGrid(axis, affine, shape, float(low[along]), float(high[along]))


def world_axes(axis: str) -> tuple[int, int, int]:
    """The world axes of width, height and slices, or ValueError for an unknown name."""
    if axis not in AXES:
        raise ValueError(f"axis must be one of {', '.join(AXES)}, got {axis!r}")
    return AXES[axis]


def even_step(ordered: np.ndarray, alone: float) -> float:
    """The distance between ascending positions, mm; `alone` for a single one.

    Raises:
        ValueError: for no positions, equal ones, or gaps that differ.
    """
    if len(ordered) == 0:
        raise ValueError("no slice position is left: ask for at least one")
    if len(ordered) == 1:
        return alone
    gaps = np.diff(ordered)
    if gaps.min() < TOLERANCE or np.ptp(gaps) > TOLERANCE:
        raise ValueError(
            f"slice positions must be evenly spaced, got gaps of {gaps.min():g} to {gaps.max():g}"
            " mm: one stack has one affine; extract each evenly spaced part by itself"
        )
    return float((ordered[-1] - ordered[0]) / (len(ordered) - 1))


def from_top(low: np.ndarray, high: np.ndarray, axis: str) -> np.ndarray:
    """The default positions: 16 slices, 3.6 mm apart.

    Axial slices begin 36 mm below the brain's top, where every brain has a large cross-section
    whatever its position in the scanner; coronal and sagittal ones are centred on the brain.

    Args:
        low: the brain's lowest x, y, z, mm.
        high: the brain's highest x, y, z, mm.
        axis: "axial", "coronal" or "sagittal".

    Returns:
        (16,) coordinates along the axis, mm, ascending.
    """
    along = world_axes(axis)[2]
    span = 3.6 * 15
    last = high[along] - 36.0 if axis == "axial" else (low[along] + high[along] + span) / 2
    return last - span + 3.6 * np.arange(16)


def spread(low: np.ndarray, high: np.ndarray, axis: str, count: int) -> np.ndarray:
    """Positions of `count` slices, each in the middle of one of `count` equal parts of the brain.

    Returns:
        (count,) coordinates along the axis, mm, ascending.

    Raises:
        ValueError: for a count below 1.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    along = world_axes(axis)[2]
    return low[along] + (np.arange(count) + 0.5) * (high[along] - low[along]) / count


def at_indices(
    indices: Sequence[int], extent: Extent, axis: str, volume: tuple[np.ndarray, Sequence[int]]
) -> np.ndarray:
    """Positions of a volume's own slices, at the middle of the brain.

    Args:
        indices: numbers of slices along the volume's array axis that is nearest to `axis`, from 0.
        extent: the brain's lowest and highest x, y, z, mm.
        axis: "axial", "coronal" or "sagittal".
        volume: the affine (4, 4) and the shape (X, Y, Z) of the volume.

    Returns:
        (S,) coordinates along the axis, mm, in the order of `indices`.

    Raises:
        ValueError: for an index that the volume does not have.
    """
    affine, shape = volume
    along = world_axes(axis)[2]
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    own = int(np.abs(directions[along]).argmax())
    outside = [i for i in indices if not 0 <= i < shape[own]]
    if outside:
        raise ValueError(
            f"the volume has {axis} slices 0 to {shape[own] - 1}, got index {outside[0]}"
        )
    row = np.linalg.inv(affine)[own]
    centre = (extent[0] + extent[1]) / 2
    centre[along] = 0.0
    return (np.asarray(indices) - row[3] - row[:3] @ centre) / row[along]


def sample_onto(
    array: np.ndarray,
    affine: np.ndarray,
    grid: SliceGrid,
    order: int = 1,
    fill: float = 0.0,
) -> np.ndarray:
    """Interpolate a volume on a grid of slices; no other voxel is computed.

    Args:
        array: (X, Y, Z), integers as they are stored or floats.
        affine: (4, 4) of the volume, voxel -> world, mm, RAS.
        grid: where to interpolate.
        order: 0 nearest voxel, 1 linear.
        fill: the value outside the volume.

    Returns:
        (W, H, S) float32.
    """
    return read_at(array, np.linalg.inv(affine) @ grid.affine, grid.shape, order, fill)


def put_back(
    stack: np.ndarray, stack_affine: np.ndarray, affine: np.ndarray, shape: Sequence[int]
) -> np.ndarray:
    """Interpolate a stack of slices on a volume's voxels, linearly, fading to 0 beyond its ends.

    Args:
        stack: (W, H, S).
        stack_affine: (4, 4) of the stack, voxel -> world, mm, RAS.
        affine: (4, 4) of the volume.
        shape: (X, Y, Z) of the volume.

    Returns:
        (X, Y, Z) float32.
    """
    return read_at(stack, np.linalg.inv(stack_affine) @ affine, shape)


def read_at(
    array: np.ndarray, matrix: np.ndarray, shape: Sequence[int], order: int = 1, fill: float = 0.0
) -> np.ndarray:
    """Interpolate `array` at `matrix` @ voxel for each voxel of `shape`; float32."""
    result = np.full(tuple(shape), fill, dtype=np.float32)
    window = _reached(array.shape, matrix, shape)
    matrix = matrix.copy()
    matrix[:3, 3] += matrix[:3, :3] @ [side.start for side in window]
    result[window] = affine_transform(
        array.view(np.uint8) if array.dtype == bool else array,
        matrix[:3, :3],
        offset=matrix[:3, 3],
        output_shape=tuple(side.stop - side.start for side in window),
        output=np.float32,
        order=order,
        # "constant" gives `fill` for a coordinate of -1e-16, that is for whole border planes
        mode="grid-constant",
        cval=fill,
    )
    return result


def _reached(source: Sequence[int], matrix: np.ndarray, shape: Sequence[int]) -> tuple[slice, ...]:
    """The box of `shape` outside which `matrix` maps voxels over a voxel outside `source`."""
    corners = np.array(list(itertools.product(*((-1.0, float(n)) for n in source))))
    inverse = np.linalg.inv(matrix)
    there = corners @ inverse[:3, :3].T + inverse[:3, 3]
    lowest, highest = np.floor(there.min(axis=0)), np.ceil(there.max(axis=0)) + 1
    low, high = (np.clip(end, 0, shape).astype(int) for end in (lowest, highest))
    return tuple(slice(first, max(first, last)) for first, last in zip(low, high, strict=True))
