"""Alignment to the template: it changes the affine of a volume, not its voxels."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform
from monai.transforms.transform import Transform

from monai_vqbrain.transforms.affine import affine_of, with_meta_of
from monai_vqbrain.transforms.backends import NUMPY
from monai_vqbrain.transforms.registration import KINDS, Registration, register
from monai_vqbrain.transforms.slices import volume_and_mask
from monai_vqbrain.transforms.template import SPACE, brain_in_template_space

MATRIX = "template_to_volume"


class AlignToTemplate(InvertibleTransform, Transform):
    """Align a T1 volume to MNI152 (`registration.register`), without resampling it.

    Only the affine changes, so that the next transform (`ExtractSlices`, MONAI's `Spacing` or
    `ResampleToMatch`) interpolates the voxels once, in template coordinates (mm).

    Args:
        kind: "rigid" or "affine".
        whole_head: the volumes have a skull; the mask is then ignored.

    Raises:
        ValueError: for an unknown kind, or a whole head and "rigid": a template that is not scaled
            to the participant's head cannot locate its brain.

    Example:
        >>> from monai_vqbrain.transforms.template import template_image
        >>> voxels, affine = template_image()
        >>> shifted = torch.from_numpy(affine).clone()
        >>> shifted[:3, 3] += 20.0
        >>> align = AlignToTemplate("rigid")
        >>> aligned = align(MetaTensor(torch.from_numpy(voxels)[None], affine=shifted))
        >>> bool((aligned.affine - torch.from_numpy(affine)).abs().max() < 0.2)
        True
        >>> bool(torch.allclose(align.inverse(aligned).affine, shifted))
        True
    """

    backend = NUMPY

    def __init__(self, kind: str = "affine", whole_head: bool = False) -> None:
        if kind not in KINDS:
            raise ValueError(f"kind must be {' or '.join(KINDS)}, got {kind!r}")
        if whole_head and kind != "affine":
            raise ValueError(f"a whole head must be aligned by kind 'affine', got {kind!r}")
        self.kind, self.whole_head = kind, whole_head

    def register(self, img: NdarrayOrTensor, mask: NdarrayOrTensor | None = None) -> Registration:
        """Register a volume to the template; arguments and errors as in `__call__`."""
        array, inside = volume_and_mask(img, mask)
        brain = None if self.whole_head else inside[0]
        return register(array[0], affine_of(img), brain, kind=self.kind)

    def __call__(self, img: NdarrayOrTensor, mask: NdarrayOrTensor | None = None) -> MetaTensor:
        """Align one volume.

        Args:
            img: (C, X, Y, Z), aligned by its first channel; the affine is that of a MetaTensor,
                the identity for anything else.
            mask: (1, X, Y, Z), non-zero in the brain; by default where the image is not 0.

        Returns:
            The same voxels with an affine to template coordinates, mm; `meta` names the `template`.

        Raises:
            ImportError: SimpleITK is not installed.
            ValueError: not a volume, or as `registration.register`.
        """
        return self.move(img, self.register(img, mask))

    def move(self, img: NdarrayOrTensor, found: Registration) -> MetaTensor:
        """Give a volume the affine of a registration."""
        into = torch.from_numpy(found.into_template(affine_of(img)))
        moved = with_meta_of(img, torch.as_tensor(img), affine=into, template=SPACE)
        return self.push_transform(moved, extra_info={MATRIX: torch.from_numpy(found.matrix)})

    def inverse(self, data: MetaTensor) -> MetaTensor:
        """Restore the affine that an aligned volume had before."""
        matrix = torch.as_tensor(self.pop_transform(data)["extra_info"][MATRIX]).double()
        back = matrix @ data.affine.double()
        result = with_meta_of(data, torch.as_tensor(data), affine=back)
        del result.meta["template"]
        return result


class AlignToTemplated(MapTransform, InvertibleTransform):
    """Dictionary version of `AlignToTemplate`: the first volume's registration applies to all.

    Args:
        keys: volumes of one participant in one space; the first is registered to the template. A
            volume without an affine has the first one's grid.
        mask_key: the brain mask's key. Where the item has none, the brain is where the first
            volume is not 0. An aligned whole head gets the template's brain as its mask.
        kind: "rigid" or "affine".
        whole_head: the volumes have a skull.
        allow_missing_keys: do not raise for an item without one of the keys.

    Raises:
        ValueError: as `AlignToTemplate`.
    """

    backend = AlignToTemplate.backend

    def __init__(
        self,
        keys: KeysCollection,
        mask_key: str = "mask",
        kind: str = "affine",
        whole_head: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.mask_key = mask_key
        self.align = AlignToTemplate(kind, whole_head)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Align the volumes of a copy of `data`, and its mask."""
        result = dict(data)
        keys = list(self.key_iterator(result))
        if not keys:
            return result
        lead = result[keys[0]]
        found = self.align.register(lead, data.get(self.mask_key))
        for key in self._moved(result):
            volume = result[key]
            if not isinstance(volume, MetaTensor):  # such as a mask made by hand
                volume = MetaTensor(volume, affine=torch.from_numpy(affine_of(lead)))
            result[key] = self.align.move(volume, found)
        if self.align.whole_head:
            own = affine_of(lead)
            brain = brain_in_template_space(found.into_template(own), lead.shape[1:])
            mask = MetaTensor(torch.from_numpy(brain)[None], affine=torch.from_numpy(own))
            result[self.mask_key] = self.align.move(mask, found)
        return result

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Restore the affines of the volumes of a copy of `data`, and of its mask."""
        result = dict(data)
        for key in self._moved(result):
            result[key] = self.align.inverse(result[key])
        return result

    def _moved(self, data: dict[Hashable, Any]) -> list[Hashable]:
        keys = list(self.key_iterator(data))
        return keys + [k for k in (self.mask_key,) if k in data and k not in keys]
