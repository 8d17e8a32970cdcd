"""What the tables of a source say of participants and of their visits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from monai_vqbrain.cohorts.cohort import Problem
from monai_vqbrain.cohorts.columns import (
    Facts,
    cell,
    check_asked,
    choose_columns,
    describe_columns,
    facts,
    find_column,
    records,
    settle,
)
from monai_vqbrain.cohorts.sessions import find_session
from monai_vqbrain.cohorts.table_file import read_table

Key = tuple[str, str]  # participant, session
CONFLICT = "mend the table, or name the right one with --table; until then this is missing"
NO_ROW = "add a row for it; until then only what all of the participant's rows agree on is known"


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Args:
        participant: as the table names it.
        session: as the table names it; empty where the row is about the participant.
        facts: what it says.
        of_session_table: it is of a sessions' table, which goes before the participants'.
    """

    participant: str
    session: str
    facts: Facts
    of_session_table: bool = False


@dataclass(frozen=True)
class People:
    """The rows of a source's tables.

    Args:
        where: the table of participants.
        rows: all rows, by participant without `sub-`.
        listed: the participants of the participants' table, as they stand there.
        columns: which column became what, see Cohort.
        problems: what is wrong with the tables.
    """

    where: str
    rows: Mapping[str, Sequence[Row]]
    listed: Sequence[str]
    columns: dict[str, str]
    problems: tuple[Problem, ...] = ()

    def facts(self, keys: Iterable[Key]) -> tuple[dict[Key, Facts], list[Problem]]:
        """What is known of each visit that was scanned, and a line for what does not fit.

        Rows about the visit go before those about the participant. Of a visit that no row is about
        only what all rows agree on is known.

        Args:
            keys: all scans of the cohort.
        """
        sessions: dict[str, list[str]] = defaultdict(list)
        for participant, session in keys:
            sessions[participant].append(session)
        found: dict[Key, Facts] = {}
        problems: list[Problem] = []
        for participant, of_participant in sessions.items():
            rows = self.rows.get(bare(participant), ())
            for session, (known, said) in _match(rows, of_participant).items():
                found[participant, session] = known
                name = f"{participant} {session}".strip()
                problems += [Problem(name, problem, advice) for problem, advice in said]
            problems += _without_scan(participant, rows, of_participant)
        return found, problems

    def with_rows(self, rows: Iterable[Row]) -> People:
        """The same with further rows."""
        known = [row for of_participant in self.rows.values() for row in of_participant]
        return replace(self, rows=by_participant([*known, *rows]))

    def unmatched(self, scanned: Iterable[str]) -> list[Problem]:
        """A line for each participant with a row and no image, and for each with no row."""
        if not self.listed:
            return [
                Problem(
                    self.where,
                    "there is none, or it has no participant_id",
                    "add one for diagnosis, sex and age",
                )
            ]
        images = {bare(participant): participant for participant in scanned}
        rows = {bare(participant): participant for participant in self.listed}
        without_image = [
            Problem(rows[label], "has no T1w image", "nothing, or add the image")
            for label in sorted(rows.keys() - images.keys())
        ]
        advice = "add a row for diagnosis, sex and age"
        without_row = [
            Problem(images[label], f"is not in {self.where}", advice)
            for label in sorted(images.keys() - rows.keys())
        ]
        return without_image + without_row


def read_people(
    table_folder: Path,
    subjects: Path,
    columns: Mapping[str, str] | None = None,
    table: Path | None = None,
) -> People:
    """Read the tables of a BIDS source.

    Args:
        table_folder: where participants.tsv lies, and sessions.tsv if there is one for all.
        subjects: where the folders `sub-*` lie, each with its own `sub-*_sessions.tsv`.
        columns: role -> column, where the usual names do not do.
        table: the table to read instead of participants.tsv.

    Raises:
        UsageError: a column that was asked for does not exist.
    """
    path = table or table_folder / "participants.tsv"
    participants, problems = read_table(path) if path.is_file() else (pd.DataFrame(), [])
    sessions, more = _sessions(table_folder, subjects)
    check_asked(columns, [*sessions, participants])
    listed = list(table_rows(participants, columns))
    visits = [row for table in sessions for row in table_rows(table, columns, of_sessions=True)]
    chosen = [choose_columns(table, columns) for table in (*sessions, participants)]
    return People(
        where=path.name,
        rows=by_participant([*visits, *listed]),
        listed=[f"sub-{bare(row.participant)}" for row in listed],
        columns=describe_columns(chosen),
        problems=(*problems, *more),
    )


def table_rows(
    table: pd.DataFrame, columns: Mapping[str, str] | None, of_sessions: bool = False
) -> Iterator[Row]:
    """The rows of a table that name a participant; of a sessions' table also a session."""
    person, visit = find_column(table, "participant"), find_column(table, "session")
    chosen = choose_columns(table, columns)
    for row in records(table) if person and (visit or not of_sessions) else ():
        participant, session = cell(row, person), cell(row, visit)
        if participant and (session or not of_sessions):
            yield Row(participant, session, facts(row, chosen), of_sessions)


def by_participant(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """The rows of each participant, who is named without `sub-`."""
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[bare(row.participant)].append(row)
    return dict(found)


def _sessions(folder: Path, subjects: Path) -> tuple[list[pd.DataFrame], list[Problem]]:
    tables: list[pd.DataFrame] = []
    problems: list[Problem] = []
    for path in [*folder.glob("sessions.tsv"), *sorted(subjects.glob("sub-*/sub-*_sessions.tsv"))]:
        table, wrong = read_table(path)
        if path.parent != folder:
            table["participant_id"] = path.parent.name
        missing = [r for r in ("participant", "session") if find_column(table, r) is None]
        if missing and not wrong:
            problem = f"has no column for the {missing[0]}, passed over"
            wrong = [Problem(path.name, problem, f"name it {missing[0]}_id")]
        problems += wrong
        tables.append(table)
    return tables, problems


def _match(
    rows: Sequence[Row], sessions: Sequence[str]
) -> dict[str, tuple[Facts, list[tuple[str, str]]]]:
    """What a participant's rows say of each session, and what of it does not fit."""
    about = {row.session: find_session(row.session, sessions) for row in rows if row.session}
    person = [row.facts for row in rows if not row.session]
    visits = [row for row in rows if row.session]
    sexes = [Facts(sex=row.facts.sex) for row in rows]  # the same at every visit
    found: dict[str, tuple[Facts, list[tuple[str, str]]]] = {}
    for session in sessions:
        own = [row for row in visits if about[row.session] == session]
        layers = [
            [row.facts for row in own if row.of_session_table],
            [row.facts for row in own if not row.of_session_table],
            person,
            sexes if own else [row.facts for row in visits],
        ]
        if visits and not own and session:  # neither a first visit's values nor another's
            layers = [[row.facts for row in rows]]
        known, differ = settle(layers)
        said = [(f"its rows differ in {', '.join(differ)}", CONFLICT)] if differ else []
        if visits and not own and session:
            said.append((f"no row is about this visit, only about {', '.join(about)}", NO_ROW))
        found[session] = known, said
    return found


def _without_scan(participant: str, rows: Sequence[Row], sessions: Sequence[str]) -> list[Problem]:
    """A line for the rows of a scanned participant that belong to none of the scans."""
    labels = dict.fromkeys(row.session for row in rows if row.session and any(sessions))
    lost = [label for label in labels if find_session(label, sessions) is None]
    if not lost:
        return []
    problem = f"its rows about {', '.join(lost)} belong to no image"
    return [Problem(participant, problem, "nothing, or name sessions alike in table and images")]


def bare(participant: str) -> str:
    """A participant's label without `sub-`, which tables may leave out."""
    return participant.strip().removeprefix("sub-")
