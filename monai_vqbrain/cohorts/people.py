"""participants.tsv and sessions.tsv: what a BIDS source says of a person at a visit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from monai_vqbrain.cohorts.cohort import Problem
from monai_vqbrain.cohorts.columns import (
    Facts,
    check_asked,
    choose_columns,
    describe_columns,
    facts,
    find_column,
    read_table,
    records,
)

Key = tuple[str, str]  # participant, session


@dataclass(frozen=True)
class People:
    """Facts by participant, and by participant and session.

    Args:
        by_person: of participants.tsv.
        by_visit: of the sessions' tables.
        columns: which column became what, see Cohort.
    """

    by_person: Mapping[str, Facts]
    by_visit: Mapping[Key, Facts]
    columns: dict[str, str]

    def facts(self, participant: str, session: str) -> Facts:
        """What is known of a visit: the session's own before the person's."""
        visit = self.by_visit.get((participant, session), Facts())
        return visit.or_else(self.by_person.get(participant, Facts()))

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
        VQBrainError: a table cannot be read.
    """
    people, by_person = _participants(table_folder)
    visits, by_visit = _sessions(table_folder, subjects)
    check_asked(columns, [people, visits])
    of_person, of_visit = choose_columns(people, columns), choose_columns(visits, columns)
    return People(
        by_person={key: facts(row, of_person) for key, row in by_person.items()},
        by_visit={key: facts(row, of_visit) for key, row in by_visit.items()},
        columns=describe_columns([of_visit, of_person]),
    )


def _participants(folder: Path) -> tuple[pd.DataFrame, dict[str, dict[str, str]]]:
    path = folder / "participants.tsv"
    table = read_table(path) if path.is_file() else pd.DataFrame()
    column = find_column(table, "participant")
    if column is None:
        return table, {}
    return table, {prefixed("sub", row[column]): row for row in records(table)}


def _sessions(folder: Path, subjects: Path) -> tuple[pd.DataFrame, dict[Key, dict[str, str]]]:
    tables = []
    for path in [*folder.glob("sessions.tsv"), *sorted(subjects.glob("sub-*/sub-*_sessions.tsv"))]:
        table = read_table(path)
        if path.parent != folder:
            table["participant_id"] = path.parent.name
        tables.append(table)
    table = pd.concat(tables, ignore_index=True).fillna("") if tables else pd.DataFrame()
    person, visit = find_column(table, "participant"), find_column(table, "session")
    if person is None or visit is None:
        return table, {}
    rows = records(table)
    return table, {(prefixed("sub", r[person]), prefixed("ses", r[visit])): r for r in rows}


def prefixed(prefix: str, label: str) -> str:
    """`02` and `sub-02` both as `sub-02`."""
    label = label.strip()
    return label if label.startswith(f"{prefix}-") else f"{prefix}-{label}"
