"""Which column of a table holds diagnosis, sex or age, and what its values mean."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from monai_vqbrain.errors import UsageError

ROLES = ("diagnosis", "sex", "age")

USUAL_NAMES: dict[str, tuple[str, ...]] = {  # the first that a table has is used
    "diagnosis": ("diagnosis", "diagnosis_sc", "group", "dx"),
    "sex": ("sex", "gender"),
    "age": ("age", "age_bl"),
    "participant": (
        "participant_id", "participant id", "participant", "subject_id", "subject id", "subject",
        "ptid", "id",
    ),
    "session": (
        "session_id", "session", "visit", "visit_id", "visit_code", "viscode", "timepoint",
        "time_point", "wave",
    ),
    "file": ("filename", "file", "path", "image"),
    "image id": ("image data id", "image_id", "image id", "image_data_id"),
}  # fmt: skip

DIAGNOSES = {
    "cn": "CN",
    "smc": "SMC",
    "mci": "MCI",
    "emci": "EMCI",
    "lmci": "LMCI",
    "ad": "AD",
    "dementia": "AD",
}
SEXES = {"m": "M", "male": "M", "man": "M", "f": "F", "female": "F", "woman": "F"}
MISSING = {"", "n/a", "na", "nan", "none", "null", "-4", "."}  # -4 is ADNI's


@dataclass(frozen=True)
class Facts:
    """The data of one row on a participant at a visit; empty or None if missing."""

    diagnosis: str = ""
    sex: str = ""
    age: float | None = None

    def or_else(self, other: Facts) -> Facts:
        """These facts, the gaps filled from `other`."""
        return Facts(
            diagnosis=self.diagnosis or other.diagnosis,
            sex=self.sex or other.sex,
            age=other.age if self.age is None else self.age,
        )


def settle(layers: Iterable[Iterable[Facts]]) -> tuple[Facts, list[str]]:
    """Merge several rows; also return the roles in which they differ, which stay missing.

    Args:
        layers: rows of the same precedence in each; a role is taken from the first layer that has
            a value for it, and empty cells never replace values.

    Example:
        >>> settle([[Facts(age=60, sex="F"), Facts(age=65)], [Facts(diagnosis="AD", age=70)]])
        (Facts(diagnosis='AD', sex='F', age=None), ['age'])
    """
    rows = [list(layer) for layer in layers]
    known: dict[str, Any] = {}
    differ = []
    for role in ROLES:
        said = ({getattr(row, role) for row in layer} - {"", None} for layer in rows)
        values = next((found for found in said if found), set())
        if len(values) == 1:
            known[role] = values.pop()
        elif values:
            differ.append(role)
    return Facts(**known), differ


def cell(row: Mapping[str, str], column: str | None) -> str:
    """A cell with a name; empty if there is no such column or the cell is n/a.

    Unlike in `facts`, NA, null and nan are names.
    """
    text = row[column].strip() if column is not None else ""
    return "" if text.lower() == "n/a" else text


def records(table: pd.DataFrame) -> list[dict[str, str]]:
    """The rows, each as column -> value."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def find_column(table: pd.DataFrame, role: str) -> str | None:
    """The column that has one of the usual names of `role`, in any case; None if there is none."""
    here = {str(name).lower(): str(name) for name in reversed(table.columns)}
    return next((here[name] for name in USUAL_NAMES[role] if name in here), None)


def choose_columns(table: pd.DataFrame, asked: Mapping[str, str] | None = None) -> dict[str, str]:
    """Select the columns of a table for diagnosis, sex and age.

    Args:
        table: any table.
        asked: role -> column; names in any case. Columns that this table lacks are ignored.

    Returns:
        role -> column, for the roles that have one.

    Example:
        >>> choose_columns(pd.DataFrame(columns=["ID", "Gender", "Group"]))
        {'diagnosis': 'Group', 'sex': 'Gender'}
    """
    chosen: dict[str, str] = {}
    for role in ROLES:
        wanted = (asked or {}).get(role)
        column = find_column(table, role) if wanted is None else _same_name(table, wanted)
        if column is not None:
            chosen[role] = column
    return chosen


def check_asked(asked: Mapping[str, str] | None, tables: Iterable[pd.DataFrame]) -> None:
    """Refuse unknown roles, and columns that no table has.

    Raises:
        UsageError: with the known names.
    """
    tables = list(tables)
    for role, column in (asked or {}).items():
        if role not in ROLES:
            raise UsageError(f"--column {role}={column}: there are only {', '.join(ROLES)}")
        if all(_same_name(table, column) is None for table in tables):
            names = dict.fromkeys(str(name) for table in tables for name in table.columns)
            there = f"the columns are {', '.join(names)}" if names else "the source has no table"
            raise UsageError(f"--column {role}={column}: no such column, {there}")


def describe_columns(chosen: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Role -> column, over tables in the order of their precedence."""
    found = {
        role: list(dict.fromkeys(c[role] for c in chosen if role in c))  # once each, in order
        for role in ROLES
    }
    return {role: ", else ".join(columns) for role, columns in found.items() if columns}


def facts(row: Mapping[str, str], chosen: Mapping[str, str]) -> Facts:
    """The data of a row, with normalised values.

    Example:
        >>> facts({"dx": "Dementia", "sex": "female", "age": "89+"},
        ...       {"diagnosis": "dx", "sex": "sex", "age": "age"})
        Facts(diagnosis='AD', sex='F', age=89.0)
    """
    raw = {role: str(row[column]).strip() for role, column in chosen.items()}
    return Facts(
        diagnosis=read_diagnosis(raw.get("diagnosis", "")),
        sex=read_sex(raw.get("sex", "")),
        age=read_age(raw.get("age", "")),
    )


def read_diagnosis(text: str) -> str:
    """CN, MCI, AD and ADNI's finer ones in capitals, dementia as AD, others unchanged."""
    return "" if text.lower() in MISSING else DIAGNOSES.get(text.lower(), text)


def read_sex(text: str) -> str:
    """M or F; empty for anything else, since codes such as 1 and 2 differ between studies."""
    return SEXES.get(text.lower(), "")


def read_age(text: str) -> float | None:
    """Years; `89+` and `>89` (as great age is hidden) are 89; None if it is no age.

    Example:
        >>> [read_age(text) for text in ("70,5", ">89", "70 years", "070Y", "70 months", "999")]
        [70.5, 89.0, 70.0, 70.0, None, None]
    """
    match = re.fullmatch(r"(?i)(?:>=?|≥)? *(\d+(?:[.,]\d*)?) *\+? *(?:y|yrs?|years?)?", text)
    age = float(match.group(1).replace(",", ".")) if match else None
    return age if age is not None and age <= 120 else None


def _same_name(table: pd.DataFrame, wanted: str) -> str | None:
    if wanted in table.columns:
        return wanted
    return next((str(n) for n in table.columns if str(n).lower() == wanted.lower()), None)
