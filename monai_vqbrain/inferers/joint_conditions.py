"""The joint distribution of a prior's conditions: what is not asked for is drawn from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from monai_vqbrain.networks.conditions import Known

Conditions = dict[str, str | float | None]  # name -> value; None: missing

ANY = "any"  # asked for: the condition is left out
BAND = 10  # years; ages are stored in bands of this width
QUANTILES = 257  # positions that are stored


@dataclass(frozen=True)
class JointConditions:
    """Groups of training slices that share category and age band, and the slices' positions.

    A sample's conditions are drawn from it: first a group, then an age within its band, and,
    independently, a position. It holds no identifiers, and no exact age.

    Args:
        known: the prior's conditions, see `ConditionEncoder`.
        groups: one dictionary per group: a category's value, the ends of an age band, or None
            where a value is missing.
        shares: of the training slices in each group; they sum to 1.
        positions: of training slices, evenly spaced quantiles; empty if the prior has no position.
    """

    known: Known
    groups: tuple[dict[str, Any], ...]
    shares: tuple[float, ...]
    positions: tuple[float, ...]

    @classmethod
    def fit(cls, known: Known, slices: pd.DataFrame) -> JointConditions:
        """Count the groups of training slices.

        Args:
            known: the prior's conditions.
            slices: one row per training slice, with a column per condition.

        Raises:
            ValueError: if there is no slice.
        """
        if slices.empty:
            raise ValueError("the distribution of conditions needs at least one training slice")
        position = _position(known)
        names = [name for name in known if name != position]
        columns = [_grouped(slices[name], name, known) for name in names]
        rows = list(zip(*columns, strict=True)) if columns else [()] * len(slices)
        counts = Counter(rows)
        ordered = sorted(counts, key=str)
        places: tuple[float, ...] = ()
        if position is not None:
            values = pd.to_numeric(slices[position], errors="coerce").dropna()
            steps = np.linspace(0, 1, QUANTILES)
            places = tuple(np.quantile(values, steps, method="nearest").round(5).tolist())
        groups = tuple(dict(zip(names, row, strict=True)) for row in ordered)
        return cls(known, groups, tuple(counts[row] / len(slices) for row in ordered), places)

    def draw(
        self, number: int, asked: Mapping[str, str | float], rng: np.random.Generator
    ) -> list[Conditions]:
        """Draw the conditions of samples; those of more samples begin with those of fewer.

        Args:
            number: N, how many.
            asked: name -> value, or "any" to leave a condition out. The others are drawn given
                these: from the groups that match all of them or, where none does, as many as
                possible.
            rng: the source of randomness; three numbers are taken per sample.

        Returns:
            N dictionaries with a value, or None, for each of the prior's conditions.
        """
        weights = np.array([s * m for s, m in zip(self.shares, self._match(asked), strict=True)])
        ends = np.cumsum(weights / weights.sum()) if len(weights) else np.ones(1)
        draws = rng.random((number, 3))
        return [self._one(asked, ends, *row) for row in draws.tolist()]

    def _one(
        self,
        asked: Mapping[str, str | float],
        ends: np.ndarray,
        which: float,
        age: float,
        at: float,
    ) -> Conditions:
        group = self.groups[int(np.searchsorted(ends, which, "right").clip(0, len(ends) - 1))]
        found: Conditions = {name: _within(value, age) for name, value in group.items()}
        position = _position(self.known)
        if position is not None:
            found[position] = self.positions[int(at * len(self.positions))]
        found |= {name: None if value == ANY else value for name, value in asked.items()}
        return {name: found[name] for name in self.known}

    def _match(self, asked: Mapping[str, str | float]) -> list[bool]:
        """Which groups match most of what is asked."""
        named = {n: v for n, v in asked.items() if v != ANY and n != _position(self.known)}
        hits = [sum(_matches(group[n], v) for n, v in named.items()) for group in self.groups]
        return [count == max(hits) for count in hits]

    def as_json(self) -> dict[str, Any]:
        """The fields as JSON values; `from_json` is the inverse."""
        return {
            "conditions": {name: list(values) for name, values in self.known.items()},
            "groups": [
                {"share": share, **group}
                for group, share in zip(self.groups, self.shares, strict=True)
            ],
            "positions": list(self.positions),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> JointConditions:
        """The distribution that `as_json` wrote."""
        groups: Sequence[Mapping[str, Any]] = content["groups"]
        return cls(
            content["conditions"],
            tuple({n: v for n, v in group.items() if n != "share"} for group in groups),
            tuple(float(group["share"]) for group in groups),
            tuple(content["positions"]),
        )


def _position(known: Known) -> str | None:
    return next((name for name in known if name.startswith("position")), None)


def _grouped(column: pd.Series, name: str, known: Known) -> list[Any]:
    """A category's values, or the age bands as pairs of ends within the prior's range."""
    values = list(known[name])
    if isinstance(values[0], str):
        return [str(value) if value in values else None for value in column]
    low, high = (float(value) for value in values)
    found: list[Any] = []
    for number in pd.to_numeric(column, errors="coerce").tolist():
        if np.isnan(number):
            found.append(None)
            continue
        first = number // BAND * BAND
        found.append((max(first, low), min(first + BAND, high)))
    return found


def _within(value: Any, share: float) -> Any:
    """A number in a band; other values as they are."""
    if not isinstance(value, tuple | list):
        return value
    low, high = value
    return round(low + share * (high - low), 2)


def _matches(value: Any, asked: str | float) -> bool:
    if isinstance(value, tuple | list):
        return bool(value[0] <= float(asked) <= value[1])
    return value is not None and str(value) == str(asked)
