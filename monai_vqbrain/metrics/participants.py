"""Means of slice scores over participants, with confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class MeanInterval:
    """A mean over participants with its 95 % interval; the interval of one participant is NaN."""

    mean: float
    low: float
    high: float
    participants: int
    slices: int

    def as_json(self) -> dict[str, float | int | None]:
        """The fields as JSON values; what is not finite becomes None."""
        return {k: v if math.isfinite(v) else None for k, v in asdict(self).items()}


def over_participants(values: ArrayLike, participants: Sequence[str]) -> MeanInterval:
    """The mean over slices of each participant, then over participants, with a t-interval.

    Args:
        values: (N,) one score per slice.
        participants: the N participants that the slices belong to.

    Returns:
        The mean and its 95 % interval. The interval is over participants, not over
        slices, which are not independent observations.

    Raises:
        ValueError: if there are no values, or not one participant for each.

    Example:
        >>> over_participants([0.5, 0.7, 0.8, 0.8], ["a", "a", "b", "b"]).mean
        0.7
    """
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1 or len(scores) != len(participants) or len(scores) == 0:
        raise ValueError(
            "give one participant for each of at least one value, "
            f"not {len(participants)} for values of shape {scores.shape}"
        )
    names, participant = np.unique(np.asarray(participants), return_inverse=True)
    means = np.bincount(participant, weights=scores) / np.bincount(participant)
    mean, half = float(means.mean()), _half_width(means)
    return MeanInterval(mean, mean - half, mean + half, len(names), len(scores))


def _half_width(means: np.ndarray) -> float:
    if len(means) < 2 or not np.isfinite(means).all():
        return math.nan
    from scipy.stats import t

    quantile = float(t.ppf(0.975, len(means) - 1))
    return quantile * float(means.std(ddof=1)) / math.sqrt(len(means))
