"""Random crops that contain brain, for training."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Randomizable, Transform

from monai_vqbrain.transforms.affine import plain, reversal, translation, with_moved_affine
from monai_vqbrain.transforms.backends import TORCH


class RandBrainCrop(Randomizable, Transform):
    """Crop around a random pixel that is not background.

    Half of a slice's frame is background, which a network learns quickly; crops concentrate
    training on the brain and shift it relative to the grid of codes.

    Random numbers come from PyTorch's global generator (`torch.manual_seed`) until
    `set_random_state` is called, and from that state afterwards. MONAI's `Compose` and
    `DataLoader` call `set_random_state` themselves; `torch_generator=True` ignores such calls.
    Worker processes of a `DataLoader` draw different crops in both cases.

    Args:
        size: sides of the crop, pixels (voxels); a side longer than the image's is the image's.
        mirror: reverse the first axis (left-right, except in sagittal slices) with probability 0.5.
        torch_generator: always draw from PyTorch's global generator. Seeding that one at the start
            of every epoch (`SeedEpochs`) then makes a resumed training repeat an unbroken one.

    Raises:
        ValueError: for a side below 1.

    Example:
        >>> slice_ = torch.zeros(1, 32, 32)
        >>> slice_[:, 3, 30] = 1.0
        >>> RandBrainCrop((16, 16))(slice_).nonzero().tolist()  # the frame ends on the right
        [[0, 3, 14]]
    """

    backend = TORCH

    def __init__(
        self, size: Sequence[int], mirror: bool = False, torch_generator: bool = False
    ) -> None:
        if len(size) == 0 or min(size) < 1:
            raise ValueError(f"size must be positive sides such as (64, 64), got {tuple(size)}")
        self.size, self.mirror = tuple(size), mirror
        self.torch_generator = torch_generator
        self._has_state = False
        self._window: tuple[slice, ...] = ()
        self._mirrored = False

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> RandBrainCrop:
        """Draw from this seed or state from now on, unless `torch_generator` is set."""
        super().set_random_state(seed, state)
        self._has_state = True
        return self

    def randomize(self, data: torch.Tensor, may_mirror: bool = True) -> None:
        """Draw a crop of an image (C, *size), for this image and others of its size.

        Args:
            data: the image.
            may_mirror: false for an image whose first axis is not left-right.

        Raises:
            ValueError: as calling does.
        """
        self._window = (slice(None), *self._random_window(data))
        self._mirrored = self.mirror and self._random() < 0.5 and may_mirror

    def __call__(self, img: torch.Tensor, randomize: bool = True) -> torch.Tensor:
        """Crop one image.

        Args:
            img: (C, *size), 0 in the background.
            randomize: draw a crop; otherwise take the last one drawn.

        Returns:
            (C, *crop), centred on any pixel where the image is all background. The affine of a
            MetaTensor follows the crop; a plain tensor gives a plain tensor.

        Raises:
            ValueError: if the image has another number of sides.
        """
        if randomize:
            self.randomize(img)
        values = plain(img)[self._window]
        if self._mirrored:
            values = values.flip(1)
        if isinstance(img, MetaTensor):
            return with_moved_affine(img, values, self._source(values.shape[1]))
        return values

    def _source(self, width: int) -> np.ndarray:
        """(4, 4), voxel of the crop -> voxel of the image."""
        start = translation(tuple(side.start for side in self._window[1:]))
        return start @ reversal(width) if self._mirrored else start

    def _random_window(self, img: torch.Tensor) -> tuple[slice, ...]:
        sides = img.shape[1:]
        if len(sides) != len(self.size):
            raise ValueError(
                f"the crop has {len(self.size)} sides, but the image is {tuple(img.shape)}: give "
                "(C, *size) with as many spatial sides"
            )
        channel = plain(img)[0]
        brain = channel.flatten().nonzero()
        drawn = self._random_integer(max(len(brain), 1))
        pixel = int(brain[drawn]) if len(brain) else self._random_integer(channel.numel())
        window: list[slice] = []
        for side, asked in zip(reversed(sides), reversed(self.size), strict=True):
            pixel, centre = divmod(pixel, side)
            first = max(0, min(centre - asked // 2, side - asked))
            window.insert(0, slice(first, first + asked))
        return tuple(window)

    def _random_integer(self, below: int) -> int:
        if self.torch_generator or not self._has_state:
            return int(torch.randint(below, ()))
        return int(self.R.randint(below))

    def _random(self) -> float:
        """A number in [0, 1)."""
        if self.torch_generator or not self._has_state:
            return float(torch.rand(()))
        return float(self.R.random_sample())


class RandBrainCropd(Randomizable, MapTransform):
    """Dictionary version of `RandBrainCrop`: one crop for all keys, drawn from the first.

    Args:
        keys: images of one size.
        size: sides of the crop, pixels (voxels).
        mirror: reverse the first axis with probability 0.5, but in items whose `axis` is sagittal:
            there it is not left-right.
        allow_missing_keys: do not raise for an item without one of the keys.
        torch_generator: always draw from PyTorch's global generator, see `RandBrainCrop`.

    Raises:
        ValueError: for a side below 1.
    """

    backend = RandBrainCrop.backend

    def __init__(
        self,
        keys: KeysCollection,
        size: Sequence[int],
        mirror: bool = False,
        allow_missing_keys: bool = False,
        torch_generator: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.crop = RandBrainCrop(size, mirror, torch_generator)

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> RandBrainCropd:
        """Draw from this seed or state from now on, unless `torch_generator` is set."""
        super().set_random_state(seed, state)
        self.crop.set_random_state(seed, state)
        return self

    def randomize(self, data: torch.Tensor, may_mirror: bool = True) -> None:
        """Draw a crop of an image (C, *size), see `RandBrainCrop.randomize`."""
        self.crop.randomize(data, may_mirror)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Crop the images of one item, (C, *size) each; its other entries are kept."""
        result = dict(data)
        keys = list(self.key_iterator(result))
        if keys:
            self.randomize(result[keys[0]], result.get("axis") != "sagittal")
        for key in keys:
            result[key] = self.crop(result[key], randomize=False)
        return result
