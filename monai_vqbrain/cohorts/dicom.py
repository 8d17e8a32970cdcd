"""Folders of DICOM series, read by their headers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from monai_vqbrain.cohorts.cohort import Cohort, Problem, Scan, visit_order
from monai_vqbrain.cohorts.columns import Facts
from monai_vqbrain.cohorts.dicom_series import Series, missing_slices, read_heads, series_of
from monai_vqbrain.cohorts.folder import assumed_note
from monai_vqbrain.cohorts.folder_tables import read_folder_tables
from monai_vqbrain.cohorts.names import is_dicom_name
from monai_vqbrain.cohorts.participant_tables import bare
from monai_vqbrain.cohorts.series_choice import reason
from monai_vqbrain.cohorts.walk import walk
from monai_vqbrain.errors import VQBrainError

NO_ID = "set PatientID, which is empty, in the headers, or give NIfTI files and a table of them"
MAGIC = b"DICM"  # after a preamble of 128 bytes
INCOMPLETE = "slices are missing between the others"


def is_dicom(source: Path) -> bool:
    """Whether there is a DICOM file at any depth."""
    return any(_is_dicom_file(path) for path in walk(source)[0])


def read_dicom(
    source: Path, columns: Mapping[str, str] | None = None, table: Path | None = None
) -> Cohort:
    """Read the headers of all DICOM files below a folder, and group them into series.

    T1 series are recognised by their descriptions; one without a description counts as T1 unless
    its echo time is long. Other series, and files that are no MR images, are skipped and listed.
    Of several T1 series the first by `Series.rank` is used. A series with gaps between its slices
    is refused. Participant, date, sex and age are read from the headers unless a table in the
    folder has them; the diagnosis is read from a table only.

    Args:
        source: the folder.
        columns: role -> column, for columns without a usual name.
        table: the only table to read; by default all in the folder.

    Returns:
        The cohort, one scan for each participant and date, to be converted.

    Raises:
        VQBrainError: if there is no T1 series, or none is complete.
        UsageError: if pydicom is missing or a requested column does not exist.
    """
    below, unread = walk(source)
    found = series_of(read_heads(path for path in below if _is_dicom_file(path)))
    t1, others = _complete(found, source)
    if not t1:
        raise VQBrainError(_nothing(source, found, others))
    tables = read_folder_tables(source, columns, table).participants
    used, skipped = _one_per_day(t1, source)
    known, unfit = tables.facts((series.participant, series.date) for series in used)
    scans = [_scan(s, known[s.participant, s.date].or_else(s.facts), source) for s in used]
    participants = dict.fromkeys(series.participant for series in used)
    advice = "add a row for diagnosis, sex and age"
    problems = [
        *tables.problems,
        *unread,
        *skipped,
        *others,
        *(Problem(name, f"is not in {tables.where}", advice) for name in participants
          if tables.rows and bare(name) not in tables.rows),
        *unfit,
    ]  # fmt: skip
    return Cohort(
        root=source,
        layout="dicom",
        scans=tuple(sorted(_with_unique_sources(scans), key=visit_order)),
        problems=tuple(problems),
        columns=tables.columns,
        notes=assumed_note([not series.has_id for series in used], "series", NO_ID),
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
            problems.append(Problem(name, f"{why}, skipped", "nothing"))
        elif missing := missing_slices(series.heads):
            whole = len(series.files) + missing
            problem = f"{missing} of {whole} {INCOMPLETE}"
            problems.append(Problem(name, problem, "get all files of the series"))
        else:
            used.append(series)
        if series.copies and not why:
            problem = f"{series.copies} files are copies of its images and were left out"
            problems.append(Problem(name, problem, "nothing, or remove the copies"))
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
            advice = "nothing, or remove the other series to use this one"
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


def _with_unique_sources(scans: Sequence[Scan]) -> list[Scan]:
    """The scans; sources of the same name (participants in one folder) get the scan's name."""
    count = Counter(scan.source for scan in scans)
    return [
        replace(scan, source=f"{scan.source} of {scan.name}") if count[scan.source] > 1 else scan
        for scan in scans
    ]


def _is_dicom_file(path: Path) -> bool:
    """By its name, or by its first bytes if its ending is no format's (`MR.1.2.840.7`)."""
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
