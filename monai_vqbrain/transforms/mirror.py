"""Left and right exchanged, in the items that ask for it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform


class MirrorMarkedd(MapTransform):
    """Mirror the images of those items whose `mirrored` is true; leave all others.

    Left and right lie along the first spatial axis of axial and coronal slices.

    Args:
        keys: the images, (C, W, H) each.

    Example:
        >>> item = {"image": torch.tensor([[[1.0], [2.0]]]), "mirrored": True}
        >>> MirrorMarkedd("image")(item)["image"].flatten().tolist()
        [2.0, 1.0]
    """

    def __init__(self, keys: KeysCollection) -> None:
        super().__init__(keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The item, its images mirrored if it is marked."""
        found = dict(data)
        if found.get("mirrored", False):
            for key in self.keys:
                found[key] = torch.flip(found[key], dims=(1,))
        return found
