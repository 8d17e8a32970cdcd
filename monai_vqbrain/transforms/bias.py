"""Bias-field correction: the smooth change of intensity that a receive coil causes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform
from monai.transforms.transform import Transform

from monai_vqbrain.transforms.affine import affine_of, with_meta_of
from monai_vqbrain.transforms.backends import NUMPY
from monai_vqbrain.transforms.blocks import Blocks, block_means
from monai_vqbrain.transforms.grid import read_at
from monai_vqbrain.transforms.simpleitk import deterministic_simpleitk, simpleitk, to_sitk
from monai_vqbrain.transforms.slices import volume_and_mask

SPACING = 4.0  # mm; a bias field is smooth
ITERATIONS = (50, 50, 50, 50)  # at most, for each of four increasingly fine B-spline grids
TOLERANCE = 1e-3
LEAST_BLOCKS = 4  # along each side
LOG_BIAS = "log_bias"  # recorded for `inverse`


def log_bias(
    array: np.ndarray,
    affine: np.ndarray,
    inside: np.ndarray,
    mm: float = SPACING,
    iterations: tuple[int, ...] = ITERATIONS,
) -> Blocks:
    """Estimate the logarithm of the bias field by N4, on a coarse grid of blocks of voxels.

    Args:
        array: (X, Y, Z).
        affine: (4, 4), voxel -> world, mm.
        inside: (X, Y, Z) bool, where tissue is; voxels of 0 and less are ignored.
        mm: side of a block.
        iterations: at most, one number per level.

    Returns:
        The field, on the blocks; bit-identical in every run.

    Raises:
        ImportError: SimpleITK is not installed.
        ValueError: there is too little tissue.

    Source:
        Tustison et al. 2010, N4ITK: improved N3 bias correction.
    """
    part = block_means(inside, affine, mm)
    mean = block_means(np.where(inside, array, array.dtype.type(0)), affine, mm)
    full = (part.values > 0.5) & (mean.values > 0)
    if np.count_nonzero(full) < 100 or min(full.shape) < LEAST_BLOCKS:
        raise ValueError(
            f"too little tissue for a bias field: {np.count_nonzero(full)} of "
            f"{' x '.join(map(str, full.shape))} blocks of {mm:g} mm"
        )
    values = np.where(full, mean.values / np.maximum(part.values, 0.5), np.float32(0))
    with deterministic_simpleitk():
        n4 = simpleitk().N4BiasFieldCorrectionImageFilter()
        n4.SetMaximumNumberOfIterations(list(iterations))
        n4.SetConvergenceThreshold(TOLERANCE)
        image = to_sitk(values, part.spacing, (0, 0, 0))
        n4.Execute(image, to_sitk(full.astype(np.uint8), part.spacing, (0, 0, 0)))
        field = simpleitk().GetArrayFromImage(n4.GetLogBiasFieldAsImage(image)).T
    return Blocks(np.ascontiguousarray(field, dtype=np.float32), part.affine)


def bias_at(field: Blocks, affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The bias field on the voxels of a volume, interpolated linearly between the blocks.

    Args:
        field: from `log_bias`.
        affine: (4, 4) of the volume, voxel -> the same world.
        shape: (X, Y, Z).

    Returns:
        (X, Y, Z) float32, above 0; an image is divided by it.
    """
    padded = np.pad(field.values, 1, mode="edge")  # block centres end half a block inside the image
    matrix = np.linalg.inv(field.affine) @ affine
    matrix[:3, 3] += 1
    return np.exp(read_at(padded, matrix, shape))


class CorrectBias(InvertibleTransform, Transform):
    """Divide a T1 volume by its bias field, estimated by N4.

    Args:
        spacing: side of the blocks on which the field is estimated, mm.

    Example:
        >>> x = torch.linspace(-1, 1, 48)
        >>> tissue = torch.rand(1, 48, 48, 48, generator=torch.Generator().manual_seed(0)) * 20
        >>> bright = (tissue + 90) * torch.exp(0.3 * x)[:, None, None]
        >>> flat = CorrectBias()(bright)
        >>> bool(flat[0, 40:].mean() / flat[0, :8].mean() < 1.1)
        True
    """

    backend = NUMPY

    def __init__(self, spacing: float = SPACING) -> None:
        if not spacing > 0:
            raise ValueError(f"spacing must be positive, in mm, got {spacing}")
        self.spacing = spacing

    def __call__(self, img: NdarrayOrTensor, mask: NdarrayOrTensor | None = None) -> MetaTensor:
        """Correct one volume.

        Args:
            img: (C, X, Y, Z), 0 or more; the field is that of the first channel.
            mask: (1, X, Y, Z), non-zero where tissue is; by default where the image is not 0.

        Returns:
            (C, X, Y, Z) float32.

        Raises:
            ImportError: SimpleITK is not installed.
            ValueError: not a volume, or too little tissue.
        """
        array, tissue = volume_and_mask(img, mask)
        affine = affine_of(img)
        field = log_bias(array[0], affine, tissue[0], self.spacing)
        flat = (array / bias_at(field, affine, array.shape[1:])).astype(np.float32)
        result = with_meta_of(img, torch.from_numpy(flat))
        recorded = {
            "values": torch.from_numpy(field.values),
            "affine": torch.from_numpy(field.affine),
        }
        return self.push_transform(result, extra_info={LOG_BIAS: recorded})

    def inverse(self, data: MetaTensor) -> MetaTensor:
        """Multiply a corrected volume by its bias field again."""
        recorded = self.pop_transform(data)["extra_info"][LOG_BIAS]
        field = Blocks(recorded["values"].numpy(), recorded["affine"].numpy())
        bias = torch.from_numpy(bias_at(field, affine_of(data), tuple(data.shape[1:])))
        return with_meta_of(data, torch.as_tensor(data) * bias.to(data.device))


class CorrectBiasd(MapTransform, InvertibleTransform):
    """Dictionary version of `CorrectBias`; each image has its own field.

    Args:
        keys: the volumes to correct.
        mask_key: the mask's key; in an item without it, tissue is where an image is not 0.
        spacing: side of the blocks on which the field is estimated, mm.
        allow_missing_keys: do not raise for an item without one of the keys.
    """

    backend = CorrectBias.backend

    def __init__(
        self,
        keys: KeysCollection,
        mask_key: str = "mask",
        spacing: float = SPACING,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.mask_key = mask_key
        self.correct = CorrectBias(spacing)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Correct the volumes of a copy of `data`."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.correct(result[key], data.get(self.mask_key))
        return result

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Undo the correction in a copy of `data`."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.correct.inverse(result[key])
        return result
