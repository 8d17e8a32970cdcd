"""ADNI as LONI's archive delivers it: NIfTI or DICOM in a deep tree, a collection CSV beside it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from monai_vqbrain.cohorts.bids import another_scan
from monai_vqbrain.cohorts.cohort import Cohort, Problem, Scan, visit_order
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
from monai_vqbrain.cohorts.names import is_dicom_name, is_nifti, stem
from monai_vqbrain.cohorts.series_choice import Rank, is_t1, rank_of_series, reason
from monai_vqbrain.cohorts.walk import entries
from monai_vqbrain.errors import VQBrainError

PARTICIPANT = "[0-9][0-9][0-9]_S_[0-9]*"  # site, roster id
TREE = ("ADNI/", "*/ADNI/", "")  # where the participants' folders may be below the source
STEPS = ("gradwarp", "b1_correction", "n3", "scaled")  # ADNI's own preprocessing, in its order


@dataclass(frozen=True)
class Image:
    """One NIfTI file of the tree, or one folder of DICOM, by its place in it.

    Args:
        path: the file, or the folder.
        participant: the participant's folder, `NNN_S_NNNN`.
        series: the series' folder, e.g. `MPR__GradWarp__B1_Correction__N3__Scaled`.
        date: `YYYY-MM-DD`.
        image_id: the number at the end of the file's name; empty if there is none.
        files: of DICOM.
    """

    path: Path
    participant: str
    series: str
    date: str
    image_id: str
    files: tuple[Path, ...] = ()

    def rank(self) -> Rank:
        """As `rank_of_series`, but the most processed before a repeat; the newest image id last."""
        *first, repeat, corrected = rank_of_series(self.series)
        steps = sum(step in self.series.lower() for step in STEPS)
        number = int(self.image_id or 0)
        processed = ("most processed", -steps)
        return (*first, processed, repeat, corrected, ("highest image id", -number))


def is_loni(source: Path) -> bool:
    """There are folders named like ADNI's participants, and dates three levels down."""
    return any(next(source.glob(f"{top}{PARTICIPANT}/*/*-*-*_*"), None) for top in TREE)


def read_loni(source: Path, columns: Mapping[str, str] | None = None) -> Cohort:
    """Read a download from LONI's archive without opening an image.

    Rows of the collection CSV belong to files by image id, with or without its leading I. T1
    series are known by their names, the others are passed over and listed. Of the scans of one day
    the first by `Image.rank` is used.

    Args:
        source: the folder that holds `ADNI/` and the CSV; `ADNI/` itself will do.
        columns: role -> column, where the usual names do not do.

    Returns:
        The cohort; a session is named by its date.

    Raises:
        VQBrainError: no T1 series.
        UsageError: a column that was asked for does not exist.
    """
    images = list(_images(source))
    t1 = [image for image in images if is_t1(image.series)]
    if not t1:
        raise VQBrainError(_nothing(source, images))
    table, rows, problems = _collection(source)
    check_asked(columns, [table])
    chosen = choose_columns(table, columns)

    used, others = _one_each(source, t1, _subjects(table, rows))
    problems += [*others, *_passed_over(images)]
    problems += _not_joined([image for _, image in used], rows, source)
    problems += _without_file(images, rows)
    scans = []
    for subject, image in used:
        row = rows.get(image.image_id)
        fact = facts(row, chosen) if row else Facts()
        scans.append(
            Scan(
                participant_id=subject,
                session_id=image.date,
                path=image.path,
                form="dicom" if image.files else "nifti",
                files=image.files,
                diagnosis=fact.diagnosis,
                sex=fact.sex,
                age=fact.age,
                source=image.path.relative_to(source).as_posix(),
            )
        )
    return Cohort(
        root=source,
        layout="loni",
        scans=tuple(sorted(scans, key=visit_order)),
        problems=tuple(problems),
        columns=describe_columns([chosen]),
    )


def _images(source: Path) -> Iterable[Image]:
    """<participant>/<series>/<date>/<leaf>/<file>: whatever lies at this depth."""
    for top in TREE:
        for leaf in sorted(source.glob(f"{top}{PARTICIPANT}/*/*/*")):
            files = entries(leaf)
            dicom = tuple(file for file in files if is_dicom_name(file))
            for path in [file for file in files if is_nifti(file)] or [leaf] * bool(dicom):
                participant, series, date = leaf.parts[-4:-1]
                name = dicom[0].stem if path == leaf else stem(path)
                number = re.search(r"_I(\d+)$", name) or re.match(r"I(\d+)$", leaf.name)
                image_id = str(int(number.group(1))) if number else ""
                of_leaf = dicom if path == leaf else ()
                yield Image(path, participant, series, date[:10], image_id, of_leaf)


def _nothing(source: Path, images: list[Image]) -> str:
    if images:
        names = ", ".join(sorted({image.series for image in images}))
        return f"{source} has no T1 series, only {names}"
    return f"{source} has no NIfTI or DICOM in <participant>/<series>/<date>/<image>/"


def _collection(
    source: Path,
) -> tuple[pd.DataFrame, dict[str, dict[str, str]], list[Problem]]:
    """The collection CSV (all of them, if several), its rows by image number, what is wrong."""
    places = [source, source.parent] if source.name == "ADNI" else [source]
    places += sorted(path.parent for path in source.glob("*/ADNI"))
    tables, problems = [], []
    for path in (path for place in places for path in sorted(place.glob("*.csv"))):
        table, wrong = read_table(path)
        problems += wrong
        if (column := find_column(table, "image id")) is not None:
            tables.append(table.rename(columns={column: "Image Data ID"}))
    table = pd.concat(tables, ignore_index=True).fillna("") if tables else pd.DataFrame()
    rows = {
        str(int(number.group(1))): row
        for row in records(table)
        if (number := re.fullmatch(r"[ID]?(\d+)", row["Image Data ID"].strip(), re.IGNORECASE))
    }
    return table, rows, problems


def _subjects(table: pd.DataFrame, rows: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Image number -> Subject, which goes before the folder's name."""
    column = find_column(table, "participant")
    return {number: row[column].strip() for number, row in rows.items()} if column else {}


def _one_each(
    source: Path, images: list[Image], subjects: Mapping[str, str]
) -> tuple[list[tuple[str, Image]], list[Problem]]:
    used: dict[tuple[str, str], Image] = {}
    problems = []
    for image in sorted(images, key=lambda one: [value for _, value in one.rank()]):
        key = (subjects.get(image.image_id) or image.participant, image.date)
        first = used.setdefault(key, image)
        if first is not image:
            why = reason(first.rank(), image.rank(), "first by name")
            problems.append(
                another_scan(image.path.relative_to(source), first.path.relative_to(source), why)
            )
    return [(subject, image) for (subject, _), image in used.items()], problems


def _passed_over(images: list[Image]) -> list[Problem]:
    series = Counter(image.series for image in images if not is_t1(image.series))
    return [
        Problem(name, f"not a T1 series, passed over ({count} images)", "nothing")
        for name, count in sorted(series.items())
    ]


def _not_joined(images: list[Image], rows: Mapping[str, object], source: Path) -> list[Problem]:
    if not rows:
        return [
            Problem(
                "*.csv",
                "no collection CSV (Image Data ID, Subject, Group, Sex, Age) lies beside ADNI/",
                "download it with the images; until then diagnosis, sex and age are missing",
            )
        ]
    return [
        Problem(
            image.path.relative_to(source).as_posix(),
            "its image id is not in the collection CSV",
            "add the CSV of that download; until then diagnosis, sex and age are missing",
        )
        for image in images
        if image.image_id not in rows
    ]


def _without_file(images: list[Image], rows: Mapping[str, Mapping[str, str]]) -> list[Problem]:
    here = {image.image_id for image in images}
    return [
        Problem(f"I{number}", "is in the collection CSV and has no file", "download it again")
        for number in sorted(rows.keys() - here, key=int)
    ]
