"""A plain folder of NIfTI files, with or without a table beside them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from monai_vqbrain.cohorts.cohort import Cohort, Problem, Scan, visit_order
from monai_vqbrain.cohorts.columns import (
    Facts,
    check_asked,
    choose_columns,
    describe_columns,
    facts,
    find_column,
    records,
)
from monai_vqbrain.cohorts.names import is_nifti, parse_name, stem
from monai_vqbrain.cohorts.table_file import read_table
from monai_vqbrain.cohorts.walk import walk
from monai_vqbrain.errors import VQBrainError

MASK_ENDING = "_desc-brain_mask"
OTHER_FORMATS = {
    ".mgz", ".mgh", ".hdr", ".img", ".mnc", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm", ".ima",
    ".jpg", ".jpeg", ".png",
}  # fmt: skip


def is_folder(source: Path) -> bool:
    """There is a NIfTI file somewhere below."""
    return any(is_nifti(path) for path in walk(source)[0])


def read_folder(source: Path, columns: Mapping[str, str] | None = None) -> Cohort:
    """Read every NIfTI file below a folder as one T1 volume.

    A table (the one .tsv or .csv in the folder) is joined on a file name column if it has one,
    else on the participant. Without it a file is a person, unless its name is BIDS'. A brain mask
    is `<image's name>_desc-brain_mask.nii[.gz]`, with or without the image's `_T1w`.

    Args:
        source: the folder.
        columns: role -> column, where the usual names do not do.

    Returns:
        The cohort, one scan a file.

    Raises:
        VQBrainError: no image, or two tables.
        UsageError: a column that was asked for does not exist.
    """
    below, unread = walk(source)
    files = [path for path in below if is_nifti(path)]
    images = [path for path in files if not _other_kind(path)]
    if not images:
        raise VQBrainError(f"{source} has no T1 image, only {', '.join(p.name for p in files[:3])}")
    table, where, wrong = the_table(source)
    check_asked(columns, [table])
    chosen = choose_columns(table, columns)
    rows = rows_by_name(table)

    masks = {
        path.parent / stem(path).removesuffix(MASK_ENDING): path
        for path in files
        if stem(path).endswith(MASK_ENDING)
    }
    scans, problems = [], wrong or ([] if rows else [_no_table()])
    for path, (participant, session) in _people(images, source).items():
        row = next((rows[k] for k in (path.name, stem(path), participant) if k in rows), None)
        if rows and row is None:
            problems.append(
                Problem(path.name, f"is not in {where}", "add a row for diagnosis, sex and age")
            )
        fact = facts(row, chosen) if row else Facts()
        scans.append(
            Scan(
                participant_id=_cell(table, row, "participant") or participant,
                session_id=_cell(table, row, "session") or session,
                path=path,
                mask_path=masks.get(path.parent / _plain(path)),
                diagnosis=fact.diagnosis,
                sex=fact.sex,
                age=fact.age,
                source=path.relative_to(source).as_posix(),
            )
        )
    problems += [
        Problem(
            path.relative_to(source).as_posix(), "its name says that it is no T1 image", "nothing"
        )
        for path in files
        if _other_kind(path) and not stem(path).endswith(MASK_ENDING)
    ]
    problems += [*_other_formats(source, below), *unread]
    scans, twins = _one_each(scans)
    problems += twins
    return Cohort(
        root=source,
        layout="folder",
        scans=tuple(sorted(scans, key=visit_order)),
        problems=tuple(problems),
        columns=describe_columns([chosen]),
    )


def the_table(source: Path) -> tuple[pd.DataFrame, str, list[Problem]]:
    """The folder's table, its name, what is wrong with it; an empty one if there is none."""
    paths = sorted(p for p in source.iterdir() if p.suffix in (".tsv", ".csv") and p.name[0] != ".")
    named = [path for path in paths if path.stem == "participants"]
    if len(paths) > 1 and len(named) != 1:
        names = ", ".join(path.name for path in paths)
        raise VQBrainError(f"{source} has more than one table ({names}): leave one there")
    if not paths:
        return pd.DataFrame(), "", []
    path = (named or paths)[0]
    table, problems = read_table(path)
    return table, path.name, problems


def rows_by_name(table: pd.DataFrame) -> dict[str, dict[str, str]]:
    """The rows by file name if the table has such a column, else by participant."""
    column = find_column(table, "file") or find_column(table, "participant")
    if column is None:
        return {}
    return {Path(row[column].strip()).name: row for row in records(table)}


def _cell(table: pd.DataFrame, row: Mapping[str, str] | None, role: str) -> str:
    column = find_column(table, role)
    text = row[column].strip() if row is not None and column is not None else ""
    return "" if text.lower() == "n/a" else text


def _people(images: list[Path], source: Path) -> dict[Path, tuple[str, str]]:
    """Participant and session of each file by its name; by its folder where names repeat."""
    people = {path: _person(path) for path in images}
    if len(set(people.values())) == len(images):
        return people
    return {p: ("_".join(p.relative_to(source).parent.parts) or _plain(p), "") for p in images}


def _person(path: Path) -> tuple[str, str]:
    name = parse_name(path)
    return (name.participant_id, name.session_id) if name else (_plain(path), "")


def _other_kind(path: Path) -> bool:
    """A mask, or a BIDS name that ends in something else than T1w."""
    name = parse_name(path)
    return stem(path).endswith(MASK_ENDING) or (name is not None and name.suffix != "T1w")


def _plain(path: Path) -> str:
    """`IXI013_T1w.nii.gz` as `IXI013`."""
    return stem(path).removesuffix("_T1w")


def _no_table() -> Problem:
    return Problem(
        "participants.tsv",
        "no table says who is who: each file name is taken for a person of its own",
        "add a table with filename, participant_id, session_id if somebody was scanned twice",
    )


def _other_formats(source: Path, files: list[Path]) -> list[Problem]:
    """A line for each image that is none of NIfTI's."""
    return [
        Problem(
            path.relative_to(source).as_posix(), "is no NIfTI file", "convert it to .nii or .nii.gz"
        )
        for path in files
        if path.suffix.lower() in OTHER_FORMATS
    ]


def _one_each(scans: list[Scan]) -> tuple[list[Scan], list[Problem]]:
    """The first scan of each participant and session, and a line for each of the others."""
    used: dict[str, Scan] = {}
    problems = []
    for scan in scans:
        first = used.setdefault(scan.name, scan)
        if first is not scan:
            problems.append(
                Problem(
                    scan.source,
                    f"{scan.name} already is {first.source}",
                    "give a table with filename, participant_id, session_id",
                )
            )
    return list(used.values()), problems
