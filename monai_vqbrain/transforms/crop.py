"""Random crops that hold brain, for training."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTrait, Transform


class RandBrainCrop(Transform, RandomizableTrait):
    """Crop around a random pixel that is not background.

    Half of a slice's frame is background, which a network learns in no time; a crop spends the
    work where the brain is, and shifts it against the grid of codes. Draws from PyTorch's global
    generator, so that a seed gives the same crops on every device, and in every worker others.

    Args:
        size: sides of the crop, pixels (voxels); a side longer than the image's is the image's.
        mirror: turn the first side (left-right, but in sagittal slices) round, as often as not.

    Raises:
        ValueError: for a side below 1.

    Example:
        >>> slice_ = torch.zeros(1, 32, 32)
        >>> slice_[:, 3, 30] = 1.0
        >>> RandBrainCrop((16, 16))(slice_).nonzero().tolist()  # the frame ends on the right
        [[0, 3, 14]]
    """

    def __init__(self, size: Sequence[int], mirror: bool = False) -> None:
        if len(size) == 0 or min(size) < 1:
            raise ValueError(f"size must be positive sides such as (64, 64), got {tuple(size)}")
        self.size, self.mirror = tuple(size), mirror

    def __call__(self, img: torch.Tensor) -> torch.Tensor:
        """Crop one image.

        Args:
            img: (C, *size), 0 in the background.

        Returns:
            (C, *crop). Where the image is all background, around any pixel.

        Raises:
            ValueError: if the image has another number of sides.
        """
        return self.draw(img)(img)

    def draw(self, img: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        """Draw a crop of `img`: what to do to it, and to other images of its size.

        Raises:
            ValueError: as calling does.
        """
        window = (slice(None), *self._window(img))
        turned = self.mirror and bool(torch.rand(()) < 0.5)
        return lambda whole: whole[window].flip(1) if turned else whole[window]

    def _window(self, img: torch.Tensor) -> tuple[slice, ...]:
        sides = img.shape[1:]
        if len(sides) != len(self.size):
            raise ValueError(
                f"the crop has {len(self.size)} sides, but the image is {tuple(img.shape)}: give "
                "(C, *size) with as many spatial sides"
            )
        brain = img[0].flatten().nonzero()
        drawn = int(torch.randint(max(len(brain), 1), ()))
        pixel = int(brain[drawn]) if len(brain) else int(torch.randint(img[0].numel(), ()))
        window: list[slice] = []
        for side, asked in zip(reversed(sides), reversed(self.size), strict=True):
            pixel, centre = divmod(pixel, side)
            first = max(0, min(centre - asked // 2, side - asked))
            window.insert(0, slice(first, first + asked))
        return tuple(window)


class RandBrainCropd(MapTransform, RandomizableTrait):
    """Dictionary version of `RandBrainCrop`: one crop for all keys, drawn from the first.

    Args:
        keys: images of one size.
        size: sides of the crop, pixels (voxels).
        mirror: turn the first side round, as often as not.
        allow_missing_keys: pass over keys that an item does not have.

    Raises:
        ValueError: for a side below 1.
    """

    def __init__(
        self,
        keys: KeysCollection,
        size: Sequence[int],
        mirror: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.crop = RandBrainCrop(size, mirror)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Crop the images of one item, (C, *size) each; whatever else it holds is kept."""
        result = dict(data)
        crop = self.crop.draw(result[self.first_key(result)])
        for key in self.key_iterator(result):
            result[key] = crop(result[key])
        return result
