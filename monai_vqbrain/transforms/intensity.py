"""Scale intensities to [0, 1] by the brain's voxels alone."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform, Transform
from monai.utils import convert_to_dst_type

from monai_vqbrain.transforms.affine import plain, with_meta_of
from monai_vqbrain.transforms.backends import NUMPY

PERCENTILE = 99.5
LOW, HIGH = "low", "high"  # recorded for `inverse`: the intensities that became 0 and 1
SAMPLED = 64  # every 64th voxel gives a first estimate of a percentile


def brain_percentile(values: np.ndarray, percentile: float) -> float:
    """Compute an exact percentile, of 8- and 16-bit integers from a histogram.

    Args:
        values: the brain's voxels, in any shape.
        percentile: 0 to 100.

    Returns:
        As `numpy.percentile`: linear between the two nearest values.

    Raises:
        ValueError: for no values.

    Example:
        >>> brain_percentile(np.arange(101, dtype=np.uint8), 99.5)
        99.5
    """
    if values.size == 0:
        raise ValueError("the brain mask is empty: there is nothing to take a percentile of")
    if values.dtype.kind not in "iu" or values.dtype.itemsize > 2:
        return float(np.percentile(values, percentile))
    least = int(values.min())
    ranks = np.bincount(values.ravel().astype(np.intp) - least).cumsum()
    at = (values.size - 1) * percentile / 100
    below, above = np.searchsorted(ranks, [np.floor(at), np.ceil(at)], side="right") + least
    return float(below + (above - below) * (at % 1))


def top_percentile(values: np.ndarray, count: int, percentile: float) -> float:
    """Compute an exact high percentile of a brain without gathering its voxels.

    Args:
        values: (N,) the brain's voxels and others, which are all 0.
        count: number of the brain's voxels.
        percentile: 0 to 100.

    Returns:
        `brain_percentile` of the brain's voxels, if these are above 0 there.

    Raises:
        ValueError: for no voxels.

    Example:
        >>> top_percentile(np.array([0, 0, 5, 1, 2, 0, 4, 3, 0]), 5, 75.0)
        4.0
    """
    if count == 0:
        raise ValueError("the brain mask is empty: there is nothing to take a percentile of")
    at = (count - 1) * percentile / 100
    needed = count - int(at)  # highest values; the result lies between the lowest two of them
    some = values[::SAMPLED]
    guess = min(2 * needed // SAMPLED + 16, len(some) - 1)
    floor = np.partition(some, len(some) - 1 - guess)[len(some) - 1 - guess]
    high = values[values >= floor]
    if len(high) < needed:  # the guess was too high
        high = values
    lower = len(high) - needed
    upper = min(lower + 1, len(high) - 1)
    below, above = np.partition(high, (lower, upper))[[lower, upper]]
    return float(below + (above - below) * (at % 1))


def to_unit(array: np.ndarray, low: float, high: float) -> np.ndarray:
    """Map `low` to 0 and `high` to 1, clipped; float32."""
    return np.clip((array.astype(np.float32) - low) / (high - low), 0, 1, dtype=np.float32)


class ScaleBrainIntensity(InvertibleTransform, Transform):
    """Divide by a high percentile of the brain's voxels and clip to [0, 1].

    `inverse` maps [0, 1] back to the intensities of the image, if that was a MetaTensor, which
    records them. Clipped values cannot be restored: values above the percentile become the
    percentile, values that became 0 the intensity that was mapped to 0.

    Args:
        percentile: the percentile that becomes 1.
        floor: the percentile that becomes 0, for images with negative values in the brain; outside
            the mask the result is then 0. By default 0 stays 0 and negative values become 0.

    Raises:
        ValueError: for percentiles out of order.

    Example:
        >>> image = torch.arange(201.0).reshape(1, 3, 67)
        >>> scaled = ScaleBrainIntensity()(image)
        >>> float(scaled.max()), round(float(scaled[0, 1, 33]), 3)
        (1.0, 0.502)
    """

    backend = NUMPY

    def __init__(self, percentile: float = PERCENTILE, floor: float | None = None) -> None:
        if not (floor or 0) < percentile <= 100 or (floor is not None and floor < 0):
            raise ValueError(
                f"need 0 <= floor < percentile <= 100, got floor {floor}, percentile {percentile}"
            )
        self.percentile, self.floor = percentile, floor

    def limits(self, values: np.ndarray, count: int | None = None) -> tuple[float, float]:
        """The intensities that become 0 and 1.

        Args:
            values: the brain's voxels.
            count: number of the brain's voxels if `values` has others too, which are all 0: faster
                than gathering them. Only without a floor.

        Raises:
            ValueError: if the upper one is not above the lower one.
        """
        low = 0.0 if self.floor is None else brain_percentile(values, self.floor)
        if count is None:
            high = brain_percentile(values, self.percentile)
        else:
            high = top_percentile(values.ravel(order="K"), count, self.percentile)
        if not high > low:
            raise ValueError(
                f"the brain's {self.percentile:g}th percentile is {high:g}, not above {low:g}: "
                "the image is empty or negative (floor= maps a low percentile to 0)"
            )
        return low, high

    def __call__(
        self, img: NdarrayOrTensor, mask: NdarrayOrTensor | None = None
    ) -> NdarrayOrTensor:
        """Scale one image.

        Args:
            img: (C, ...), any number type.
            mask: (1, ...) or (C, ...), non-zero in the brain; by default where the image is not 0.

        Returns:
            (C, ...) float32 in [0, 1], of the same kind (array, tensor, MetaTensor).
        """
        array = torch.as_tensor(img).cpu().numpy()
        brain = array != 0 if mask is None else torch.as_tensor(mask).cpu().numpy() != 0
        brain = np.broadcast_to(brain, array.shape)
        low, high = self.limits(array[brain])
        scaled = to_unit(array, low, high)
        if self.floor is not None:
            scaled = np.where(brain, scaled, np.float32(0))
        result = convert_to_dst_type(scaled, img, dtype=np.float32)[0]
        return self.push_transform(result, extra_info={LOW: low, HIGH: high})

    def inverse(self, data: MetaTensor) -> MetaTensor:
        """Map [0, 1] back to the intensities of the image; clipped values cannot be restored.

        Raises:
            ValueError: the data is no MetaTensor, or this transform did not make it.
        """
        info = self.pop_transform(data)["extra_info"]
        low, high = float(info[LOW]), float(info[HIGH])
        return with_meta_of(data, plain(data) * (high - low) + low)


class ScaleBrainIntensityd(MapTransform, InvertibleTransform):
    """Dictionary version of `ScaleBrainIntensity`, with the same limits of its `inverse`.

    Args:
        keys: the images to scale.
        mask_key: the brain mask's key; in an item without it, the brain is where the image is not
            0.
        percentile: see `ScaleBrainIntensity`.
        floor: see `ScaleBrainIntensity`.
        allow_missing_keys: do not raise for an item without one of the keys.
    """

    backend = ScaleBrainIntensity.backend

    def __init__(
        self,
        keys: KeysCollection,
        mask_key: str = "mask",
        percentile: float = PERCENTILE,
        floor: float | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.mask_key = mask_key
        self.scale = ScaleBrainIntensity(percentile, floor)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Scale the images of a copy of `data`."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.scale(result[key], data.get(self.mask_key))
        return result

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Map the images of a copy of `data` back to their intensities."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.scale.inverse(result[key])
        return result
