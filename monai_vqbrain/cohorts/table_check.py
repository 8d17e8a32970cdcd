"""Cells of a table that have no meaning here: they count as missing, which is listed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from monai_vqbrain.cohorts.cohort import Problem
from monai_vqbrain.cohorts.columns import (
    MISSING,
    cell,
    choose_columns,
    find_column,
    read_age,
    read_sex,
    records,
)

ADVICE = {"sex": "write M or F", "age": "write years from 0 to 120, such as 70.5"}
READ = {"sex": read_sex, "age": read_age}
SHOWN = 3  # values


def check_cells(
    table: pd.DataFrame,
    where: str,
    columns: Mapping[str, str] | None,
    keys: Sequence[str] = ("participant",),
) -> list[Problem]:
    """A problem for each column with sexes or ages that cannot be read, and for nameless rows.

    Args:
        table: any table, of text.
        where: its name, for the problems.
        columns: role -> column, for columns without a usual name.
        keys: the roles of columns that name what a row is about; one of them is enough.
    """
    rows = records(table)
    found = []
    names = [name for name in (find_column(table, key) for key in keys) if name]
    nameless = sum(not any(cell(row, name) for name in names) for row in rows)
    if names and nameless:
        problem = f"{nameless} of its rows have nothing in column {' or '.join(names)}, not used"
        found.append(Problem(where, problem, "fill it in, or remove the rows"))
    for role, column in choose_columns(table, columns).items():
        texts = [text for row in rows if (text := row[column].strip()).lower() not in MISSING]
        unread = [text for text in texts if role in READ and READ[role](text) in ("", None)]
        if unread:
            shown = ", ".join(repr(text[:40]) for text in list(dict.fromkeys(unread))[:SHOWN])
            problem = f"{len(unread)} of {len(texts)} values in column {column} count as missing"
            found.append(Problem(where, f"{problem}: {shown}", ADVICE[role]))
    return found
