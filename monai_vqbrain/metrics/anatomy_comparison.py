"""The anatomy of samples beside that of real slices: differences by position, and slopes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]

BINS = 8  # groups of slice positions
SMALLEST_SD = 1e-6  # of the largest value; below it a standard deviation is none
DRAWS_AT_ONCE = 32  # rows of all values that exist at once


@dataclass(frozen=True)
class Difference:
    """A measure of samples against real slices at the same positions, with 95 % intervals.

    Attributes:
        difference: mean of samples minus mean of real slices, over the standard deviation of real
            slices of one position.
        wasserstein: distance of the distributions, in the unit of the measure.
        real: mean of real slices, in the unit of the measure.
        synthetic: mean of samples.
        images_real: how many real slices.
        images_synthetic: how many samples.
        participants: how many real participants.
    """

    difference: float
    difference_low: float
    difference_high: float
    wasserstein: float
    wasserstein_low: float
    wasserstein_high: float
    real: float
    synthetic: float
    images_real: int
    images_synthetic: int
    participants: int

    def as_json(self) -> dict[str, float | int | None]:
        """The fields as JSON values; what is not finite becomes None."""
        return {k: v if math.isfinite(v) else None for k, v in asdict(self).items()}


def compare_anatomy(
    real: Mapping[str, ArrayLike],
    synthetic: Mapping[str, ArrayLike],
    participants: Sequence[str],
    positions: tuple[ArrayLike, ArrayLike] | None = None,
    bins: int = BINS,
    draws: int = 500,
    seed: int = 0,
) -> dict[str, list[Difference]]:
    """Compare the measures of samples with those of real slices, position by position.

    Intervals are from a bootstrap over participants (real) and images (samples). Those of the
    difference are percentiles. A Wasserstein distance of few slices is biased upwards, and more so
    in the draws: its interval reaches as far below the estimate as the 97.5th percentile lies
    above it. Compare real training with real held-out slices in the same way for its floor.

    Args:
        real: (N,) for each measure, of real slices, as from `measure_anatomy`.
        synthetic: (M,) for the same measures, of samples.
        participants: the N participants that the real slices belong to.
        positions: (N,) and (M,) slice positions in a common unit; unknown positions make one bin.
        bins: how many groups of positions, with about equally many real slices in each.
        draws: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        For each measure, first the mean over the bins, weighted by the samples in each, then one
        entry per bin, in ascending order of position. Slices for which a measure is NaN are left
        out; a bin without real slices or samples has NaN.

    Raises:
        ValueError: if the measures, the positions or the participants do not fit.
    """
    count, other = _lengths(real, synthetic, participants, positions)
    where_real, where = np.zeros(count, int), np.zeros(other, int)
    if positions is not None:
        where_real, where = position_bins(*positions, bins)
    participant, weights = _participant_draws(participants, draws, seed)
    weights = weights[:, participant]
    own_weights = _image_draws(where, draws, np.random.default_rng([seed, 1]))
    groups = 1 + int(max(where_real.max(), where.max()))
    return {
        name: _compare_measure(
            _Side(np.asarray(real[name], float), where_real, participant, weights),
            _Side(np.asarray(synthetic[name], float), where, np.arange(other), own_weights),
            groups,
        )
        for name in real
    }


def _lengths(
    real: Mapping[str, ArrayLike],
    synthetic: Mapping[str, ArrayLike],
    participants: Sequence[str],
    positions: tuple[ArrayLike, ArrayLike] | None,
) -> tuple[int, int]:
    if not real or set(real) != set(synthetic):
        raise ValueError(
            f"give the same measures of both sets, not {sorted(real)} and {sorted(synthetic)}"
        )
    count = {len(np.asarray(values)) for values in real.values()}
    other = {len(np.asarray(values)) for values in synthetic.values()}
    if count != {len(participants)} or len(other) != 1 or not min(count | other):
        raise ValueError(
            "give one value of each measure and one participant for each of at least one slice, "
            f"not {sorted(count)} real values, {len(participants)} participants "
            f"and {sorted(other)} values of samples"
        )
    one, two = count.pop(), other.pop()
    if positions is not None and [len(np.asarray(p)) for p in positions] != [one, two]:
        raise ValueError(
            f"give a position for each of {one} real slices and {two} samples, "
            f"not {len(np.asarray(positions[0]))} and {len(np.asarray(positions[1]))}"
        )
    return one, two


def position_bins(
    real: ArrayLike, synthetic: ArrayLike, bins: int = BINS
) -> tuple[Integers, Integers]:
    """Group slices by position, with about equally many real slices in each group.

    Args:
        real: (N,) positions of real slices.
        synthetic: (M,) positions of samples, in the same unit.
        bins: how many groups at most.

    Returns:
        (N,) and (M,) numbers of groups, in ascending order of position.
    """
    edges = np.unique(np.quantile(np.asarray(real, float), np.arange(1, bins) / bins))
    first, second = (
        np.searchsorted(edges, np.asarray(p, float), "right") for p in (real, synthetic)
    )
    return first, second


def _participant_draws(
    participants: Sequence[str], draws: int, seed: int
) -> tuple[Integers, Floats]:
    """The number of each slice's participant, and how often each participant is drawn.

    Returns:
        (N,) int, and (1 + draws, participants) counts; the first row is the set itself.
    """
    names, participant = np.unique(np.asarray(participants), return_inverse=True)
    rng = np.random.default_rng([seed, 0])
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    return participant, np.vstack([np.ones((1, len(names))), drawn]).astype(np.float32)


def _image_draws(where: Integers, draws: int, rng: np.random.Generator) -> Floats:
    """(1 + draws, M) how often each sample is drawn, within its bin."""
    weights = np.ones((1 + draws, len(where)), np.float32)
    for number in np.unique(where):
        here = where == number
        size = int(here.sum())
        weights[1:, here] = rng.multinomial(size, np.full(size, 1 / size), size=draws)
    return weights


@dataclass(frozen=True)
class _Side:
    """One measure of one of the two sets.

    Attributes:
        values: (N,).
        bins: (N,) group of positions.
        owners: (N,) number of the participant; of a sample its own.
        weights: (1 + draws, N) how often each slice is drawn.
    """

    values: Floats
    bins: Integers
    owners: Integers
    weights: Floats

    def where(self, chosen: NDArray[np.bool_]) -> _Side:
        return _Side(
            self.values[chosen], self.bins[chosen], self.owners[chosen], self.weights[:, chosen]
        )


def _compare_measure(real: _Side, synthetic: _Side, bins: int) -> list[Difference]:
    real, synthetic = (side.where(np.isfinite(side.values)) for side in (real, synthetic))
    pairs = [
        (real.where(real.bins == i), synthetic.where(synthetic.bins == i)) for i in range(bins)
    ]
    moments = [_moments(*pair) for pair in pairs]
    mean, variance, sample, distance = (np.stack(column) for column in zip(*moments, strict=True))
    sizes = np.array([[len(one.values), len(other.values)] for one, other in pairs])
    sd = np.sqrt(_over_bins(variance, sizes[:, :1]))
    least = SMALLEST_SD * np.abs(real.values).max(initial=0)  # rounding, where all are equal
    with np.errstate(divide="ignore", invalid="ignore"):
        difference = (sample - mean) / np.where(sd > least, sd, np.nan)
    columns = (difference, distance, mean, sample)
    whole = [_over_bins(column, sizes[:, 1:]) for column in columns]
    return [
        _difference(whole, real, synthetic),
        *(_difference([c[i] for c in columns], *pair) for i, pair in enumerate(pairs)),
    ]


def _moments(real: _Side, synthetic: _Side) -> tuple[Floats, Floats, Floats, Floats]:
    """Of each draw: real mean and variance, mean of samples, Wasserstein distance."""
    if not len(real.values) or not len(synthetic.values):
        nothing = np.full(len(real.weights), np.nan)
        return nothing, nothing, nothing, nothing
    middle, total = real.values.mean(), real.weights.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):  # a bin may be empty in a draw
        shifted = real.weights @ (real.values - middle) / total
        variance = real.weights @ (real.values - middle) ** 2 / total - shifted**2
        sample = synthetic.weights @ synthetic.values / synthetic.weights.sum(axis=1)
    distance = wasserstein(real.values, synthetic.values, real.weights, synthetic.weights)
    return middle + shifted, np.maximum(variance, 0), sample, distance


def wasserstein(
    one: Floats, other: Floats, one_weights: Floats, other_weights: Floats
) -> NDArray[np.float64]:
    """First Wasserstein distance of two weighted sets of numbers, for many weightings at once.

    Args:
        one: (N,) values.
        other: (M,) values.
        one_weights: (B, N), 0 or more.
        other_weights: (B, M), 0 or more.

    Returns:
        (B,) distances, in the unit of the values; NaN where all weights are 0.

    Example:
        >>> one, other = np.array([0.0, 1.0]), np.array([2.0, 3.0])
        >>> wasserstein(one, other, np.ones((1, 2)), np.ones((1, 2)))
        array([2.])
    """
    values = np.concatenate([one, other])
    order = np.argsort(values, kind="stable")
    steps = np.diff(values[order])
    found = np.empty(len(one_weights))
    for start in range(0, len(found), DRAWS_AT_ONCE):
        rows = slice(start, start + DRAWS_AT_ONCE)
        signed = np.hstack([_shares(one_weights[rows]), -_shares(other_weights[rows])])
        found[rows] = np.abs(np.cumsum(signed[:, order], axis=1)[:, :-1]) @ steps
    return found


def _shares(weights: Floats) -> NDArray[np.float64]:
    """Each row over its sum; NaN where all weights are 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(weights / weights.sum(axis=1, keepdims=True, dtype=np.float64))


def _over_bins(values: Floats, sizes: Integers) -> Floats:
    """(K, B) values as (B,) means over the bins that have one, weighted by (K, 1) sizes."""
    weights = np.where(np.isfinite(values), sizes, 0)
    with np.errstate(invalid="ignore"):
        return np.asarray((np.nan_to_num(values) * weights).sum(axis=0) / weights.sum(axis=0))


def _difference(columns: Sequence[Floats], real: _Side, synthetic: _Side) -> Difference:
    difference, distance, mean, sample = columns
    low, high = percentiles(difference[1:])
    _, above = percentiles(distance[1:])
    return Difference(
        float(difference[0]),
        low,
        high,
        float(distance[0]),
        max(0.0, 2 * float(distance[0]) - above),
        above,
        float(mean[0]),
        float(sample[0]),
        len(real.values),
        len(synthetic.values),
        len(np.unique(real.owners)),
    )


def percentiles(drawn: Floats) -> tuple[float, float]:
    """The 2.5th and 97.5th percentile of what is finite; NaN if nothing is."""
    finite = drawn[np.isfinite(drawn)]
    if not len(finite):
        return math.nan, math.nan
    low, high = np.percentile(finite, [2.5, 97.5])
    return float(low), float(high)


@dataclass(frozen=True)
class Slope:
    """Change of a measure per unit of what was asked, with a 95 % bootstrap interval."""

    slope: float
    low: float
    high: float
    images: int
    groups: int

    def as_json(self) -> dict[str, float | int | None]:
        """The fields as JSON values; what is not finite becomes None."""
        return {k: v if math.isfinite(v) else None for k, v in asdict(self).items()}


def slope_on(
    values: ArrayLike,
    asked: ArrayLike,
    groups: Sequence[str],
    position: ArrayLike | None = None,
    draws: int = 500,
    seed: int = 0,
) -> Slope:
    """The slope of a measure on an age or a diagnosis, slice positions held fixed.

    Least squares with one intercept per position. Compute it for real participants and for samples
    that were asked for the same, and show both.

    Args:
        values: (N,) such as ventricle areas.
        asked: (N,) years, or 0 and 1 for two diagnoses.
        groups: what is drawn in the bootstrap: the participant of each real slice; of a sample its
            own number, or that of its volume.
        position: (N,) integers, the slice position or its bin; all the same by default.
        draws: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        The slope, in the unit of the measure per year (or between diagnoses); NaN where what was
        asked does not vary. Slices with a NaN are left out.

    Raises:
        ValueError: if the lengths differ.
    """
    y, x = np.asarray(values, float), np.asarray(asked, float)
    place = np.zeros(len(y), int) if position is None else np.asarray(position)
    if not len(y) == len(x) == len(groups) == len(place):
        raise ValueError(
            "give one value, one asked, one group and one position per slice, "
            f"not {len(y)}, {len(x)}, {len(groups)} and {len(place)}"
        )
    finite = np.isfinite(y) & np.isfinite(x)
    if not finite.any():
        return Slope(math.nan, math.nan, math.nan, 0, 0)
    participant, weights = _participant_draws(list(np.asarray(groups)[finite]), draws, seed)
    slopes = _slopes(x[finite], y[finite], np.unique(place[finite], return_inverse=True)[1],
                     weights[:, participant])  # fmt: skip
    return Slope(float(slopes[0]), *percentiles(slopes[1:]), int(finite.sum()), weights.shape[1])


def _slopes(x: Floats, y: Floats, place: Integers, weights: Floats) -> Floats:
    """(B,) least-squares slopes with an intercept per place, for (B, N) weights."""
    x, y, weights = x - x.mean(), y - y.mean(), weights.astype(np.float64)
    at = (place[:, None] == np.arange(place.max() + 1)).astype(np.float64)  # (N, K)
    total = np.maximum(weights @ at, 1e-12)
    sum_x, sum_y = weights @ (at * x[:, None]), weights @ (at * y[:, None])
    product = weights @ (x * y) - (sum_x * sum_y / total).sum(axis=1)
    square = weights @ x**2 - (sum_x**2 / total).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(square > 1e-9, product / square, np.nan))
