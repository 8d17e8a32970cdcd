"""The brain of a skull-stripped image, as a solid mask."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from scipy import ndimage

from monai_vqbrain.transforms.backends import NUMPY

CLOSING = 2  # voxels; closes sulci that skull-stripping leaves open to the outside


def solid(foreground: np.ndarray, closing: int = CLOSING, planar: bool = False) -> np.ndarray:
    """Close a mask's gaps and fill its holes.

    Args:
        foreground: (W, H) or (X, Y, Z) bool.
        closing: radius of the closing in voxels, 0 for none.
        planar: treat each (W, H) plane of a (W, H, S) stack separately.

    Returns:
        bool, of the same shape; it contains `foreground`.

    Example:
        >>> ring = np.zeros((9, 9), dtype=bool)
        >>> ring[2:7, 2:7] = True
        >>> ring[4, 4] = False
        >>> int(solid(ring, closing=0).sum())
        25
    """
    box = tuple(_span(foreground, axis) for axis in range(foreground.ndim))
    result = np.zeros_like(foreground)
    result[box] = _solid(foreground[box], closing, planar)
    return result


def _span(foreground: np.ndarray, axis: int) -> slice:
    others = tuple(other for other in range(foreground.ndim) if other != axis)
    occupied = np.flatnonzero(foreground.any(axis=others))
    return slice(occupied[0], occupied[-1] + 1) if len(occupied) else slice(0, 0)


def _solid(foreground: np.ndarray, closing: int, planar: bool) -> np.ndarray:
    rank = 2 if planar else foreground.ndim
    structure = ndimage.generate_binary_structure(rank, 1)
    if planar:
        structure = structure[..., None]
    padded = np.pad(foreground, closing + 1)  # a frame of background connects the outside
    if closing:
        padded |= ndimage.binary_closing(padded, structure, iterations=closing)
    labels, _ = ndimage.label(~padded, structure=_connecting(structure))
    filled = labels != labels[0, 0]  # all that is not connected to the frame
    return filled[(slice(closing + 1, -(closing + 1)),) * foreground.ndim]


def _connecting(structure: np.ndarray) -> np.ndarray:
    """`ndimage.label` needs three entries per axis: a plane gets empty neighbours."""
    if structure.shape[-1] == 3:
        return structure
    return np.pad(structure, ((0, 0), (0, 0), (1, 1)))


class BrainMask(Transform):
    """The solid mask of a skull-stripped image: its non-zero foreground, closed and hole-filled.

    Args:
        closing: radius of the closing in voxels.

    Example:
        >>> image = torch.zeros(1, 16, 16)
        >>> image[:, 4:12, 4:12] = 0.5
        >>> int(BrainMask()(image).sum())
        64
    """

    backend = NUMPY

    def __init__(self, closing: int = CLOSING) -> None:
        if closing < 0:
            raise ValueError(f"closing must be 0 or more voxels, got {closing}")
        self.closing = closing

    def __call__(self, img: NdarrayOrTensor) -> torch.Tensor:
        """Make the mask.

        Args:
            img: (C, W, H) or (C, X, Y, Z), background exactly 0 in all channels.

        Returns:
            (1, ...) bool, a MetaTensor with the image's affine where the image is one.
        """
        foreground = (torch.as_tensor(img) != 0).any(dim=0).cpu().numpy()
        mask = torch.from_numpy(solid(foreground, self.closing))[None]
        if isinstance(img, MetaTensor):
            return MetaTensor(mask, meta=dict(img.meta))
        return mask


class BrainMaskd(MapTransform):
    """Dictionary version of `BrainMask`.

    Args:
        keys: the image that the mask is made from; of several, the first that the item has.
        mask_key: where the mask goes.
        closing: radius of the closing in voxels.
        allow_missing_keys: do not raise for an item without one of the keys; without any of them,
            it gets no mask.
    """

    backend = BrainMask.backend

    def __init__(
        self,
        keys: KeysCollection = "image",
        mask_key: str = "mask",
        closing: int = CLOSING,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.mask_key = mask_key
        self.mask = BrainMask(closing)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the mask to a copy of `data`."""
        result = dict(data)
        keys = list(self.key_iterator(result))
        if keys:
            result[self.mask_key] = self.mask(result[keys[0]])
        return result
