"""What a prior may be asked for: diagnosis, sex, age, position, each of which may be missing."""

# No postponed annotations here: TorchScript must see the buffer's type as a type.

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Values = Sequence[str | float]  # texts, or the two ends of a range
Known = Mapping[str, Values]

WAVES = 4  # of each number: half a wave over its range, a whole one, two and four
LATE_WIDTH = 16  # channels of the late conditions' vector


class ConditionEncoder(nn.Module):
    """Conditions of one slice as one vector; what is missing has a vector of its own.

    Conditions travel as rows of numbers, (B, C) float32, one column per condition: a category as
    the place of its value in the list, a number as it is, NaN for what is missing.

    Late conditions have a vector of their own, to which each adds its part: linear in a category's
    embedding, in a number and in half a wave over its range, and 0 where the value is missing. This
    is too little to distinguish many participants. Each part is multiplied by the condition's
    `strength`, 1 unless a training has set it (see LateStrength).

    Args:
        known: name -> the values that there are, as texts, or the two ends of a range of numbers.
        width: channels of the vector.
        late: names of the late conditions, whose vector follows, of `LATE_WIDTH` channels.

    Raises:
        ValueError: if a condition has no value, or its range no extent, or a late one is not known.

    Example:
        >>> encoder = ConditionEncoder({"sex": ["F", "M"], "age": [55.0, 90.0]}, width=16)
        >>> row = encoder.row({"age": 75})
        >>> row.tolist()
        [nan, 75.0]
        >>> encoder(row[None]).shape
        torch.Size([1, 16])
    """

    strength: Tensor  # (C,), read of late conditions alone

    def __init__(self, known: Known, width: int, late: Collection[str] = ()) -> None:
        super().__init__()
        self.register_buffer("strength", torch.ones(len(known)))
        self.known: dict[str, list[str | float]] = {n: list(values) for n, values in known.items()}
        for name, values in self.known.items():
            _check(name, values)
        for name in late:
            if name not in self.known:
                raise ValueError(f"there is no condition {name} that could be late")
        self.late = [name in late for name in self.known]
        self.encoders = nn.ModuleList(
            _encoder(values, LATE_WIDTH, 1) if is_late else _encoder(values, width, WAVES)
            for values, is_late in zip(self.known.values(), self.late, strict=True)
        )
        self.mix = nn.Sequential(nn.GELU(), nn.Linear(width, width), nn.GELU())
        self.width, self.late_width = width, LATE_WIDTH if late else 0

    def forward(self, rows: Tensor) -> Tensor:
        """(B, C) float, NaN for missing -> (B, width + late width); ValueError for another C."""
        if rows.shape[1] != len(self.encoders):
            raise ValueError(f"rows of {rows.shape[1]} conditions: this prior has others")
        total = torch.zeros(len(rows), self.width, dtype=rows.dtype, device=rows.device)
        late = torch.zeros(len(rows), self.late_width, dtype=rows.dtype, device=rows.device)
        for column, encoder in enumerate(self.encoders):
            vectors = encoder(rows[:, column])
            if self.late[column]:
                late = late + self.strength[column] * vectors * ~rows[:, column, None].isnan()
            else:
                total = total + vectors
        mixed: Tensor = self.mix(total)
        return torch.cat((mixed, late), dim=1)

    @torch.jit.unused
    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *args: Any) -> None:
        """Load weights; those of earlier versions have no strength."""
        state.setdefault(prefix + "strength", torch.ones(len(self.known)))
        super()._load_from_state_dict(state, prefix, *args)

    @torch.jit.unused
    def row(self, asked: Mapping[str, str | float | None]) -> Tensor:
        """The row of numbers that stands for what is asked, see `condition_row`."""
        return condition_row(self.known, asked)


def condition_row(known: Known, asked: Mapping[str, str | float | None]) -> Tensor:
    """The row of numbers that stands for what is asked: (C,) float32.

    Args:
        known: see ConditionEncoder.
        asked: name -> value; a number may be a text. What is left out, or None, is missing.

    Raises:
        ValueError: for a name or value that is not known, naming those that are.
    """
    for name in asked:
        if name not in known:
            there = f"it knows {', '.join(known)}" if known else "it knows none"
            raise ValueError(f"this prior has no condition {name}: {there}")
    row = [_number(name, values, asked.get(name)) for name, values in known.items()]
    return torch.tensor(row, dtype=torch.float32)


def _encoder(values: Values, width: int, waves: int) -> nn.Module:
    if _is_category(values):
        return _Category(len(values), width)
    return _Number(float(values[0]), float(values[1]), width, waves)


class _Category(nn.Module):
    """One vector per value, the last for what is missing."""

    def __init__(self, values: int, width: int) -> None:
        super().__init__()
        self.values = values
        self.embedding = nn.Embedding(values + 1, width)

    def forward(self, column: Tensor) -> Tensor:
        places = torch.where(column.isnan(), torch.full_like(column, self.values), column)
        vectors: Tensor = self.embedding(places.long())
        return vectors


class _Number(nn.Module):
    """Waves over the range, mixed; one vector for what is missing."""

    waves: Tensor

    def __init__(self, low: float, high: float, width: int, waves: int) -> None:
        super().__init__()
        self.low, self.high = low, high
        self.mix = nn.Linear(1 + 2 * waves, width)
        self.missing = nn.Parameter(torch.randn(width))
        self.register_buffer("waves", math.pi * 2.0 ** torch.arange(waves), persistent=False)

    def forward(self, column: Tensor) -> Tensor:
        unknown = column.isnan()[:, None]
        part = (torch.nan_to_num(column, self.low)[:, None] - self.low) / (self.high - self.low)
        angles = part * self.waves
        vectors = self.mix(torch.cat((part, angles.sin(), angles.cos()), dim=1))
        return torch.where(unknown, self.missing, vectors)


def _is_category(values: Values) -> bool:
    return isinstance(values[0], str)


def _check(name: str, values: Values) -> None:
    if not values:
        raise ValueError(f"the condition {name} has no values: leave it out, or name some")
    if not _is_category(values) and not (len(values) == 2 and float(values[0]) < float(values[1])):
        raise ValueError(f"the range of {name} must be two numbers, low and high, got {values}")


def _number(name: str, values: Values, asked: str | float | None) -> float:
    if asked is None:
        return math.nan
    if _is_category(values):
        if str(asked) not in values:
            raise ValueError(f"{name}={asked}: this prior knows {', '.join(map(str, values))}")
        return float(values.index(str(asked)))
    low, high = map(float, values)
    try:
        number = float(asked)
    except ValueError:
        number = math.nan
    if not low <= number <= high:
        raise ValueError(
            f"{name}={asked}: this prior was trained on numbers from {low:g} to {high:g}"
        )
    return number
