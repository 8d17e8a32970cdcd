"""Are slices the right way round? The share of samples that look mirrored left to right.

Brains are not symmetric: the right frontal and the left occipital lobe reach further, and sulci,
veins and the scanner's own shading have a side too. A linear classifier of the difference between a
slice and its mirror image learns them from real training slices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from monai_vqbrain.metrics.anatomy import brain_masks
from monai_vqbrain.metrics.bootstrap import bootstrap_mean
from monai_vqbrain.metrics.images import ImageArray
from monai_vqbrain.metrics.plausibility import wilson

Floats = NDArray[np.floating]

SIDE = 32  # pixels along each side, to which differences are averaged
RIDGE = 1.0  # penalty, in mean squared lengths of the differences
CHUNK = 256  # slices that are floating point at once


@dataclass(frozen=True)
class Laterality:
    """A linear classifier of slices against their mirror images.

    Attributes:
        weights: (16 * 32,) float64, of the differences in one half of the frame.
    """

    weights: Floats

    def score(self, images: ImageArray) -> Floats:
        """Above 0 for slices that lie as the real training slices do, below 0 for mirrored ones.

        A slice and its mirror image have the same score with opposite signs; a slice without brain
        has 0.

        Args:
            images: (N, W, H), float in [0, 1] or uint8, the first axis from left to right.

        Returns:
            (N,) float64, about 1 for a training slice.
        """
        return np.asarray(_differences(images) @ self.weights)


@dataclass(frozen=True)
class Mirrored:
    """How many samples look mirrored, beside how many real held-out slices do.

    Single slices are hard to distinguish from their mirror images with few training
    participants: read `share` beside `real_share`. If `real_share` is near 0.5, left and right
    were not learnt, and `share` tells nothing.

    Attributes:
        share: of samples with a score below 0, with its 95 % interval (Wilson); a score of 0
            counts half.
        real_share: the same of real held-out slices; interval from a bootstrap over participants.
    """

    share: float
    low: float
    high: float
    real_share: float
    real_low: float
    real_high: float


def fit_laterality(images: ImageArray) -> Laterality:
    """Learn to distinguish real slices from their mirror images, by ridge regression.

    Each brain is moved along the first axis until its outline is centred in the frame, so that
    shifts do not count. The regression has no intercept: mirroring only changes the sign.

    Args:
        images: (N, W, H) real training slices, float in [0, 1] or uint8, axial or coronal.
    """
    x = _differences(images).astype(np.float64)
    penalty = RIDGE * float((x**2).sum()) / max(len(x), 1) + 1e-12  # slices may be symmetric
    weights = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.sum(axis=0))
    return Laterality(weights)


def count_mirrored(
    fitted: Laterality,
    synthetic: ImageArray,
    held_out: ImageArray,
    participants: Sequence[str],
    seed: int = 0,
) -> Mirrored:
    """Count samples, and real held-out slices, that look mirrored.

    Args:
        fitted: on real training slices.
        synthetic: (M, W, H), float in [0, 1] or uint8.
        held_out: (N, W, H) real slices of other participants.
        participants: the N held-out participants.
        seed: of the bootstrap.

    Raises:
        ValueError: if there are no samples, or not one participant for each held-out slice.
    """
    if not len(synthetic):
        raise ValueError("the share of mirrored samples needs at least one sample, not 0")
    below, below_real = ((1 - np.sign(fitted.score(one))) / 2 for one in (synthetic, held_out))
    ends = wilson(float(below.sum()), len(below))
    real = bootstrap_mean(below_real, participants, seed)
    return Mirrored(float(below.mean()), *ends, real.value, real.low, real.high)


def _differences(images: ImageArray) -> Floats:
    """(N, W, H) -> (N, 16 * 32) float32: slices minus their mirror images, in the left half."""
    parts = [_of_chunk(images[i : i + CHUNK]) for i in range(0, len(images), CHUNK)]
    return np.concatenate(parts) if parts else np.empty((0, SIDE // 2 * SIDE), np.float32)


def _of_chunk(images: np.ndarray) -> Floats:
    scale = 255 if images.dtype == np.uint8 else 1
    masks = brain_masks(images)
    brains = np.where(masks, images, 0).astype(np.float32) / scale
    centred = np.stack(
        [np.roll(brain, by, axis=0) for brain, by in zip(brains, _to_middle(masks), strict=True)]
    )
    difference = torch.from_numpy(centred - centred[:, ::-1])[:, None]
    small = F.adaptive_avg_pool2d(difference, SIDE)[:, 0, : SIDE // 2]
    return np.asarray(small.flatten(1).numpy())


def _to_middle(masks: NDArray[np.bool_]) -> NDArray[np.integer]:
    """By how many pixels to move each mask along W until it is centred, (B,)."""
    profile = masks.sum(axis=2)
    offset = np.arange(masks.shape[1]) - (masks.shape[1] - 1) / 2
    return -np.rint(profile @ offset / np.maximum(profile.sum(axis=1), 1)).astype(int)
