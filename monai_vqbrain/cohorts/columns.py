"""Which column of a table says what, and what its values mean."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from monai_vqbrain.cohorts.cohort import Problem
from monai_vqbrain.errors import UsageError
from monai_vqbrain.tables import check_table_size

ROLES = ("diagnosis", "sex", "age")

USUAL_NAMES: dict[str, tuple[str, ...]] = {  # the first that a table has is taken
    "diagnosis": ("diagnosis", "diagnosis_sc", "group", "dx"),
    "sex": ("sex", "gender"),
    "age": ("age", "age_bl"),
    "participant": ("participant_id", "participant", "subject_id", "subject", "ptid", "id"),
    "session": ("session_id", "session", "visit"),
    "file": ("filename", "file", "path", "image"),
    "image id": ("image data id", "image_id", "image id", "image_data_id"),
}

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
    """What one row says of a person at a visit; empty or None where it is silent."""

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


def read_table(path: Path) -> tuple[pd.DataFrame, list[Problem]]:
    """Read a CSV or TSV as text: every value a string, the header as it stands.

    A table in another encoding than UTF-8 is read as Latin-1, in which every byte is a letter.

    Returns:
        The table, empty if the file is none; and what is wrong with the file.
    """
    try:
        try:
            return _read(path, "utf-8-sig"), []
        except UnicodeDecodeError:
            problem = Problem(path.name, "is not UTF-8, read as Latin-1", "save it as UTF-8")
            return _read(path, "latin-1"), [problem]
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        why = str(error).strip().splitlines()[0]
        advice = "mend it; until then what it says of people is missing"
        return pd.DataFrame(), [Problem(path.name, f"cannot be read as a table ({why})", advice)]


def _read(path: Path, encoding: str) -> pd.DataFrame:
    separator = "\t" if path.suffix == ".tsv" else ","
    check_table_size(path, separator)
    table = pd.read_csv(
        path,
        sep=separator,
        dtype=str,
        keep_default_na=False,
        encoding=encoding,
        skipinitialspace=True,
    )
    return table.rename(columns=lambda name: str(name).strip())


def records(table: pd.DataFrame) -> list[dict[str, str]]:
    """The rows, each as column -> value."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def find_column(table: pd.DataFrame, role: str) -> str | None:
    """The column that has one of the usual names of `role`, in any case; None if there is none."""
    here = {str(name).lower(): str(name) for name in reversed(table.columns)}
    return next((here[name] for name in USUAL_NAMES[role] if name in here), None)


def choose_columns(table: pd.DataFrame, asked: Mapping[str, str] | None = None) -> dict[str, str]:
    """Say which column of a table becomes diagnosis, sex and age.

    Args:
        table: any table.
        asked: role -> column; names in any case. Columns that this table lacks are passed over.

    Returns:
        role -> column, without the roles that have none.

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
    """Refuse a role that there is not, and a column that no table has.

    Raises:
        UsageError: naming what there is.
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
    """Role -> column, over tables of which the first goes before the next."""
    found = {
        role: list(dict.fromkeys(c[role] for c in chosen if role in c))  # once each, in order
        for role in ROLES
    }
    return {role: ", else ".join(columns) for role, columns in found.items() if columns}


def facts(row: Mapping[str, str], chosen: Mapping[str, str]) -> Facts:
    """What a row says, its values in the project's own words.

    Example:
        >>> facts({"dx": "Dementia", "sex": "female", "age": "89+"},
        ...       {"diagnosis": "dx", "sex": "sex", "age": "age"})
        Facts(diagnosis='AD', sex='F', age=89.0)
    """
    raw = {role: str(row[column]).strip() for role, column in chosen.items()}
    return Facts(
        diagnosis=read_diagnosis(raw.get("diagnosis", "")),
        sex=SEXES.get(raw.get("sex", "").lower(), ""),
        age=read_age(raw.get("age", "")),
    )


def read_diagnosis(text: str) -> str:
    """CN, MCI, AD and ADNI's finer ones in capitals, dementia as AD, anything else as it stands."""
    return "" if text.lower() in MISSING else DIAGNOSES.get(text.lower(), text)


def read_age(text: str) -> float | None:
    """Years; `89+` (BIDS' way to hide great age) is 89; None for what is no age."""
    match = re.fullmatch(r"(\d+(?:\.\d*)?)\+?", text)
    age = float(match.group(1)) if match else None
    return age if age is not None and age <= 120 else None


def _same_name(table: pd.DataFrame, wanted: str) -> str | None:
    if wanted in table.columns:
        return wanted
    return next((str(n) for n in table.columns if str(n).lower() == wanted.lower()), None)
