"""Reading a source of any known layout."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from monai_vqbrain.cohorts.bids import is_bids, read_bids
from monai_vqbrain.cohorts.caps import is_caps, read_caps
from monai_vqbrain.cohorts.cohort import Cohort, Problem
from monai_vqbrain.cohorts.dicom import is_dicom, read_dicom
from monai_vqbrain.cohorts.folder import is_folder, read_folder
from monai_vqbrain.cohorts.identity import identity_problems
from monai_vqbrain.cohorts.ids import with_safe_ids
from monai_vqbrain.cohorts.loni import DATE, is_loni, read_loni
from monai_vqbrain.cohorts.names import is_nearly_nifti, is_nifti, parse_name, stem
from monai_vqbrain.cohorts.pictures import is_ad_nc, is_oasis, read_ad_nc, read_oasis
from monai_vqbrain.cohorts.series_choice import names_t1
from monai_vqbrain.cohorts.walk import BROKEN_LINK, walk
from monai_vqbrain.errors import UsageError

BESIDE = ("derivatives/", "sourcedata/", "code/")  # of BIDS: files there are no raw images


class Layout(NamedTuple):
    """A layout of a source: how it is recognised, how it is read."""

    recognise: Callable[[Path], bool]
    read: Callable[[Path, Mapping[str, str] | None, Path | None], Cohort]


LAYOUTS: dict[str, Layout] = {  # the first that recognises a source reads it
    "caps": Layout(is_caps, read_caps),
    "bids": Layout(is_bids, read_bids),
    "loni": Layout(is_loni, read_loni),
    "ad_nc": Layout(is_ad_nc, read_ad_nc),
    "oasis": Layout(is_oasis, read_oasis),
    "folder": Layout(is_folder, read_folder),
    "dicom": Layout(is_dicom, read_dicom),
}


def read_cohort(
    source: Path | str,
    layout: str = "auto",
    columns: Mapping[str, str] | None = None,
    table: Path | str | None = None,
) -> Cohort:
    """Read participants, sessions and file paths of a source, without opening an image.

    Args:
        source: the folder with the images.
        layout: `auto`, or one of `LAYOUTS`.
        columns: role (diagnosis, sex, age) -> column, for columns without a usual name.
        table: the table of participants or files to read instead of those in the source.

    Returns:
        The cohort, one scan for each participant and session.

    Raises:
        UsageError: if the folder or table does not exist, has nothing readable, or the layout or
            column is unknown.
        VQBrainError: if the source has a known layout but cannot be read.
    """
    source = Path(source)
    if layout not in ("auto", *LAYOUTS):
        raise UsageError(f"unknown layout {layout!r}: choose auto, {', '.join(LAYOUTS)}")
    if not source.is_dir():
        what = "is a file" if source.exists() else "does not exist"
        raise UsageError(f"{source} {what}: name the folder that holds the images")
    table = None if table is None else Path(table)
    if table is not None and not table.is_file():
        raise UsageError(f"--table {table}: no such file")
    names = [layout] if layout != "auto" else list(LAYOUTS)
    for name in names:
        if LAYOUTS[name].recognise(source):
            cohort = _without_unwritable(LAYOUTS[name].read(source, columns, table))
            doubts = identity_problems(cohort)
            cohort = _with_unread(replace(cohort, problems=(*cohort.problems, *doubts)))
            return with_safe_ids(cohort)
    as_what = "a source of T1 volumes" if layout == "auto" else f"the layout {layout!r}"
    raise UsageError(f"{source} is not {as_what}: {_there_is(source)}, no readable NIfTI or DICOM")


def _without_unwritable(cohort: Cohort) -> Cohort:
    """The cohort without scans whose paths are not text, and a problem for each of them."""
    scans = [scan for scan in cohort.scans if not re.search("[\ud800-\udfff]", scan.source)]
    advice = "rename the file or folder in UTF-8"
    problems = [
        Problem(scan.source, "its path is not UTF-8, skipped", advice)
        for scan in cohort.scans
        if scan not in scans
    ]
    return replace(cohort, scans=tuple(scans), problems=(*cohort.problems, *problems))


def _with_unread(cohort: Cohort) -> Cohort:
    """The cohort with a problem for every folder, T1 link and image that was not read."""
    reported = {problem.path for problem in cohort.problems}
    files, problems = walk(cohort.root)
    unread = [
        problem
        for problem in problems
        if problem.path not in reported
        and (problem.problem != BROKEN_LINK or names_t1(problem.path))
    ]
    seen = {scan.path for scan in cohort.scans}
    visits = {(scan.participant_id, scan.session_id) for scan in cohort.scans}
    unread += [
        Problem(place, problem, advice)
        for path in files
        if (place := path.relative_to(cohort.root).as_posix()) not in reported and path not in seen
        for problem, advice in _why_unread(path, place, cohort.layout, visits)
    ]
    return replace(cohort, problems=(*cohort.problems, *unread))


def _why_unread(
    path: Path, place: str, layout: str, visits: Collection[tuple[str, str]]
) -> list[tuple[str, str]]:
    """The problem of a file that was not read although its name is that of an image."""
    if is_nearly_nifti(path):
        advice = "rename it to end in .nii or .nii.gz"
        return [("its ending has capitals, skipped", advice)]
    if not is_nifti(path) or place.startswith(BESIDE):
        return []
    is_t1w, name = stem(path).lower().endswith("_t1w"), parse_name(path)
    if layout == "bids" and is_t1w:
        return [("is not in sub-*/[ses-*/]anat, skipped", "move it there")]
    visit = (name.participant_id, name.session_id) if name else ("", "")
    if layout == "caps" and is_t1w and visit not in visits:
        advice = "run Clinica's t1-linear on it, or use --layout bids"
        return [("its visit has no image of t1-linear, skipped", advice)]
    if layout == "loni" and not fnmatch(path.parent.parent.name, DATE):
        return [("is not in <participant>/<series>/<date>/<image>, skipped", "move it there")]
    return []


def _there_is(source: Path) -> str:
    """`it is empty`, or the first few names in it."""
    names = sorted(path.name for path in source.iterdir())
    if not names:
        return "it is empty"
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"it has {', '.join(names[:5])}{more}"
