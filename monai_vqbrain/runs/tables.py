"""The table of a run's slices, and selections from it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from monai_vqbrain.cohorts import SPLITS
from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.runs.folder import MIN_BRAIN_FRACTION, SLICE_COLUMNS, RunFolder
from monai_vqbrain.tables import read_table

NUMBERS = ("position_mm", "position_rel", "brain_fraction", "age")
TEXTS = ("participant_id", "axis", "split", "stack")  # never missing
UNUSED = "unused"  # split of the slices that the prior of a fold must not see
AXES = ("axial", "coronal", "sagittal")


def read_slices_table(run: RunFolder) -> pd.DataFrame:
    """Read the rows of slices.tsv whose slices are at least 5 % brain; errors as `read_rows`."""
    return with_enough_brain(read_rows(run.slices / "slices.tsv"))


def read_rows(path: Path) -> pd.DataFrame:
    """Read slices.tsv or codes.tsv, one row per slice.

    Raises:
        VQBrainError: if the file is missing, or a column or cell is not as `prepare` writes it.
    """
    table = read_table(path)
    missing = [f"no column {name}" for name in SLICE_COLUMNS if name not in table]
    wrong = missing[0] if missing else next(_problems(table), None)
    if wrong:
        raise VQBrainError(f"{path} is damaged ({wrong}): run its stage again")
    return table


def _problems(table: pd.DataFrame) -> Iterator[str]:
    """What is wrong with the cells of a table that has all columns."""
    for name in TEXTS:
        if not all(isinstance(value, str) for value in table[name]):
            yield f"{name} is missing in a row"
    for name in ("index", *NUMBERS):
        numbers = pd.to_numeric(table[name], errors="coerce")
        if numbers.isna().sum() != table[name].isna().sum() or np.isinf(numbers).any():
            yield f"{name} holds what is no number"
    index = pd.to_numeric(table["index"], errors="coerce")
    if not ((index >= 0) & (index % 1 == 0)).all():
        yield "index holds what is no place in a stack"
    if not pd.to_numeric(table["brain_fraction"], errors="coerce").between(0, 1).all():
        yield "brain_fraction holds what is no share"
    yield from (f"split {name}" for name in set(table["split"]) - {*SPLITS, UNUSED})
    yield from (f"axis {name}" for name in set(table["axis"]) - set(AXES))
    yield from (f"stack {name}" for name in table["stack"].unique() if not is_inside(name))


def is_inside(name: Any) -> bool:
    """Whether the name of a stack leads to an uncompressed NIfTI file within its folder."""
    path = PurePosixPath(str(name))
    return path.suffix == ".nii" and not path.is_absolute() and ".." not in path.parts


def with_enough_brain(table: pd.DataFrame) -> pd.DataFrame:
    """The rows whose slices are used in training and in scores: at least 5 % brain."""
    return table[table["brain_fraction"] >= MIN_BRAIN_FRACTION]


def in_split(rows: pd.DataFrame, split: str) -> np.ndarray:
    """Which rows belong to a split: (N,) bool."""
    return (rows["split"] == split).to_numpy()
