"""A bootstrap over participants: intervals, paired differences, and balanced subsets of images."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike

REPLICATES = 1000
LEVEL = 0.95

# What is bootstrapped. Its argument is how often each group was drawn, (R, G) int64, and gives the
# statistic of each of the R draws, (R,).
Statistic = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % percentile interval.

    Attributes:
        value: the statistic of all images.
        low: 2.5th percentile of the replicates; NaN with fewer than two participants.
        high: 97.5th percentile.
        participants: how many participants were resampled.
        images: how many images they have.
    """

    value: float
    low: float
    high: float
    participants: int
    images: int

    def as_json(self) -> dict[str, float | int | None]:
        """The fields as JSON values; what is not finite becomes None."""
        return {k: v if math.isfinite(v) else None for k, v in asdict(self).items()}


def bootstrap(
    statistic: Statistic,
    images: Sequence[int] | np.ndarray,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> Interval:
    """The interval of a statistic that can be computed from how often each participant is drawn.

    Sums over each participant's images are computed once; a replicate then costs a product with
    the counts. The paired interval of a difference is that of `lambda drawn: a(drawn) - b(drawn)`:
    both terms see the same participants in each replicate.

    Args:
        statistic: (R, P) int64 counts -> (R,). One row of ones gives the value itself.
        images: (P,) how many images each participant has.
        seed: of the draws; equal seeds and equal P draw the same participants.
        replicates: R.

    Returns:
        The value and its interval. Replicates that are not finite are left out.

    Raises:
        ValueError: if there is no participant.

    Example:
        >>> sums, counts = np.array([2.0, 9.0]), np.array([4, 6])
        >>> bootstrap(lambda drawn: drawn @ sums / (drawn @ counts), counts).value
        1.1
    """
    counts = np.asarray(images, dtype=np.int64)
    if counts.ndim != 1 or len(counts) == 0:
        raise ValueError(f"give one number of images per participant, not {counts.tolist()}")
    value = float(statistic(np.ones((1, len(counts)), dtype=np.int64))[0])
    drawn = draws(len(counts), seed, replicates)
    return _interval(value, statistic(drawn), len(counts), int(counts.sum()))


def bootstrap_mean(
    values: ArrayLike, participants: Sequence[str] | np.ndarray, seed: int = 0
) -> Interval:
    """The mean over images of one value per image; the interval is over participants.

    For the paired comparison of two methods on the same images, give the differences.

    Args:
        values: (N,) numbers or booleans.
        participants: (N,) whose image each is.
        seed: of the draws.

    Returns:
        The mean and its interval.

    Raises:
        ValueError: if there is not one participant for each value.

    Example:
        >>> bootstrap_mean([0.5, 0.7, 0.8, 0.8], ["a", "a", "b", "b"]).high
        0.8
    """
    scores = np.asarray(values, dtype=np.float64)
    group, images = groups(participants, len(scores))
    sums = np.bincount(group, weights=scores, minlength=len(images))
    return bootstrap(lambda drawn: (drawn @ sums) / (drawn @ images), images, seed)


def bootstrap_images(
    statistic: Callable[[np.ndarray], float],
    participants: Sequence[str] | np.ndarray,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> Interval:
    """The interval of any statistic of images, computed again for each replicate.

    For statistics that are cheap: a median, a slope, a Wasserstein distance. An image occurs as
    often as its participant was drawn, so it must not be used where pairs of images are compared.

    Args:
        statistic: (n,) indices of images -> a number.
        participants: (N,) whose image each is.
        seed: of the draws.
        replicates: how often participants are drawn.

    Returns:
        The statistic of all images and its interval.

    Raises:
        ValueError: if there is no image.

    Example:
        >>> ages = np.array([60.0, 60.0, 70.0, 80.0])
        >>> bootstrap_images(lambda i: np.median(ages[i]), ["a", "a", "b", "c"]).value
        65.0
    """
    group, images = groups(participants)
    members = np.split(np.argsort(group, kind="stable"), np.cumsum(images)[:-1])

    def each(drawn: np.ndarray) -> np.ndarray:
        chosen = (np.repeat(np.arange(len(images)), row) for row in drawn)
        return np.array([statistic(np.concatenate([members[p] for p in row])) for row in chosen])

    return bootstrap(each, images, seed, replicates)


def balanced(participants: Sequence[str] | np.ndarray, n: int, seed: int = 0) -> np.ndarray:
    """Which images to use so that n are taken and participants are as balanced as possible.

    Any two participants differ by at most one image, except where one of them has no more. The
    images of a participant are chosen at random.

    Args:
        participants: (N,) whose image each is.
        n: how many images to take.
        seed: of the choice.

    Returns:
        (n,) int64 indices, ascending, none twice.

    Raises:
        ValueError: if n is not from 1 to N.

    Example:
        >>> labels = np.array(["a"] * 8 + ["b"] * 2 + ["c"] * 4)
        >>> labels[balanced(labels, 8)].tolist()
        ['a', 'a', 'a', 'b', 'b', 'c', 'c', 'c']
    """
    group, images = groups(participants)
    if not 1 <= n <= len(group):
        raise ValueError(f"n must be from 1 to the number of images, {len(group)}, not {n}")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(group))
    order = order[np.argsort(group[order], kind="stable")]  # by participant, shuffled inside
    turn = np.arange(len(group)) - np.repeat(np.cumsum(images) - images, images)
    tie = rng.permutation(len(images))[group[order]]  # whose last turn comes is random
    return np.sort(order[np.lexsort((tie, turn))[:n]])


def draws(participants: int, seed: int, replicates: int = REPLICATES) -> np.ndarray:
    """How often each participant is drawn, when as many are drawn with replacement.

    Args:
        participants: P.
        seed: of the draws.
        replicates: R.

    Returns:
        (R, P) int64; every row sums to P.
    """
    chance = np.full(participants, 1 / participants)
    return np.random.default_rng(seed).multinomial(participants, chance, size=replicates)


def groups(
    participants: Sequence[str] | np.ndarray, length: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Participants as numbers.

    Args:
        participants: (N,) labels.
        length: what N must be, if known.

    Returns:
        (N,) int64 numbers 0..P-1 in the order of the sorted labels, and (P,) images of each.

    Raises:
        ValueError: if there is no label, or not one label for each image.
    """
    labels = np.asarray(participants)
    if labels.ndim != 1 or len(labels) == 0 or length not in (None, len(labels)):
        wanted = "each of at least one image" if length is None else f"each of {length} images"
        raise ValueError(f"give one participant for {wanted}, not shape {labels.shape}")
    _, group, images = np.unique(labels, return_inverse=True, return_counts=True)
    return group, images


def _interval(value: float, replicates: np.ndarray, participants: int, images: int) -> Interval:
    finite = replicates[np.isfinite(replicates)]
    if participants < 2 or not len(finite):
        return Interval(value, math.nan, math.nan, participants, images)
    low, high = np.quantile(finite, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, float(low), float(high), participants, images)
