"""The sets of images that an evaluation compares: training, held-out and synthetic slices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from monai_vqbrain.metrics.copies import Matches
from monai_vqbrain.metrics.images import ImageArray
from monai_vqbrain.stages.reporting.stored_images import StoredImages

Decode = Callable[[np.ndarray], np.ndarray]  # (B, G, w, h) codes -> (B, W, H) float in [0, 1]


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Slices of one size, with what is known about each.

    Args:
        images: (N, W, H) uint8, in memory or on disk, 255 standing for an intensity of 1; the
            first axis to the right, the second upwards.
        about: N rows: participant_id, and where known position, age, sex, diagnosis.
    """

    images: ImageArray
    about: pd.DataFrame

    def __len__(self) -> int:
        """How many slices there are."""
        return len(self.about)

    @property
    def participants(self) -> list[str]:
        """N participants, one per slice."""
        return [str(name) for name in self.about["participant_id"]]

    @property
    def positions(self) -> np.ndarray:
        """(N,) position along the axis, NaN where unknown."""
        return self.numbers("position")

    def numbers(self, name: str) -> np.ndarray:
        """(N,) numbers of a column of `about`; NaN where it is missing."""
        if name not in self.about:
            return np.full(len(self), np.nan)
        return pd.to_numeric(self.about[name], errors="coerce").to_numpy(dtype=float)

    def labels(self, name: str) -> pd.Series:
        """(N,) texts of a column of `about`; missing where the column is."""
        if name not in self.about:
            return pd.Series(np.full(len(self), None), dtype=object)
        return self.about[name].reset_index(drop=True).astype(object)

    def take(self, which: np.ndarray) -> ImageSet:
        """The slices of these indices (integers), or of this mask (bool)."""
        chosen = np.flatnonzero(which) if which.dtype == bool else which
        images: ImageArray = self.images
        images = images.take(chosen) if isinstance(images, StoredImages) else images[chosen]
        return ImageSet(images, self.about.iloc[chosen].reset_index(drop=True))


@dataclass(frozen=True, eq=False)
class TissuePriors:
    """Probability of each tissue in each pixel of slices in template space.

    Args:
        maps: (P, W, H, 3) probability of CSF, grey and white matter.
        positions: (P,) of the slices, in the unit of `ImageSet.positions`.
    """

    maps: np.ndarray
    positions: np.ndarray

    def nearest(self, positions: np.ndarray) -> np.ndarray:
        """(N,) indices of the maps nearest to (N,) positions."""
        return np.abs(positions[:, None] - self.positions).argmin(axis=1)


@dataclass(frozen=True, eq=False)
class Comparison:
    """The sets of images to compare.

    Args:
        training: real slices that the generator was trained on, as the VQ-VAE returns them; of two
            folders, those of one half of the participants.
        held_out: real slices of participants that it was not trained on; of two folders, those of
            the other half.
        synthetic: the samples; their `participant_id` is the name of each sample.
        spacing: mm per pixel; None where it is unknown.
        sagittal: left and right do not lie along the first axis.
        priors: of slices in template space; None elsewhere.
        notes: warnings for the reader.
    """

    training: ImageSet
    held_out: ImageSet
    synthetic: ImageSet
    spacing: float | None = None
    sagittal: bool = False
    priors: TissuePriors | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def sets(self) -> tuple[ImageSet, ImageSet, ImageSet]:
        """Training, held-out and synthetic slices."""
        return self.training, self.held_out, self.synthetic

    @property
    def knows_positions(self) -> bool:
        """Whether the position of every slice is known."""
        return all(bool(np.isfinite(one.positions).all()) for one in self.sets)


def joined(first: ImageSet, second: ImageSet) -> ImageSet:
    """What is known of the slices of both sets, those of the first before; without the images."""
    about = pd.concat([first.about, second.about], ignore_index=True)
    return ImageSet(first.images[:0], about)


def closest_pairs(
    comparison: Comparison, matches: Matches, which: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Samples and the training slices nearest to them, in the view that fits best.

    Args:
        comparison: the sets.
        matches: of the samples.
        which: numbers of the samples to show.

    Returns:
        (n, W, H) uint8 of each.
    """
    views = []
    for i in which:
        image = comparison.training.images[matches.nearest[i]]
        image = image[::-1] if matches.mirrored[i] else image
        views.append(np.roll(image, np.rint(matches.shift[i]).astype(int), axis=(0, 1)))
    return comparison.synthetic.images[list(which)], np.stack(views)
