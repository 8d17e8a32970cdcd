"""The tables in a plain folder: the participant of each file, and data on participants."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from monai_vqbrain.cohorts.cohort import Problem
from monai_vqbrain.cohorts.columns import (
    cell,
    check_asked,
    choose_columns,
    describe_columns,
    facts,
    find_column,
    records,
)
from monai_vqbrain.cohorts.file_names import image_id, image_number, plain
from monai_vqbrain.cohorts.names import stem
from monai_vqbrain.cohorts.participant_tables import ParticipantTables, Row, by_participant
from monai_vqbrain.cohorts.table_check import check_cells
from monai_vqbrain.cohorts.table_file import read_table

ENDINGS = (".tsv", ".csv")
NEEDED = "column that names participants or files (participant_id, filename)"


@dataclass(frozen=True)
class FolderTables:
    """The content of the tables of a folder.

    Args:
        participants: the rows that name a participant and no file.
        files: cell and row of the rows that name a file.
        images: image id and row of the rows that name an image of LONI's archive.
    """

    participants: ParticipantTables
    files: Sequence[tuple[str, Row]]
    images: Sequence[tuple[str, Row]]

    @property
    def empty(self) -> bool:
        """Whether no row names a file or a participant."""
        return not (self.participants.rows or self.files or self.images)

    def rows_of_files(self, images: Sequence[Path]) -> tuple[dict[Path, list[Row]], list[Problem]]:
        """The rows that name each file, and a problem for each that matches no file or several.

        Args:
            images: the files, relative to the source.
        """
        found: dict[Path, list[Row]] = defaultdict(list)
        problems = []
        names = _by_name(images)
        for name, row in self.files:
            meant = _matching(name, names)
            if len({path.with_name(stem(path)) for path in meant}) == 1:
                for path in meant:
                    found[path].append(row)
            elif meant:
                several = ", ".join(path.as_posix() for path in meant[:3])
                advice = "write the paths relative to the folder"
                problems.append(Problem(name, f"is ambiguous ({several}), not used", advice))
            else:
                problem = f"is in {self.participants.where} but is no image here"
                problems.append(Problem(name, problem, "nothing, or add the image"))
        numbers = {image_number(path) for path in images}
        problems += [
            Problem(
                f"I{number}",
                f"is in {self.participants.where} but has no file",
                "download it again",
            )
            for number, _ in self.images
            if number not in numbers
        ]
        for path in images:
            found[path] += [row for number, row in self.images if number == image_number(path)]
        return dict(found), problems


def read_folder_tables(
    source: Path, columns: Mapping[str, str] | None, table: Path | None = None
) -> FolderTables:
    """Read the tables in a folder, without its sub-folders.

    Args:
        source: the folder.
        columns: role -> column, for columns without a usual name.
        table: the only table to read; by default all in the folder, whose rows are merged.

    Raises:
        UsageError: if a requested column does not exist.
    """
    paths = [table] if table else sorted(p for p in source.iterdir() if is_table(p))
    paths.sort(key=lambda path: path.stem != "participants")
    tables: list[pd.DataFrame] = []
    problems: list[Problem] = []
    for path in paths:
        found, wrong = read_table(path)
        roles = ("participant", "file", "image id")
        if not wrong and not any(find_column(found, role) for role in roles):
            first = ", ".join(map(str, found.columns[:3]))
            problem = f"has no {NEEDED}, its first line is {first}: skipped"
            wrong = [Problem(path.name, problem, "add a header with such a column")]
        else:
            wrong += check_cells(found, path.name, columns, roles)
        problems += wrong
        tables.append(found)
    check_asked(columns, tables)
    rows = [row for found in tables for row in _rows(found, columns)]
    about_participants = [row for file, image, row in rows if not file and not image]
    participants = ParticipantTables(
        where=" or ".join(path.name for path in paths),
        rows=by_participant(about_participants),
        listed=[row.participant for row in about_participants],
        columns=describe_columns([choose_columns(found, columns) for found in tables]),
        problems=tuple(problems),
    )
    files = [(file, row) for file, _, row in rows if file]
    images = [(image, row) for file, image, row in rows if image and not file]
    return FolderTables(participants, files, images)


def is_table(path: Path) -> bool:
    """Whether the name has the ending of a table."""
    return path.suffix.lower() in ENDINGS and path.name[0] != "."


def _rows(table: pd.DataFrame, columns: Mapping[str, str] | None) -> Iterator[tuple[str, str, Row]]:
    """File, image id and row of each row that names one of them or a participant."""
    roles = ("file", "image id", "participant", "session")
    names = [find_column(table, role) for role in roles]
    chosen = choose_columns(table, columns)
    for row in records(table):
        file, image, participant, session = (cell(row, name) for name in names)
        if file or image_id(image) or participant:
            yield file, image_id(image), Row(participant, session, facts(row, chosen))


def _by_name(images: Iterable[Path]) -> list[dict[str, list[Path]]]:
    """The files by their names, by names without ending, and without `_T1w`."""
    ways: list[dict[str, list[Path]]] = []
    for name in (lambda path: path.name, stem, plain):
        ways.append(defaultdict(list))
        for path in images:
            ways[-1][name(path)].append(path)
    return ways


def _matching(text: str, ways: Iterable[Mapping[str, Sequence[Path]]]) -> list[Path]:
    """The files whose path ends with that of a cell, or the reverse."""
    named = PurePosixPath(text.replace("\\", "/"))
    for files in ways:
        meant = [path for path in files.get(named.name, ()) if _same_end(path, named)]
        if meant:
            return meant
    return []


def _same_end(path: Path, named: PurePosixPath) -> bool:
    here, there = path.parent.parts[::-1], named.parent.parts[::-1]
    return all(one == other for one, other in zip(here, there, strict=False))
