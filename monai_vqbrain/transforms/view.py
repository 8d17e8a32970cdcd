"""A mirrored and shifted view of a slice, for augmentation."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from monai_vqbrain.transforms.affine import plain, reversal, translation, with_moved_affine
from monai_vqbrain.transforms.backends import TORCH


class ViewSliced(MapTransform):
    """Mirror and shift the images of items that ask for it, and leave all others unchanged.

    An item asks with `mirrored`, true or false, and `shift`, whole pixels along both axes. Left and
    right lie along the first axis of axial and coronal slices. Pixels from outside the image are
    background, 0. The affine of a MetaTensor follows; a plain tensor gives a plain tensor.

    Args:
        keys: the images, (C, W, H) each.
        allow_missing_keys: do not raise for an item without one of the keys.

    Example:
        >>> item = {"image": torch.tensor([[[1.0], [2.0]]]), "mirrored": True, "shift": (1, 0)}
        >>> ViewSliced("image")(item)["image"].flatten().tolist()
        [0.0, 2.0]
    """

    backend = TORCH

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Mirror, then shift, the images of a copy of `data`."""
        result = dict(data)
        shift = tuple(data.get("shift", (0, 0)))
        for key in self.key_iterator(result):
            if data.get("mirrored", False):
                result[key] = mirrored(result[key])
            if any(shift):
                result[key] = shifted(result[key], shift)
        return result


def mirrored(image: torch.Tensor) -> torch.Tensor:
    """(C, W, H) with its first spatial axis reversed."""
    values = plain(image).flip(1)
    if isinstance(image, MetaTensor):
        return with_moved_affine(image, values, reversal(image.shape[1]))
    return values


def shifted(image: torch.Tensor, shift: tuple[int, int]) -> torch.Tensor:
    """(C, W, H) moved by whole pixels along W and H; pixels from outside the image are 0."""
    values = torch.roll(plain(image), shift, dims=(1, 2))
    for axis, by in enumerate(shift, start=1):
        size = values.shape[axis]
        values.narrow(axis, 0 if by > 0 else max(0, size + by), min(size, abs(by))).zero_()
    if isinstance(image, MetaTensor):
        return with_moved_affine(image, values, translation((-shift[0], -shift[1])))
    return values
