"""Extraction of slices of a volume along an anatomical axis, and its inverse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from monai.config import NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import Transform

from monai_vqbrain.transforms.affine import affine_of
from monai_vqbrain.transforms.backends import NUMPY
from monai_vqbrain.transforms.extent import Extent, brain_extent
from monai_vqbrain.transforms.grid import (
    SliceGrid,
    at_indices,
    from_top,
    put_back,
    sample_onto,
    slice_grid,
    spread,
    world_axes,
)
from monai_vqbrain.transforms.mask import solid

CARRIED = ("filename_or_obj", "participant_id", "session_id", "space")


@dataclass(frozen=True, eq=False)
class SliceStack:
    """Slices of one volume, with their masks and their grid.

    Args:
        image: (C, W, H, S) float32.
        mask: (1, W, H, S) bool, closed and hole-filled slice by slice.
        grid: their position in world space.
    """

    image: np.ndarray
    mask: np.ndarray
    grid: SliceGrid

    @cached_property
    def brain_fraction(self) -> np.ndarray:
        """(S,) fraction of each slice's pixels that are brain."""
        return self.mask[0].mean(axis=(0, 1))

    def place(self, index: int) -> dict[str, Any]:
        """One slice's axis, index, positions and brain fraction, as plain numbers."""
        return {
            "axis": self.grid.axis,
            "index": index,
            "position_mm": float(self.grid.positions_mm[index]),
            "position_rel": float(self.grid.positions_rel[index]),
            "brain_fraction": float(self.brain_fraction[index]),
        }


class ExtractSlices(Transform):
    """Cut a volume into 2D slices along an axis of world space.

    The slices lie on the axes of RAS world space (an oblique volume is resampled onto them,
    linearly), centred on the brain. At most one of `positions`, `indices` and `count` places them;
    by default there are 16 slices 3.6 mm apart, axial ones from 36 mm below the brain's top
    downwards, coronal and sagittal ones about the brain's middle.

    Args:
        axis: "axial", "coronal" or "sagittal".
        size: (W, H) pixels: x, y in axial, x, z in coronal, y, z in sagittal slices.
        spacing: size of a pixel, mm.
        positions: coordinates along the axis, mm in RAS world space, evenly spaced.
        indices: numbers of the volume's own slices along its array axis nearest to `axis`.
        count: that many slices, evenly spread within the brain.
        frame: lowest and highest x, y, z, mm, by which slices are centred, begin and are spread;
            by default the brain's own. A common frame gives the same slices of all aligned brains.

    Raises:
        ValueError: for an unknown axis, or more than one way to place the slices.

    Example:
        >>> volume = torch.zeros(1, 40, 40, 40)
        >>> volume[:, 10:30, 10:30, 10:30] = 1.0
        >>> slices = ExtractSlices(size=(32, 32), spacing=1.0, count=4)(volume)
        >>> slices[0].shape, [s.meta["position_mm"] for s in slices]
        (torch.Size([1, 32, 32]), [12.375, 17.125, 21.875, 26.625])
    """

    backend = NUMPY

    def __init__(
        self,
        axis: str = "axial",
        size: Sequence[int] = (128, 128),
        spacing: float = 1.8,
        positions: Sequence[float] | np.ndarray | None = None,
        indices: Sequence[int] | None = None,
        count: int | None = None,
        frame: Extent | None = None,
    ) -> None:
        world_axes(axis)
        given = {"positions": positions, "indices": indices, "count": count}
        asked = [name for name, value in given.items() if value is not None]
        if len(asked) > 1:
            raise ValueError(f"give one of positions, indices and count, got {' and '.join(asked)}")
        self.axis, self.size, self.spacing = axis, tuple(size), spacing
        self.positions, self.indices, self.count = positions, indices, count
        self.frame = frame

    def __call__(
        self, img: NdarrayOrTensor, mask: NdarrayOrTensor | None = None
    ) -> list[MetaTensor]:
        """Cut one volume.

        Args:
            img: (C, X, Y, Z); the affine is that of a MetaTensor, the identity for anything else.
            mask: (1, X, Y, Z), non-zero in the brain; by default where the image is not 0.

        Returns:
            MetaTensors (C, W, H) float32, in ascending position. Each has its own 4x4 affine (voxel
            (i, j, 0) -> world) and in `meta`: axis, index, position_mm, position_rel,
            brain_fraction, the volume's affine and shape, and its participant and file if known.
        """
        return as_slices(self.cut(img, mask), img)

    def cut(self, img: NdarrayOrTensor, mask: NdarrayOrTensor | None = None) -> SliceStack:
        """Cut one volume, as one array with its grid; arguments as in `__call__`."""
        array, brain = volume_and_mask(img, mask)
        return self.stack(array, affine_of(img), np.asarray(brain.any(axis=0)))

    def stack(
        self, array: np.ndarray, affine: np.ndarray, foreground: np.ndarray, fill: float = 0.0
    ) -> SliceStack:
        """Cut arrays; the volume may hold integers as they are stored.

        Args:
            array: (C, X, Y, Z).
            affine: (4, 4), voxel -> world, mm, RAS.
            foreground: (X, Y, Z) bool, the brain.
            fill: the value outside the volume.
        """
        grid = self.grid(foreground, affine)
        image = np.stack([sample_onto(channel, affine, grid, fill=fill) for channel in array])
        mask = solid(sample_onto(foreground, affine, grid, order=0) > 0, planar=True)
        return SliceStack(image, mask[None], grid)

    def grid(self, foreground: np.ndarray, affine: np.ndarray) -> SliceGrid:
        """The grid of the slices of a volume with this brain."""
        extent = brain_extent(foreground, affine)
        low, high = extent if self.frame is None else self.frame
        if self.positions is not None:
            positions = np.asarray(self.positions, dtype=float)
        elif self.indices is not None:
            positions = at_indices(self.indices, (low, high), self.axis, (affine, foreground.shape))
        elif self.count is not None:
            positions = spread(low, high, self.axis, self.count)
        else:
            positions = from_top(low, high, self.axis)
        middle = (low + high) / 2
        return slice_grid(extent, self.axis, positions, self.size, self.spacing, middle)

    def inverse(self, slices: Sequence[torch.Tensor]) -> MetaTensor:
        """Stack slices (such as reconstructions) back into the space of their volume.

        Args:
            slices: (C, W, H), consecutive slices of one volume in any order, without gaps, with the
                `meta` that extraction gave them.

        Returns:
            (C, X, Y, Z) float32 with the volume's affine: linear between the slices, fading to 0
            beyond the outermost ones.

        Raises:
            ValueError: for slices of several volumes, with gaps, or without metadata.
        """
        ordered = sorted(slices, key=lambda one: _meta(one, "index"))
        shape, affine = _meta(ordered[0], "volume_shape"), _meta(ordered[0], "volume_affine")
        indices = [int(_meta(one, "index")) for one in ordered]
        if indices != list(range(indices[0], indices[0] + len(indices))):
            raise ValueError(f"slices must follow each other without gap or repeat, got {indices}")
        for one in ordered:
            if not torch.equal(_meta(one, "volume_affine"), affine):
                raise ValueError("slices of several volumes: give those of one at a time")
        stack = np.stack([one.detach().cpu().numpy() for one in ordered], axis=-1)
        where = affine_of(ordered[0])
        put = [put_back(c, where, affine.numpy(), shape.tolist()) for c in stack.astype(np.float32)]
        return MetaTensor(torch.from_numpy(np.stack(put)), affine=affine)


def as_slices(stack: SliceStack, img: NdarrayOrTensor) -> list[MetaTensor]:
    """The slices of a stack as MetaTensors, with the metadata of the volume they come from."""
    source = img.meta if isinstance(img, MetaTensor) else {}
    common = {key: source[key] for key in CARRIED if key in source} | {
        "volume_affine": torch.from_numpy(affine_of(img)),
        "volume_shape": torch.tensor(img.shape[-3:]),
    }
    return [
        MetaTensor(
            torch.from_numpy(stack.image[..., index].copy()),
            affine=torch.from_numpy(stack.grid.slice_affine(index)),
            meta=common | stack.place(index),
        )
        for index in range(stack.grid.shape[2])
    ]


def volume_and_mask(
    img: NdarrayOrTensor, mask: NdarrayOrTensor | None
) -> tuple[np.ndarray, np.ndarray]:
    """A volume and its mask, as arrays.

    Args:
        img: (C, X, Y, Z).
        mask: (1, X, Y, Z) or (C, X, Y, Z); by default where the image is not 0.

    Returns:
        (C, X, Y, Z), and bool of the mask's shape.

    Raises:
        ValueError: for another shape.
    """
    array = torch.as_tensor(img).cpu().numpy()
    if array.ndim != 4:
        raise ValueError(f"expected a volume (C, X, Y, Z), got shape {array.shape}")
    inside = (array if mask is None else torch.as_tensor(mask).cpu().numpy()) != 0
    if inside.shape[1:] != array.shape[1:]:
        raise ValueError(f"the mask has shape {inside.shape}, the volume {array.shape}")
    return array, inside


def _meta(one: torch.Tensor, key: str) -> Any:
    if not isinstance(one, MetaTensor) or key not in one.meta:
        raise ValueError(
            f"a slice has no {key!r} in its meta: give the MetaTensors of ExtractSlices"
        )
    return one.meta[key]
