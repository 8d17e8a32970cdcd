"""Implausible samples: slices that lie outside what real slices of the same position show."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monai_vqbrain.metrics.anatomy_comparison import percentiles

Floats = NDArray[np.floating]

TESTED = ("brain_area", "parts", "asymmetry", "intensity_mean", "intensity_sd")
TAIL = 0.005  # share of real slices beyond each end of a range
GRID = 64  # positions at which ranges are held
BANDWIDTH = 0.1  # of the range of positions; sd of the kernel that pools neighbouring positions
LEAST_SPREAD = (
    0.1  # of the sd over all positions: where all real slices are the same, such as parts
)


@dataclass(frozen=True)
class PlausibleRanges:
    """What real slices show at each position.

    A value is expressed in local standard deviations from the local mean, both smoothed over
    neighbouring positions; the ends of the range are percentiles of these over all real slices, so
    that few slices per position suffice.

    Attributes:
        names: of the K measures.
        grid: (G,) positions; a single one where positions are unknown.
        centre: (K, G) local means.
        spread: (K, G) local standard deviations.
        low: (K,) lower ends, in local standard deviations.
        high: (K,) upper ends.
    """

    names: tuple[str, ...]
    grid: Floats
    centre: Floats
    spread: Floats
    low: Floats
    high: Floats

    @property
    def knows_positions(self) -> bool:
        """Whether ranges are by position; if not, they are those of all positions together."""
        return len(self.grid) > 1


@dataclass(frozen=True)
class Implausible:
    """How many samples lie outside the ranges, beside how many real held-out slices do.

    Several measures are tested, and held-out participants differ from those of training: the share
    of samples means nothing without that of real slices.

    Attributes:
        share: of samples outside the range of any measure, with its 95 % interval (Wilson).
        real_share: the same of real held-out slices; interval from a bootstrap over participants.
        by_measure: name -> share of samples, share of real slices.
        failed: name -> (M,) bool, which samples are outside.
        failed_real: name -> (N,) bool, which real slices are.
        images: how many samples.
        images_real: how many real slices.
        participants: how many held-out participants.
        knows_positions: whether ranges were by position.
    """

    share: float
    low: float
    high: float
    real_share: float
    real_low: float
    real_high: float
    by_measure: dict[str, tuple[float, float]]
    failed: dict[str, NDArray[np.bool_]]
    failed_real: dict[str, NDArray[np.bool_]]
    images: int
    images_real: int
    participants: int
    knows_positions: bool


def fit_ranges(
    real: Mapping[str, ArrayLike],
    positions: ArrayLike | None = None,
    names: Sequence[str] = TESTED,
    tail: float = TAIL,
) -> PlausibleRanges:
    """Find the ranges of real training slices.

    Args:
        real: (N,) for each measure, as from `measure_anatomy`. A measure that is NaN in all slices
            (the asymmetry of sagittal ones) is left out.
        positions: (N,) slice positions; unknown by default, the ranges are then those of all
            positions together, which are wider.
        names: the measures to test.
        tail: share of real slices beyond each end.

    Raises:
        ValueError: if a measure is missing, there is no real slice, or positions do not fit.
    """
    missing = [name for name in names if name not in real]
    if missing:
        raise ValueError(f"there is no measure {missing[0]!r}, only {', '.join(sorted(real))}")
    table = {name: np.asarray(real[name], float) for name in names}
    kept = tuple(name for name in names if np.isfinite(table[name]).any())
    if not kept:
        raise ValueError("there are no real slices to find ranges from")
    grid, place = _places(positions, len(table[kept[0]]))
    local = [_local(table[name], place, grid) for name in kept]
    centre, spread = (np.stack(part) for part in zip(*local, strict=True))
    z = [_standing(table[name], place, grid, *local[i]) for i, name in enumerate(kept)]
    ends = [np.nanpercentile(values, [100 * tail, 100 * (1 - tail)]) for values in z]
    low, high = np.array(ends).T
    return PlausibleRanges(kept, grid, centre, spread, low, high)


def outside_ranges(
    ranges: PlausibleRanges, measures: Mapping[str, ArrayLike], positions: ArrayLike | None = None
) -> dict[str, NDArray[np.bool_]]:
    """Which slices lie outside the range of each measure.

    Args:
        ranges: of real slices.
        measures: (M,) for each measure.
        positions: (M,) slice positions, in the unit of those that the ranges come from; a position
            beyond all real ones is judged as the nearest of them.

    Returns:
        For each measure, (M,) bool. A slice of which a measure is NaN (it has no brain) is outside.

    Raises:
        ValueError: if positions are given and the ranges know none, or the reverse.
    """
    if (positions is not None) != ranges.knows_positions:
        raise ValueError(
            "positions are needed, since the ranges are by position"
            if ranges.knows_positions
            else "the ranges know no positions: give them to fit_ranges too"
        )
    count = len(np.asarray(measures[ranges.names[0]]))
    _, place = _places(positions, count)
    found = {}
    for i, name in enumerate(ranges.names):
        values = np.asarray(measures[name], float)
        z = _standing(values, place, ranges.grid, ranges.centre[i], ranges.spread[i])
        # A rounding error must not push a value past an end that it is itself.
        within = (z >= ranges.low[i] - 1e-9) & (z <= ranges.high[i] + 1e-9)
        found[name] = ~within
    return found


def count_implausible(
    ranges: PlausibleRanges,
    synthetic: Mapping[str, ArrayLike],
    held_out: Mapping[str, ArrayLike],
    participants: Sequence[str],
    positions: tuple[ArrayLike, ArrayLike] | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> Implausible:
    """Count implausible samples, and real held-out slices by the same rule.

    Args:
        ranges: of real training slices.
        synthetic: (M,) for each measure, of samples.
        held_out: (N,) for each measure, of real slices of other participants.
        participants: the N held-out participants.
        positions: (M,) of samples and (N,) of real held-out slices.
        draws: of the bootstrap over participants.
        seed: of the bootstrap.

    Raises:
        ValueError: if there are no samples or held-out slices, or as `outside_ranges`.
    """
    where, where_real = positions or (None, None)
    failed = outside_ranges(ranges, synthetic, where)
    failed_real = outside_ranges(ranges, held_out, where_real)
    any_failed = np.any(list(failed.values()), axis=0)
    any_real = np.any(list(failed_real.values()), axis=0)
    if not len(any_failed) or len(any_real) != len(participants) or not len(any_real):
        raise ValueError(
            "give at least one sample and one participant for each of at least one real slice, "
            f"not {len(any_failed)} samples, {len(any_real)} real slices "
            f"and {len(participants)} participants"
        )
    return Implausible(
        float(any_failed.mean()),
        *wilson(int(any_failed.sum()), len(any_failed)),
        float(any_real.mean()),
        *_over_draws(any_real, participants, draws, seed),
        {name: (float(failed[name].mean()), float(failed_real[name].mean())) for name in failed},
        failed,
        failed_real,
        len(any_failed),
        len(any_real),
        len(set(participants)),
        ranges.knows_positions,
    )


def wilson(successes: float, trials: int) -> tuple[float, float]:
    """The 95 % interval of a share of independent trials, by Wilson's score.

    Args:
        successes: 0..trials; ties may count half.
        trials: 1 or more.

    Example:
        >>> [round(end, 3) for end in wilson(0, 100)]
        [0.0, 0.037]
    """
    z2 = 1.959964**2
    middle = (successes + z2 / 2) / (trials + z2)
    half = math.sqrt(z2 * (successes * (trials - successes) / trials + z2 / 4)) / (trials + z2)
    return max(0.0, middle - half), min(1.0, middle + half)


def _places(positions: ArrayLike | None, count: int) -> tuple[Floats, Floats]:
    """The grid of positions and the (N,) positions; one place where they are unknown."""
    if positions is None:
        return np.zeros(1), np.zeros(count)
    place = np.asarray(positions, float)
    if len(place) != count or not np.isfinite(place).all():
        raise ValueError(
            f"give a finite position for each of {count} slices, not {len(place)} of which "
            f"{int(np.isfinite(place).sum())} are finite"
        )
    return np.linspace(place.min(), place.max(), GRID), place


def _local(values: Floats, place: Floats, grid: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation at each place of the grid: (G,) and (G,).

    The mean is a local straight line, so that it does not flatten at the ends.
    """
    finite = np.isfinite(values)
    values, place = values[finite], place[finite]
    width = BANDWIDTH * (grid[-1] - grid[0]) or 1.0
    offset = (place - grid[:, None]) / width  # (G, N)
    weight = np.exp(-0.5 * offset**2)
    weight /= weight.sum(axis=1, keepdims=True)
    first, second = (weight * offset).sum(axis=1), (weight * offset**2).sum(axis=1)
    mean, slope_part = weight @ values, (weight * offset) @ values
    slope = (slope_part - first * mean) / np.maximum(second - first**2, 1e-6)
    centre = mean - slope * first
    squared = (values - np.interp(place, grid, centre)) ** 2
    least = (LEAST_SPREAD * values.std()) ** 2
    return centre, np.sqrt(weight @ squared + least + 1e-12)


def _standing(
    values: Floats, place: Floats, grid: Floats, centre: Floats, spread: Floats
) -> Floats:
    """Values as local standard deviations from the local mean."""
    middle, sd = np.interp(place, grid, centre), np.interp(place, grid, spread)
    return np.asarray((values - middle) / sd)


def _over_draws(
    failed: NDArray[np.bool_], participants: Sequence[str], draws: int, seed: int
) -> tuple[float, float]:
    """The 95 % interval of a share of slices over draws of participants."""
    _, participant = np.unique(np.asarray(participants), return_inverse=True)
    slices, bad = np.bincount(participant), np.bincount(participant, weights=failed)
    drawn = np.random.default_rng(seed).integers(0, len(slices), (draws, len(slices)))
    return percentiles(bad[drawn].sum(axis=1) / slices[drawn].sum(axis=1))
