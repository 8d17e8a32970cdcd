"""The conditions of a prior: columns of a run's slices that sampling can ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from monai_vqbrain.errors import UsageError
from monai_vqbrain.networks.conditions import Known
from monai_vqbrain.provenance import read_provenance
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.tables import in_split
from monai_vqbrain.tables import read_table

CATEGORIES = ("diagnosis", "sex")
NUMBERS = ("age", "position_mm", "position_rel")
RANGE_DIGITS = 5  # of a range's ends, as slices.tsv has them


def prior_conditions(
    run_dir: Path | str, wanted: str | Sequence[str] = "auto"
) -> dict[str, list[Any]]:
    """What the training slices of a run say of themselves, as `PixelCNN(conditions=...)` takes it.

    Args:
        run_dir: the run folder.
        wanted: names of columns; or "auto" for diagnosis, sex, age and position, as far as they
            are known and differ.

    Returns:
        Category -> its values in alphabetical order; number -> its lowest and highest. Empty where
        nothing is encoded yet.

    Raises:
        UsageError: if a wanted column is no condition, or says the same of all training slices.
    """
    run = RunFolder(run_dir)
    wanted = wanted.split() if isinstance(wanted, str) and wanted != "auto" else wanted
    names = (*CATEGORIES, "age", position_column(run)) if wanted == "auto" else wanted
    unknown = [name for name in names if name not in (*CATEGORIES, *NUMBERS)]
    if unknown:
        there = ", ".join((*CATEGORIES, *NUMBERS))
        raise UsageError(f"condition_on: there is no condition {unknown[0]}; there are {there}")
    if not (run.codes / "codes.tsv").is_file():
        return {}
    table = read_table(run.codes / "codes.tsv")
    rows = table[in_split(table, "training")]
    found = {name: _values(rows[name], name) for name in names}
    same = [name for name, values in found.items() if len(values) < 2]
    if same and wanted != "auto":
        raise UsageError(f"condition_on: {same[0]} is the same or unknown for all training slices")
    return {name: values for name, values in found.items() if name not in same}


def position_column(run: RunFolder) -> str:
    """The column that says where a slice lies: mm say it in aligned volumes alone."""
    options = (read_provenance(run.slices) or {}).get("options", {})
    return "position_mm" if options.get("space") else "position_rel"


def position_condition(known: Known) -> str | None:
    """The condition of a prior that says where a slice lies, if it has one."""
    return next((name for name in ("position_mm", "position_rel") if name in known), None)


def conditions_of_row(row: Mapping[str, Any], known: Known) -> dict[str, Any]:
    """What a row of a table says of its slice, as far as a prior knows it.

    A value that training people did not have is missing; a number beyond theirs is moved to the
    end of their range.
    """
    found: dict[str, Any] = {}
    for name, values in known.items():
        value = row.get(name)
        if name in CATEGORIES:
            found[name] = value if value in values else None
        else:
            low, high = map(float, values)
            found[name] = None if _missing(value) else min(max(float(value), low), high)  # type: ignore[arg-type]
    return found


def _values(column: pd.Series, name: str) -> list[Any]:
    if name in CATEGORIES:
        return sorted(str(value) for value in column.dropna().unique())
    numbers = pd.to_numeric(column, errors="coerce").dropna()
    return sorted(
        {round(float(n), RANGE_DIGITS) for n in (numbers.min(), numbers.max())}
        if len(numbers)
        else []
    )


def _missing(value: Any) -> bool:
    return value is None or value in ("n/a", "") or pd.isna(value)
