"""One door to every kind of source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from monai_vqbrain.cohorts.bids import is_bids, read_bids
from monai_vqbrain.cohorts.caps import is_caps, read_caps
from monai_vqbrain.cohorts.cohort import Cohort
from monai_vqbrain.cohorts.dicom import is_dicom, read_dicom
from monai_vqbrain.cohorts.folder import is_folder, read_folder
from monai_vqbrain.cohorts.loni import is_loni, read_loni
from monai_vqbrain.cohorts.pictures import is_ad_nc, is_oasis, read_ad_nc, read_oasis
from monai_vqbrain.cohorts.series_choice import is_t1
from monai_vqbrain.cohorts.walk import NOWHERE, walk
from monai_vqbrain.errors import UsageError


class Layout(NamedTuple):
    """A way in which people keep images: how it is recognised, how it is read."""

    recognise: Callable[[Path], bool]
    read: Callable[[Path, Mapping[str, str] | None], Cohort]


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
    source: Path | str, layout: str = "auto", columns: Mapping[str, str] | None = None
) -> Cohort:
    """Find out who was scanned and where the files are, without opening an image.

    Args:
        source: the folder with the images.
        layout: `auto`, or one of `LAYOUTS`.
        columns: role (diagnosis, sex, age) -> column, where the usual names do not do.

    Returns:
        The cohort, one scan for each participant and session.

    Raises:
        UsageError: no such folder, nothing in it that can be read, an unknown layout or column.
        VQBrainError: the source is of a known layout but cannot be read.
    """
    source = Path(source)
    if layout not in ("auto", *LAYOUTS):
        raise UsageError(f"unknown layout {layout!r}: choose auto, {', '.join(LAYOUTS)}")
    if not source.is_dir():
        what = "is a file" if source.exists() else "does not exist"
        raise UsageError(f"{source} {what}: name the folder that holds the images")
    names = [layout] if layout != "auto" else list(LAYOUTS)
    for name in names:
        if LAYOUTS[name].recognise(source):
            return _with_unread(LAYOUTS[name].read(source, columns))
    as_what = "a source of T1 volumes" if layout == "auto" else f"the layout {layout!r}"
    raise UsageError(
        f"{source} is not {as_what}: {_there_is(source)}, no NIfTI or DICOM that could be read"
    )


def _with_unread(cohort: Cohort) -> Cohort:
    """The cohort with a line for every folder and T1 link that its reader has passed over."""
    said = {problem.path for problem in cohort.problems}
    unread = [
        problem
        for problem in walk(cohort.root)[1]
        if problem.path not in said and not (problem.problem == NOWHERE and not is_t1(problem.path))
    ]
    return replace(cohort, problems=(*cohort.problems, *unread))


def _there_is(source: Path) -> str:
    """`it is empty`, or the first few names in it."""
    names = sorted(path.name for path in source.iterdir())
    if not names:
        return "it is empty"
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"it has {', '.join(names[:5])}{more}"
