"""Affines and metadata of MetaTensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.config import NdarrayOrTensor
from monai.data import MetaTensor


def affine_of(img: NdarrayOrTensor) -> np.ndarray:
    """The (4, 4) affine of a MetaTensor, in float64; the identity for anything else."""
    if not isinstance(img, MetaTensor):
        return np.eye(4)
    return img.affine.cpu().numpy().astype(np.float64)


def with_meta_of(img: NdarrayOrTensor, values: torch.Tensor, **changes: Any) -> MetaTensor:
    """A MetaTensor of `values` with the metadata and the recorded transforms of `img`."""
    meta = dict(img.meta) if isinstance(img, MetaTensor) else {}
    result = MetaTensor(values, meta=meta | changes)
    if isinstance(img, MetaTensor):
        result.applied_operations = list(img.applied_operations)
    return result


def plain(img: torch.Tensor) -> torch.Tensor:
    """The tensor without metadata: indexing and flipping a MetaTensor leave its affine as it is."""
    return img.as_tensor() if isinstance(img, MetaTensor) else img


def with_moved_affine(img: MetaTensor, values: torch.Tensor, source: np.ndarray) -> MetaTensor:
    """Give voxels that were moved the affine that keeps their world coordinates.

    Args:
        img: (C, *size), the image before.
        values: (C, *new size), a plain tensor, the image after.
        source: (4, 4), a voxel (i, j, k) of `values` -> the voxel of `img` that it came from.

    Returns:
        `values` with the metadata of `img` and the composed affine.
    """
    return with_meta_of(img, values, affine=torch.from_numpy(affine_of(img) @ source))


def translation(shift: tuple[float, ...]) -> np.ndarray:
    """(4, 4), adds `shift`, one number per spatial axis (2 or 3), to voxel coordinates."""
    matrix = np.eye(4)
    matrix[: len(shift), 3] = shift
    return matrix


def reversal(size: int) -> np.ndarray:
    """(4, 4), reverses the first spatial axis, of `size` voxels."""
    matrix = np.eye(4)
    matrix[0, 0], matrix[0, 3] = -1, size - 1
    return matrix
