"""Data sets that consist of pictures of slices: AD_NC (JPEG) and OASIS (PNG)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from monai_vqbrain.cohorts.cohort import Cohort, Problem, Scan, visit_order
from monai_vqbrain.cohorts.columns import check_asked
from monai_vqbrain.cohorts.walk import entries
from monai_vqbrain.errors import UsageError

GROUPS = {"AD": "AD", "NC": "CN"}
AD_NC = re.compile(r"(?P<id>\d+)_(?P<slice>\d+)\.jpe?g", re.IGNORECASE)
AD_NC_FOLDERS = {"train": "training", "test": "test"}
OASIS = re.compile(r"case_(?P<id>\d+)_slice_(?P<slice>\d+)\.nii\.png", re.IGNORECASE)
OASIS_FOLDERS = {
    "keras_png_slices_train": "training",
    "keras_png_slices_validate": "validation",
    "keras_png_slices_test": "test",
}
IDS_ARE_IMAGES = (
    "the ids of AD_NC number images, not participants: a participant scanned several times has "
    "several, which may be in different splits, so that test figures are too optimistic"
)

CASES_ARE_SCANS = (
    "the ids of the OASIS pictures number scans: each is assumed to be one participant, since no "
    "table says which scans are of the same participant"
)


@dataclass(frozen=True)
class Picture:
    """One picture of a slice.

    Args:
        path: the file.
        split: `training`, `validation` or `test`, by the data set.
        diagnosis: by its folder; empty if folders have none.
        number: of the scan.
        slice: of the slice within the scan.
    """

    path: Path
    split: str
    diagnosis: str
    number: int
    slice: int


def is_ad_nc(source: Path) -> bool:
    """Whether there is a folder such as train/AD with a JPEG named as in AD_NC."""
    return next(_ad_nc(source), None) is not None


def read_ad_nc(
    source: Path, columns: Mapping[str, str] | None = None, table: Path | None = None
) -> Cohort:
    """Read the AD_NC set: `{train,test}/{AD,NC}/<id>_<slice>.jpeg`.

    Its test folder is the test split; the validation split is drawn from its training folder.

    Args:
        source: the folder AD_NC, or the one above it.
        columns: must be empty: a set of pictures has no table.
        table: must be None.

    Returns:
        The cohort, one scan per id, its pictures in the order of their slices.

    Raises:
        UsageError: if a column or a table is given.
    """
    return _read(source, "ad_nc", list(_ad_nc(source)), columns, table, (IDS_ARE_IMAGES,))


def is_oasis(source: Path) -> bool:
    """Whether there is a folder such as keras_png_slices_train with a picture in it."""
    return next(_oasis(source), None) is not None


def read_oasis(
    source: Path, columns: Mapping[str, str] | None = None, table: Path | None = None
) -> Cohort:
    """Read the OASIS PNGs: `keras_png_slices_{train,validate,test}/case_NNN_slice_K.nii.png`.

    Its three splits are used.

    Args:
        source: the folder that contains the three, or the one above it.
        columns: must be empty: a set of pictures has no table.
        table: must be None.

    Returns:
        The cohort, one scan per case, its pictures in the order of their slices.

    Raises:
        UsageError: if a column or a table is given.
    """
    return _read(source, "oasis", list(_oasis(source)), columns, table, (CASES_ARE_SCANS,))


def _ad_nc(source: Path) -> Iterator[Picture]:
    for top in (source, source / "AD_NC"):
        for folder, split in AD_NC_FOLDERS.items():
            for group, diagnosis in GROUPS.items():
                yield from _pictures(top / folder / group, AD_NC, split, diagnosis)


def _oasis(source: Path) -> Iterator[Picture]:
    for folder, split in OASIS_FOLDERS.items():
        for place in (source / folder, *sorted(source.glob(f"*/{folder}"))):
            yield from _pictures(place, OASIS, split, "")


def _pictures(folder: Path, names: re.Pattern[str], split: str, group: str) -> Iterator[Picture]:
    for path in entries(folder):
        if match := names.fullmatch(path.name):
            yield Picture(path, split, group, int(match["id"]), int(match["slice"]))


def _read(
    source: Path,
    layout: str,
    pictures: list[Picture],
    columns: Mapping[str, str] | None,
    table: Path | None,
    notes: tuple[str, ...],
) -> Cohort:
    check_asked(columns, [])
    if table is not None:
        raise UsageError(f"--table {table}: a set of pictures has no table: omit the option")
    scans: dict[int, list[Picture]] = {}
    for picture in sorted(pictures, key=lambda one: (one.number, one.slice)):
        scans.setdefault(picture.number, []).append(picture)
    problems: list[Problem] = []
    found = []
    for number, of_scan in scans.items():
        # A scan in two folders is kept in the held-out one, so that no test data are trained on.
        home = min(of_scan, key=lambda one: ("test", "validation", "training").index(one.split))
        used = [one for one in of_scan if one.path.parent == home.path.parent]
        problems += [
            Problem(
                one.path.relative_to(source).as_posix(),
                f"{number} is also in {home.path.parent.relative_to(source)}, which was used",
                "nothing, or remove one of them",
            )
            for one in of_scan
            if one not in used
        ]
        found.append(
            Scan(
                participant_id=f"{number}",
                path=home.path.parent,
                form="pictures",
                files=tuple(one.path for one in used),
                split=home.split,
                diagnosis=home.diagnosis,
                source=f"{home.path.parent.relative_to(source).as_posix()}: {number}",
            )
        )
    return Cohort(
        root=source,
        layout=layout,
        scans=tuple(sorted(found, key=visit_order)),
        problems=tuple(problems),
        columns={"diagnosis": "folder"} if layout == "ad_nc" else {},
        notes=notes,
    )
