"""The collection CSV of LONI's archive: its data on each image, by image id."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

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
from monai_vqbrain.cohorts.file_names import image_id
from monai_vqbrain.cohorts.table_check import check_cells
from monai_vqbrain.cohorts.table_file import read_table


@dataclass(frozen=True)
class Collection:
    """The rows of all collection CSVs.

    Args:
        facts: what is known of an image, by image id without the letter I.
        subjects: the participant of an image, likewise.
        columns: role -> column, see Cohort.
        problems: what is wrong with the tables.
    """

    facts: Mapping[str, Facts]
    subjects: Mapping[str, str]
    columns: dict[str, str]
    problems: tuple[Problem, ...]


def read_collection(paths: Iterable[Path], columns: Mapping[str, str] | None) -> Collection:
    """Read the tables that have a column of image ids, and merge their rows.

    Args:
        paths: tables; those without image ids are skipped.
        columns: role -> column, for columns without a usual name.

    Raises:
        UsageError: if a requested column does not exist.
    """
    tables, problems = [], []
    for path in paths:
        table, wrong = read_table(path)
        problems += wrong
        if find_column(table, "image id") is not None:
            problems += check_cells(table, path.name, columns, ("image id",))
            tables.append(table)
    check_asked(columns, tables)
    found: dict[str, list[Facts]] = defaultdict(list)
    subjects: dict[str, dict[str, None]] = defaultdict(dict)
    for table in tables:
        image, participant = find_column(table, "image id"), find_column(table, "participant")
        chosen = choose_columns(table, columns)
        for row in records(table):
            number = image_id(cell(row, image))
            if number:
                found[number].append(facts(row, chosen))
                subjects[number].update(dict.fromkeys(filter(None, [cell(row, participant)])))
    settled = {number: settle([rows]) for number, rows in found.items()}
    for number, (_, differ) in settled.items():
        several = ["subject"] if len(subjects[number]) > 1 else []
        if differ or several:
            problem = f"its rows differ in {', '.join(several + differ)}"
            advice = "fix the CSV, or name the right one with --table; until then this is missing"
            problems.append(Problem(f"I{number}", problem, advice))
    return Collection(
        facts={number: known for number, (known, _) in settled.items()},
        subjects={n: next(iter(names)) for n, names in subjects.items() if len(names) == 1},
        columns=describe_columns([choose_columns(table, columns) for table in tables]),
        problems=tuple(problems),
    )
