"""The data on participants and their visits in the tables of a source."""

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
from monai_vqbrain.cohorts.table_check import check_cells
from monai_vqbrain.cohorts.table_file import read_table

Key = tuple[str, str]  # participant, session
CONFLICT = "fix the table, or name the right one with --table; until then this is missing"
NO_ROW = "add a row for it; until then only the values common to the participant's rows are used"


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Args:
        participant: as the table names it.
        session: as the table names it; empty if the row is about the participant.
        facts: its data.
        of_session_table: whether it is from a sessions' table, which takes precedence over the
            participants' table.
    """

    participant: str
    session: str
    facts: Facts
    of_session_table: bool = False


@dataclass(frozen=True)
class ParticipantTables:
    """The rows of a source's tables.

    Args:
        where: the table of participants.
        rows: all rows, by participant without `sub-`.
        listed: the participants of the participants' table.
        columns: role -> column, see Cohort.
        problems: of the tables.
    """

    where: str
    rows: Mapping[str, Sequence[Row]]
    listed: Sequence[str]
    columns: dict[str, str]
    problems: tuple[Problem, ...] = ()

    def facts(self, keys: Iterable[Key]) -> tuple[dict[Key, Facts], list[Problem]]:
        """The data on each scanned visit, and a problem for each contradiction or missing row.

        Rows about the visit take precedence over those about the participant. For a visit without
        a row, the values that are equal in all rows of the participant are used.

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
            for session, (known, remarks) in _match(rows, of_participant).items():
                found[participant, session] = known
                name = f"{participant} {session}".strip()
                problems += [Problem(name, problem, advice) for problem, advice in remarks]
            problems += _without_scan(participant, rows, of_participant)
        return found, problems

    def with_rows(self, rows: Iterable[Row]) -> ParticipantTables:
        """A copy with further rows."""
        known = [row for of_participant in self.rows.values() for row in of_participant]
        return replace(self, rows=by_participant([*known, *rows]))

    def unmatched(self, scanned: Iterable[str]) -> list[Problem]:
        """A problem for each participant with a row but no image, and for each without a row."""
        if not self.listed:
            return [
                Problem(
                    self.where,
                    "does not exist, or has no participant_id",
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


def read_participant_tables(
    table_folder: Path,
    subjects: Path,
    columns: Mapping[str, str] | None = None,
    table: Path | None = None,
) -> ParticipantTables:
    """Read the tables of a BIDS source.

    Args:
        table_folder: the folder with participants.tsv, and with sessions.tsv if there is one.
        subjects: the folder with the folders `sub-*`, each with its own `sub-*_sessions.tsv`.
        columns: role -> column, for columns without a usual name.
        table: the table to read instead of participants.tsv.

    Raises:
        UsageError: if a requested column does not exist.
    """
    path = table or table_folder / "participants.tsv"
    participants, problems = read_table(path) if path.is_file() else (pd.DataFrame(), [])
    sessions, more = _sessions(table_folder, subjects, columns)
    check_asked(columns, [*sessions, participants])
    problems = [*problems, *check_cells(participants, path.name, columns)]
    listed = list(table_rows(participants, columns))
    visits = [row for table in sessions for row in table_rows(table, columns, of_sessions=True)]
    chosen = [choose_columns(table, columns) for table in (*sessions, participants)]
    return ParticipantTables(
        where=path.name,
        rows=by_participant([*visits, *listed]),
        listed=[f"sub-{bare(row.participant)}" for row in listed],
        columns=describe_columns(chosen),
        problems=(*problems, *more),
    )


def table_rows(
    table: pd.DataFrame, columns: Mapping[str, str] | None, of_sessions: bool = False
) -> Iterator[Row]:
    """The rows of a table that name a participant and, in a sessions' table, a session."""
    own, visit = find_column(table, "participant"), find_column(table, "session")
    chosen = choose_columns(table, columns)
    for row in records(table) if own and (visit or not of_sessions) else ():
        participant, session = cell(row, own), cell(row, visit)
        if participant and (session or not of_sessions):
            yield Row(participant, session, facts(row, chosen), of_sessions)


def by_participant(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """The rows of each participant, by the label without `sub-`."""
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[bare(row.participant)].append(row)
    return dict(found)


def _sessions(
    folder: Path, subjects: Path, columns: Mapping[str, str] | None
) -> tuple[list[pd.DataFrame], list[Problem]]:
    tables: list[pd.DataFrame] = []
    problems: list[Problem] = []
    for path in [*folder.glob("sessions.tsv"), *sorted(subjects.glob("sub-*/sub-*_sessions.tsv"))]:
        table, wrong = read_table(path)
        if path.parent != folder:
            table["participant_id"] = path.parent.name
        missing = [r for r in ("participant", "session") if find_column(table, r) is None]
        if missing and not wrong:
            problem = f"has no column for the {missing[0]}, skipped"
            wrong = [Problem(path.name, problem, f"name it {missing[0]}_id")]
        problems += wrong if missing else [*wrong, *check_cells(table, path.name, columns)]
        tables.append(table)
    return tables, problems


def _match(
    rows: Sequence[Row], sessions: Sequence[str]
) -> dict[str, tuple[Facts, list[tuple[str, str]]]]:
    """The data of a participant's rows on each session, and the problems with them."""
    about = {row.session: find_session(row.session, sessions) for row in rows if row.session}
    general = [row.facts for row in rows if not row.session]
    visits = [row for row in rows if row.session]
    sexes = [Facts(sex=row.facts.sex) for row in rows]  # the same at every visit
    found: dict[str, tuple[Facts, list[tuple[str, str]]]] = {}
    for session in sessions:
        own = [row for row in visits if about[row.session] == session]
        layers = [
            [row.facts for row in own if row.of_session_table],
            [row.facts for row in own if not row.of_session_table],
            general,
            sexes if own else [row.facts for row in visits],
        ]
        if visits and not own and session:  # not the values of another visit
            layers = [[row.facts for row in rows]]
        known, differ = settle(layers)
        remarks = [(f"its rows differ in {', '.join(differ)}", CONFLICT)] if differ else []
        if visits and not own and session:
            remarks.append((f"no row is about this visit, only about {', '.join(about)}", NO_ROW))
        found[session] = known, remarks
    return found


def _without_scan(participant: str, rows: Sequence[Row], sessions: Sequence[str]) -> list[Problem]:
    """A problem for the rows of a scanned participant that match none of the scans."""
    labels = dict.fromkeys(row.session for row in rows if row.session and any(sessions))
    lost = [label for label in labels if find_session(label, sessions) is None]
    if not lost:
        return []
    problem = f"its rows about {', '.join(lost)} match no image"
    return [
        Problem(participant, problem, "nothing, or use the same session names in table and images")
    ]


def bare(participant: str) -> str:
    """A participant's label without `sub-`, which is optional in tables."""
    return participant.strip().removeprefix("sub-")
