"""Tab-separated tables: one reader and one writer, with one rule for missing values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from monai_vqbrain.cells import plain_cell, safe_cell
from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.files import writing

MISSING = "n/a"  # as BIDS has it; "NA", "null" and "nan" are values
SLICE_KEYS = ("participant_id", "session_id", "axis", "index")  # they identify a slice
MAX_COLUMNS = 10_000
MAX_BYTES = 2**30
TEXT_COLUMNS = ("participant_id", "session_id", "diagnosis", "sex")


def read_table(path: Path) -> pd.DataFrame:
    """Read a table; `n/a` and empty cells are missing, identifiers and categories are text.

    Raises:
        VQBrainError: if the file is not there or holds no table.
    """
    return _read(path, dict.fromkeys(TEXT_COLUMNS, str), [MISSING, ""])


def read_text_table(path: Path) -> pd.DataFrame:
    """Read a table with every cell as the text that it is, `n/a` included.

    Raises:
        VQBrainError: if the file is not there or holds no table.
    """
    return _read(path, str, [])


def check_table_size(path: Path, separators: str) -> None:
    """Refuse a file whose table would take far more memory than the file.

    Args:
        path: the file.
        separators: any of these characters may separate its cells.

    Raises:
        ValueError: if it is larger than 1 GiB, or a line has more than 10,000 cells.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"it has {size} bytes, more than {MAX_BYTES}")
    with path.open("rb") as file:
        marks = [separator.encode() for separator in separators]
        columns = 1 + max((max(map(line.count, marks)) for line in file), default=0)
    if columns > MAX_COLUMNS:
        raise ValueError(f"a line has {columns} cells, more than {MAX_COLUMNS}")


def _read(path: Path, dtype: Any, missing: list[str]) -> pd.DataFrame:
    try:
        check_table_size(path, "\t")
        table = pd.read_csv(path, sep="\t", dtype=dtype, keep_default_na=False, na_values=missing)
    except (FileNotFoundError, pd.errors.EmptyDataError) as error:
        raise VQBrainError(f"{path} is missing or empty: run its stage again") from error
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        why = " ".join(str(error).split())
        raise VQBrainError(f"{path} is no table ({why}): run its stage again") from error
    return _with_texts(table, plain_cell)


def _with_texts(table: pd.DataFrame, change: Callable[[str], str]) -> pd.DataFrame:
    """The table with its texts changed."""
    changed = {
        name: column.map(lambda cell: change(cell) if isinstance(cell, str) else cell)
        for name, column in table.items()
        if not pd.api.types.is_numeric_dtype(column)
    }
    return table.assign(**{str(n): c.astype(table[n].dtype) for n, c in changed.items()})


def write_table(table: pd.DataFrame, path: Path, digits: int | None = None) -> None:
    """Write a table, whole or not at all; missing values become `n/a`.

    Texts that a spreadsheet would run as formulas are written after an apostrophe; the readers of
    this module remove it.

    Args:
        table: what to write, without its index.
        path: where to.
        digits: significant digits of floats; by default as many as are needed to distinguish them.
    """
    floats = None if digits is None else f"%.{digits}g"
    with writing(path) as temporary:
        safe = _with_texts(table, safe_cell)
        safe.to_csv(temporary, sep="\t", index=False, na_rep=MISSING, float_format=floats)


def finite_or_none(value: Any) -> float | None:
    """A finite float, or None: JSON knows no NaN."""
    return float(value) if np.isfinite(value) else None
