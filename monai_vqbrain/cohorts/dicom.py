"""Folders of DICOM series, by what their headers say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_vqbrain.cohorts.cohort import Cohort, Problem, Scan, visit_order
from monai_vqbrain.cohorts.columns import (
    SEXES,
    Facts,
    check_asked,
    choose_columns,
    describe_columns,
    facts,
)
from monai_vqbrain.cohorts.folder import rows_by_name, the_table
from monai_vqbrain.cohorts.names import is_dicom_name, is_repeat, is_t1
from monai_vqbrain.cohorts.walk import walk
from monai_vqbrain.errors import UsageError, VQBrainError

MAGIC = b"DICM"  # after a preamble of 128 bytes
DEFLATED = b"1.2.840.10008.1.2.1.99"  # the transfer syntax of data sets that are compressed whole
TAGS = [
    "SeriesInstanceUID", "SeriesDescription", "SeriesNumber", "StudyDate",
    "PatientID", "PatientSex", "PatientAge",
]  # fmt: skip


@dataclass(frozen=True)
class Series:
    """One DICOM series.

    Args:
        files: its slices.
        head: of the first: what TAGS name.
    """

    files: tuple[Path, ...]
    head: Any

    @property
    def description(self) -> str:
        """`t1_mprage_sag`."""
        return str(self.head.get("SeriesDescription", "")).strip()

    @property
    def participant(self) -> str:
        """PatientID, as it can stand in a file's name; the folder's name where there is none."""
        name = str(self.head.get("PatientID", "")).strip() or self.files[0].parent.name
        return re.sub(r"[^\w.+-]", "_", name)

    @property
    def date(self) -> str:
        """Of the study, `YYYY-MM-DD`; empty where there is none."""
        date = str(self.head.get("StudyDate", ""))
        return f"{date[:4]}-{date[4:6]}-{date[6:8]}" if re.fullmatch(r"\d{8}", date) else ""

    @property
    def facts(self) -> Facts:
        """Sex and age of the header."""
        years = re.fullmatch(r"(\d{3})Y", str(self.head.get("PatientAge", "")))
        return Facts(
            sex=SEXES.get(str(self.head.get("PatientSex", "")).lower(), ""),
            age=float(years.group(1)) if years else None,
        )

    def name(self, source: Path) -> str:
        """Where it lies and what it is: `scans/anna: t1_mprage_sag (4)`."""
        place = self.files[0].parent.relative_to(source).as_posix()
        number = str(self.head.get("SeriesNumber") or "")
        return f"{place}: {self.description} ({number})"

    def rank(self) -> tuple[bool, int]:
        """Sorts the series to use first: no repeat, the newest."""
        return is_repeat(self.description), -int(self.head.get("SeriesNumber") or 0)


def is_dicom(source: Path) -> bool:
    """There is a DICOM file somewhere below."""
    return any(_is_dicom_file(path) for path in walk(source)[0])


def read_dicom(source: Path, columns: Mapping[str, str] | None = None) -> Cohort:
    """Read the headers of all DICOM files below a folder, and group them to series.

    T1 series are known by their descriptions; one without a description counts as T1, the others
    are passed over and said. Participant, date, sex and age are the headers', unless the one table
    in the folder says otherwise; a diagnosis is only there.

    Args:
        source: the folder.
        columns: role -> column, where the usual names do not do.

    Returns:
        The cohort, one scan for each participant and date, to be converted.

    Raises:
        VQBrainError: there is no T1 series.
        UsageError: pydicom is missing, or a column that was asked for does not exist.
    """
    below, unread = walk(source)
    found = _series(path for path in below if _is_dicom_file(path))
    t1 = [series for series in found if not series.description or is_t1(series.description)]
    if not t1:
        names = ", ".join(sorted({series.description for series in found})) or "nothing readable"
        raise VQBrainError(f"{source} has no T1 series among its DICOM files, only {names}")
    table, where, problems = the_table(source)
    problems += unread
    check_asked(columns, [table])
    chosen, rows = choose_columns(table, columns), rows_by_name(table)
    used, passed_over = _one_per_day(t1, source)
    problems += [*passed_over, *_not_t1(found, t1, source)]
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
        scans=tuple(sorted(scans, key=visit_order)),
        problems=tuple(problems),
        columns=describe_columns([chosen]),
    )


def _one_per_day(t1: Iterable[Series], source: Path) -> tuple[list[Series], list[Problem]]:
    """The best T1 series of each participant and date, and a line for each other one."""
    used: dict[tuple[str, str], Series] = {}
    problems: list[Problem] = []
    for series in sorted(t1, key=Series.rank):
        first = used.setdefault((series.participant, series.date), series)
        if first is not series:
            problem = f"another series of the same day was used: {first.name(source)}"
            advice = "nothing, or take the other series away to use this one"
            problems.append(Problem(series.name(source), problem, advice))
    return list(used.values()), problems


def _not_t1(found: Iterable[Series], t1: Sequence[Series], source: Path) -> list[Problem]:
    others = [series for series in found if series not in t1]
    return [Problem(s.name(source), "not a T1 series, passed over", "nothing") for s in others]


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


def _series(paths: Iterable[Path]) -> list[Series]:
    pydicom = _pydicom()
    files: dict[tuple[str, str], list[Path]] = {}
    heads: dict[tuple[str, str], Any] = {}
    for path in paths:
        try:
            head = _read_head(pydicom, path)
        except ValueError:
            continue
        key = (path.parent.as_posix(), str(head.get("SeriesInstanceUID", "")))
        files.setdefault(key, []).append(path)
        heads.setdefault(key, head)
    return [Series(tuple(paths), heads[key]) for key, paths in files.items()]


def _read_head(pydicom: Any, path: Path) -> Any:
    """The tags of a file; ValueError if it cannot be read, or would have to be inflated whole."""
    try:
        with path.open("rb") as file:
            if DEFLATED in file.read(1024):
                raise ValueError("its data set is compressed, which dcm2niix does not read")
        return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=TAGS)
    except Exception as error:  # its type depends on which byte is wrong
        raise ValueError(str(error)) from error


def _pydicom() -> Any:
    try:
        import pydicom
    except ImportError:
        raise UsageError(
            "reading DICOM needs pydicom and dcm2niix: pip install 'monai-vqbrain[dicom]'"
        ) from None
    return pydicom


def _is_dicom_file(path: Path) -> bool:
    """By its name, or by its first bytes where the name has no ending."""
    return is_dicom_name(path) or (not path.suffix and _has_magic(path))


def _has_magic(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(128)
            return file.read(4) == MAGIC
    except OSError:
        return False
