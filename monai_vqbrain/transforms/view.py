"""A slice as it might have been: mirrored, and a little aside."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform


class ViewSliced(MapTransform):
    """Mirror and shift the images of those items that ask for it; leave all others.

    An item asks with `mirrored`, true or false, and `shift`, whole pixels along both axes. Left and
    right lie along the first axis of axial and coronal slices. What comes in is background, 0.

    Args:
        keys: the images, (C, W, H) each.

    Example:
        >>> item = {"image": torch.tensor([[[1.0], [2.0]]]), "mirrored": True, "shift": (1, 0)}
        >>> ViewSliced("image")(item)["image"].flatten().tolist()
        [0.0, 2.0]
    """

    def __init__(self, keys: KeysCollection) -> None:
        super().__init__(keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The item, its images as it asks for."""
        found = dict(data)
        for key in self.keys:
            if found.get("mirrored", False):
                found[key] = torch.flip(found[key], dims=(1,))
            if any(found.get("shift", (0, 0))):
                found[key] = shifted(found[key], found["shift"])
        return found


def shifted(image: torch.Tensor, shift: tuple[int, int]) -> torch.Tensor:
    """(C, W, H) moved by whole pixels along W and H, with 0 where nothing is known."""
    image = torch.roll(image, tuple(shift), dims=(1, 2))
    for axis, by in enumerate(shift, start=1):
        size = image.shape[axis]
        image.narrow(axis, 0 if by > 0 else max(0, size + by), min(size, abs(by))).zero_()
    return image
