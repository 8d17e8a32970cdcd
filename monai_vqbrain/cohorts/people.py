"""participants.tsv and sessions.tsv: what a BIDS source says of a person at a visit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from monai_vqbrain.cohorts.cohort import Problem, Scan
from monai_vqbrain.cohorts.columns import (
    Facts,
    check_asked,
    choose_columns,
    describe_columns,
    facts,
    find_column,
    records,
)
from monai_vqbrain.cohorts.table_file import read_table

Key = tuple[str, str]  # participant, session


@dataclass(frozen=True)
class People:
    """Facts by participant, and by participant and session.

    Args:
        by_person: of participants.tsv.
        by_visit: of the sessions' tables.
        columns: which column became what, see Cohort.
        problems: what is wrong with the tables.
    """

    by_person: Mapping[str, Facts]
    by_visit: Mapping[Key, Facts]
    columns: dict[str, str]
    problems: tuple[Problem, ...] = ()

    def scan(self, participant: str, session: str, **known: Any) -> Scan:
        """A scan with what is known of its visit: the session's own before the person's."""
        visit = self.by_visit.get((participant, session), Facts())
        fact = visit.or_else(self.by_person.get(participant, Facts()))
        return Scan(participant_id=participant, session_id=session, **vars(fact), **known)

    def unmatched(self, scanned: set[str]) -> list[Problem]:
        """A line for each person with a row and no image, and for each with no row."""
        if not self.by_person:
            return [
                Problem(
                    "participants.tsv",
                    "there is none, or it has no participant_id",
                    "add one for diagnosis, sex and age",
                )
            ]
        without_image = [
            Problem(person, "has no T1w image", "nothing, or add the image")
            for person in sorted(self.by_person.keys() - scanned)
        ]
        without_row = [
            Problem(person, "is not in participants.tsv", "add a row for diagnosis, sex and age")
            for person in sorted(scanned - self.by_person.keys())
        ]
        return without_image + without_row


def read_people(
    table_folder: Path, subjects: Path, columns: Mapping[str, str] | None = None
) -> People:
    """Read the tables of a source.

    Args:
        table_folder: where participants.tsv lies, and sessions.tsv if there is one for all.
        subjects: where the folders `sub-*` lie, each with its own `sub-*_sessions.tsv`.
        columns: role -> column, where the usual names do not do.

    Raises:
        UsageError: a column that was asked for does not exist.
    """
    people, problems = _participants(table_folder)
    visits, more = _sessions(table_folder, subjects)
    check_asked(columns, [people, visits])
    of_person, of_visit = choose_columns(people, columns), choose_columns(visits, columns)
    return People(
        by_person={key: facts(row, of_person) for key, row in _by_person(people).items()},
        by_visit={key: facts(row, of_visit) for key, row in _by_visit(visits).items()},
        columns=describe_columns([of_visit, of_person]),
        problems=(*problems, *more),
    )


def _participants(folder: Path) -> tuple[pd.DataFrame, list[Problem]]:
    path = folder / "participants.tsv"
    return read_table(path) if path.is_file() else (pd.DataFrame(), [])


def _by_person(table: pd.DataFrame) -> dict[str, dict[str, str]]:
    column = find_column(table, "participant")
    return {prefixed("sub", row[column]): row for row in records(table)} if column else {}


def _sessions(folder: Path, subjects: Path) -> tuple[pd.DataFrame, list[Problem]]:
    tables: list[pd.DataFrame] = []
    problems: list[Problem] = []
    for path in [*folder.glob("sessions.tsv"), *sorted(subjects.glob("sub-*/sub-*_sessions.tsv"))]:
        table, wrong = read_table(path)
        problems += wrong
        if path.parent != folder:
            table["participant_id"] = path.parent.name
        tables.append(table)
    together = pd.concat(tables, ignore_index=True).fillna("") if tables else pd.DataFrame()
    return together, problems


def _by_visit(table: pd.DataFrame) -> dict[Key, dict[str, str]]:
    person, visit = find_column(table, "participant"), find_column(table, "session")
    if person is None or visit is None:
        return {}
    return {(prefixed("sub", r[person]), prefixed("ses", r[visit])): r for r in records(table)}


def prefixed(prefix: str, label: str) -> str:
    """`02` and `sub-02` both as `sub-02`."""
    label = label.strip()
    return label if label.startswith(f"{prefix}-") else f"{prefix}-{label}"
