"""Dictionary version of the slice extraction."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from monai_vqbrain.transforms.affine import affine_of
from monai_vqbrain.transforms.slices import ExtractSlices, SliceStack, as_slices

PLACE = ("axis", "index", "position_mm", "position_rel", "brain_fraction")


class ExtractSlicesd(MapTransform):
    """Dictionary version of `ExtractSlices`: one item in, a list of items out, one per slice.

    The list composes with MONAI: `Compose` maps the transforms that follow over the list, and
    `DataLoader` flattens it. All keys must share the first one's voxels.

    Args:
        keys: the volumes to cut.
        mask_key: the brain mask's key. Where the item has none, the brain is where the first
            volume is not 0. The slices' masks, (1, W, H) bool, come out under this key.
        axis: see `ExtractSlices`, as for all further arguments.
        size: (W, H) pixels.
        spacing: mm.
        allow_missing_keys: do not raise for an item without one of the keys; without any of them,
            it comes out unchanged, as a list of one.
        where: `positions`, `indices` or `count`, and `frame`.

    Example:
        >>> volume = torch.zeros(1, 40, 40, 40)
        >>> volume[:, 10:30, 10:30, 10:30] = 1.0
        >>> cut = ExtractSlicesd("image", size=(32, 32), spacing=1.0, count=4)
        >>> items = cut({"image": volume, "participant_id": "sub-01"})
        >>> len(items), items[3]["image"].shape, items[3]["participant_id"], items[3]["index"]
        (4, torch.Size([1, 32, 32]), 'sub-01', 3)
    """

    backend = ExtractSlices.backend

    def __init__(
        self,
        keys: KeysCollection,
        mask_key: str = "mask",
        axis: str = "axial",
        size: Sequence[int] = (128, 128),
        spacing: float = 1.8,
        allow_missing_keys: bool = False,
        **where: Any,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.mask_key = mask_key
        self.extract = ExtractSlices(axis, size, spacing, **where)

    def __call__(self, data: Mapping[Hashable, Any]) -> list[dict[Hashable, Any]]:
        """Cut the volumes of one item.

        Returns:
            One dictionary per slice: the cut volumes, the mask, axis, index, position_mm,
            position_rel, brain_fraction, and the item's other entries.

        Raises:
            ValueError: as `ExtractSlices`, or for keys with different affines.
        """
        keys = list(self.key_iterator(data))
        if not keys:
            return [dict(data)]
        self._check_shared(data, keys)
        lead = data[keys[0]]
        mask = data.get(self.mask_key)
        if mask is None:
            mask = lead != 0
        first = self.extract.cut(lead, mask)
        masks = SliceStack(first.mask, first.mask, first.grid)
        columns: dict[Hashable, list[MetaTensor]] = {
            self.mask_key: as_slices(masks, named(lead, data))
        }
        for key in keys:
            stack = first if key == keys[0] else self.extract.cut(data[key], mask)
            columns[key] = as_slices(stack, named(data[key], data))
        return [
            dict(data) | first.place(i) | {key: column[i] for key, column in columns.items()}
            for i in range(first.grid.shape[2])
        ]

    def inverse(self, items: Sequence[Mapping[Hashable, Any]]) -> dict[Hashable, Any]:
        """Stack the slices of one volume back: one item, with a mask if all slices have one.

        Raises:
            ValueError: as `ExtractSlices.inverse`.
        """
        result = {key: value for key, value in items[0].items() if key not in PLACE}
        for key in self.key_iterator(items[0]):
            result[key] = self.extract.inverse([item[key] for item in items])
        if all(self.mask_key in item for item in items):
            result[self.mask_key] = self.extract.inverse([i[self.mask_key] for i in items]) >= 0.5
        return result

    def _check_shared(self, data: Mapping[Hashable, Any], keys: list[Hashable]) -> None:
        first = data[keys[0]]
        for key in keys[1:]:
            if not np.allclose(affine_of(data[key]), affine_of(first), atol=1e-4):
                raise ValueError(
                    f"{key!r} has another affine than {keys[0]!r}: resample one onto the other"
                )


def named(img: Any, data: Mapping[Hashable, Any]) -> MetaTensor:
    """A volume whose metadata also names the participant and session that its item names."""
    names = {k: data[k] for k in ("participant_id", "session_id") if isinstance(data.get(k), str)}
    meta = dict(img.meta) if isinstance(img, MetaTensor) else {}
    meta["affine"] = torch.from_numpy(affine_of(img))
    return MetaTensor(torch.as_tensor(img), meta=meta | names)
