"""The table of a run's slices, and selections from it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from monai_vqbrain.runs.folder import MIN_BRAIN_FRACTION, RunFolder
from monai_vqbrain.tables import read_table


def read_slices_table(run: RunFolder) -> pd.DataFrame:
    """Read the rows of slices.tsv whose slices are at least 5 % brain."""
    return with_enough_brain(read_table(run.slices / "slices.tsv"))


def with_enough_brain(table: pd.DataFrame) -> pd.DataFrame:
    """The rows whose slices are used in training and in scores: at least 5 % brain."""
    return table[table["brain_fraction"] >= MIN_BRAIN_FRACTION]


def in_split(rows: pd.DataFrame, split: str) -> np.ndarray:
    """Which rows belong to a split: (N,) bool."""
    return (rows["split"] == split).to_numpy()
