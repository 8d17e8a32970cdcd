"""Folders of DICOM series, by what their headers say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from monai_vqbrain.cohorts.cohort import Cohort, Problem, Scan, visit_order
from monai_vqbrain.cohorts.columns import (
    Facts,
    check_asked,
    choose_columns,
    describe_columns,
    facts,
)
from monai_vqbrain.cohorts.dicom_series import Series, missing_slices, read_heads, series_of
from monai_vqbrain.cohorts.folder import rows_by_name, the_table
from monai_vqbrain.cohorts.names import is_dicom_name
from monai_vqbrain.cohorts.series_choice import reason
from monai_vqbrain.cohorts.walk import walk
from monai_vqbrain.errors import VQBrainError

MAGIC = b"DICM"  # after a preamble of 128 bytes
INCOMPLETE = "slices are missing between the others"


def is_dicom(source: Path) -> bool:
    """There is a DICOM file somewhere below."""
    return any(_is_dicom_file(path) for path in walk(source)[0])


def read_dicom(source: Path, columns: Mapping[str, str] | None = None) -> Cohort:
    """Read the headers of all DICOM files below a folder, and group them to series.

    T1 series are known by their descriptions; one without a description counts as T1 unless its
    echo time is long. The others, and what is no MR image, are passed over and listed; of several
    the first by `Series.rank` is used. A series with gaps between its slices is refused.
    Participant, date, sex and age are the headers', unless the one table in the folder says
    otherwise; a diagnosis is only there.

    Args:
        source: the folder.
        columns: role -> column, where the usual names do not do.

    Returns:
        The cohort, one scan for each participant and date, to be converted.

    Raises:
        VQBrainError: there is no T1 series, or none is complete.
        UsageError: pydicom is missing, or a column that was asked for does not exist.
    """
    below, unread = walk(source)
    found = series_of(read_heads(path for path in below if _is_dicom_file(path)))
    t1, others = _complete(found, source)
    if not t1:
        raise VQBrainError(_nothing(source, found, others))
    table, where, problems = the_table(source)
    problems += unread
    check_asked(columns, [table])
    chosen, rows = choose_columns(table, columns), rows_by_name(table)
    used, passed_over = _one_per_day(t1, source)
    problems += [*passed_over, *others]
    scans: list[Scan] = []
    for series in used:
        row = rows.get(series.participant)
        if rows and row is None:
            advice = "add a row for diagnosis, sex and age"
            problems.append(Problem(series.participant, f"is not in {where}", advice))
        fact = (facts(row, chosen) if row else Facts()).or_else(series.facts)
        scans.append(_scan(series, fact, source))
    return Cohort(
        root=source,
        layout="dicom",
        scans=tuple(sorted(_named_apart(scans), key=visit_order)),
        problems=tuple(problems),
        columns=describe_columns([chosen]),
    )


def _nothing(source: Path, found: Iterable[Series], problems: Iterable[Problem]) -> str:
    """Why there is no series to use."""
    for one in (problem for problem in problems if INCOMPLETE in problem.problem):
        return f"{source} has no complete T1 series: {one.path}: {one.problem}: {one.advice}"
    names = ", ".join(sorted({series.description for series in found} - {""}))
    return f"{source} has no T1 series among its DICOM files, only {names or 'nothing readable'}"


def _complete(found: Iterable[Series], source: Path) -> tuple[list[Series], list[Problem]]:
    """The T1 series without gaps, and a line for each other series and for copies."""
    used, problems = [], []
    for series in found:
        name, why = series.name(source), series.not_t1()
        if why:
            problems.append(Problem(name, f"{why}, passed over", "nothing"))
        elif missing := missing_slices(series.heads):
            whole = len(series.files) + missing
            problem = f"{missing} of {whole} {INCOMPLETE}"
            problems.append(Problem(name, problem, "get all files of the series"))
        else:
            used.append(series)
        if series.copies and not why:
            problem = f"{series.copies} files are copies of its images and were left out"
            problems.append(Problem(name, problem, "nothing, or take the copies away"))
    return used, problems


def _one_per_day(t1: Iterable[Series], source: Path) -> tuple[list[Series], list[Problem]]:
    """The best T1 series of each participant and date, and a line for each other one."""
    used: dict[tuple[str, str], Series] = {}
    problems: list[Problem] = []
    for series in sorted(t1, key=lambda one: [value for _, value in one.rank()]):
        first = used.setdefault((series.participant, series.date), series)
        if first is not series:
            why = reason(first.rank(), series.rank(), "the first found")
            problem = f"another series of the same day was used ({why}): {first.name(source)}"
            advice = "nothing, or take the other series away to use this one"
            problems.append(Problem(series.name(source), problem, advice))
    return list(used.values()), problems


def _scan(series: Series, fact: Facts, source: Path) -> Scan:
    return Scan(
        participant_id=series.participant,
        session_id=series.date,
        path=series.files[0].parent,
        form="dicom",
        files=series.files,
        source=series.name(source),
        **vars(fact),
    )


def _named_apart(scans: Sequence[Scan]) -> list[Scan]:
    """The scans; sources of the same name (participants in one folder) get the scan's name."""
    count = Counter(scan.source for scan in scans)
    return [
        replace(scan, source=f"{scan.source} of {scan.name}") if count[scan.source] > 1 else scan
        for scan in scans
    ]


def _is_dicom_file(path: Path) -> bool:
    """By its name, or by its first bytes where its ending is none of a format (`MR.1.2.840.7`)."""
    ending = path.suffix.lower()
    doubtful = ending in ("", ".mr") or ending[1:].isdigit()
    return is_dicom_name(path) or (doubtful and _has_magic(path))


def _has_magic(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(128)
            return file.read(4) == MAGIC
    except OSError:
        return False
