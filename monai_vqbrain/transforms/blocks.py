"""Downsample volumes by averaging blocks of voxels."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np


class Blocks(NamedTuple):
    """A coarser volume: (X, Y, Z) float32, and its own affine, voxel -> world."""

    values: np.ndarray
    affine: np.ndarray

    @property
    def spacing(self) -> np.ndarray:
        """(3,) sizes of a voxel, mm."""
        return np.asarray(np.linalg.norm(self.affine[:3, :3], axis=0))


def block_means(array: np.ndarray, affine: np.ndarray, mm: float) -> Blocks:
    """Average blocks of whole voxels whose sides are nearest to `mm`.

    Args:
        array: (X, Y, Z), any number type; incomplete last blocks are padded with 0.
        affine: (4, 4), voxel -> world.
        mm: side of a block; an axis is unchanged where this is below 1.5 voxels.

    Example:
        >>> values, affine = block_means(np.ones((4, 4, 3)), np.eye(4), 2.0)
        >>> values[:, 0, 0].tolist(), values[0, 0].tolist(), affine[:3, 3].tolist()
        ([1.0, 1.0], [1.0, 0.5], [0.5, 0.5, 0.5])
    """
    zooms = np.linalg.norm(affine[:3, :3], axis=0)
    factor = np.maximum(1, np.round(mm / zooms)).astype(int)
    coarse = np.array(affine, dtype=np.float64)
    coarse[:3, :3] *= factor
    coarse[:3, 3] += affine[:3, :3] @ ((factor - 1) / 2)
    shape = [-(-side // count) for side, count in zip(array.shape, factor, strict=True)]
    values = np.zeros(shape, np.float32, order="F" if array.flags.f_contiguous else "C")
    for start in itertools.product(*map(range, factor)):  # many times faster than a reshape
        part = array[tuple(slice(s, None, count) for s, count in zip(start, factor, strict=True))]
        values[tuple(slice(side) for side in part.shape)] += part
    return Blocks(values / np.float32(factor.prod()), coarse)
