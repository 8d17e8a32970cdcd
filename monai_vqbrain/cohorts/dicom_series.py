"""One DICOM series: the data of its headers, and whether its slices are complete."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from monai_vqbrain.cohorts.columns import SEXES, Facts
from monai_vqbrain.cohorts.series_choice import Rank, is_t1, rank_of_series
from monai_vqbrain.errors import UsageError

DATES = ("StudyDate", "SeriesDate", "AcquisitionDate")  # the first known one is the visit's
TAGS = [
    "SOPClassUID", "SOPInstanceUID", "Modality", "ImageType", "SeriesInstanceUID",
    "SeriesDescription", "ProtocolName", "SeriesNumber", "PatientID", "PatientSex",
    "PatientAge", "PatientBirthDate", "MRAcquisitionType", "EchoTime", "ContrastBolusAgent",
    "ImagePositionPatient", "ImageOrientationPatient", "SliceThickness", "SpacingBetweenSlices",
    *DATES,
]  # fmt: skip
DEFLATED = b"1.2.840.10008.1.2.1.99"  # the transfer syntax of compressed data sets
MR_CLASSES = {  # storage classes of MR images: single, enhanced and legacy converted
    f"1.2.840.10008.5.1.4.1.1.4{part}" for part in ("", ".1", ".4")
}
NO_AGENT = {"", "NONE", "NO", "N/A", "NA"}
REFORMATTED = {"SECONDARY", "MPR", "REFORMATTED", "PROJECTION IMAGE"}
NOT_MAGNITUDE = {"P", "PHASE", "PHASE MAP", "R", "REAL", "I", "IMAGINARY"}
DAYS_PER_UNIT = {"Y": 365.25, "M": 365.25 / 12, "W": 7.0, "D": 1.0}
OLDEST = 120  # years; greater ages come from invented birth dates
NO_BIRTH_DATE = date(1900, 1, 1)  # written by anonymisation
LONGEST_T1_ECHO = 30.0  # ms; longer echo times are of T2
GAP = 1.5  # times the usual distance of slices: wider gaps miss slices
SAME_PLACE_MM = 0.01


@dataclass(frozen=True)
class Series:
    """One DICOM series.

    Args:
        files: its slices.
        heads: their headers, restricted to TAGS.
        copies: the number of further files with the same images.
    """

    files: tuple[Path, ...]
    heads: tuple[Any, ...]
    copies: int = 0

    @property
    def head(self) -> Any:
        """The header of the first slice."""
        return self.heads[0]

    @property
    def description(self) -> str:
        """`t1_mprage_sag`; or the protocol's name if there is none."""
        return _text(self.head, "SeriesDescription") or _text(self.head, "ProtocolName")

    @property
    def participant(self) -> str:
        """PatientID; or the folder's name if there is none."""
        return _text(self.head, "PatientID") or self.files[0].parent.name

    @property
    def has_id(self) -> bool:
        """Whether the header names the participant."""
        return bool(_text(self.head, "PatientID"))

    @property
    def date(self) -> str:
        """Date of the study, else of the series or images, `YYYY-MM-DD`; empty if there is none."""
        found = _scan_date(self.head)
        return found.isoformat() if found else ""

    @property
    def facts(self) -> Facts:
        """Sex and age from the header."""
        sex = SEXES.get(_text(self.head, "PatientSex").lower(), "")
        return Facts(sex=sex, age=age_in_years(self.head))

    def name(self, source: Path) -> str:
        """Folder, description and number: `scans/anna: t1_mprage_sag (4)`."""
        place = self.files[0].parent.relative_to(source).as_posix()
        return f"{place}: {self.description} ({_text(self.head, 'SeriesNumber')})"

    def not_t1(self) -> str:
        """Why it is no T1-weighted image; empty if it is one."""
        kinds = {str(kind).upper() for kind in self.head.get("ImageType") or []}
        if not is_mr_image(self.head):
            return "not an MR image"
        if "LOCALIZER" in kinds or any("MAP" in kind.split() for kind in kinds):
            return f"a localizer or map ({', '.join(sorted(kinds))})"
        if kinds & NOT_MAGNITUDE and "M" not in kinds:
            return "not a magnitude image"
        if self.description:
            return "" if is_t1(self.description) else "not a T1 series"
        echo = _number(self.head, "EchoTime")
        return f"an echo time of {echo:g} ms" if echo >= LONGEST_T1_ECHO else ""

    def rank(self) -> Rank:
        """As `rank_of_series`, with the data of the header; then by the highest series number."""
        kinds = {str(kind).upper() for kind in self.head.get("ImageType") or []}
        acquisition = _text(self.head, "MRAcquisitionType").upper()
        ranked = rank_of_series(
            self.description,
            reformatted=bool(kinds & REFORMATTED) if kinds else None,
            acquisition=acquisition if acquisition in ("2D", "3D") else "",
            contrast=_text(self.head, "ContrastBolusAgent").upper() not in NO_AGENT,
        )
        return (*ranked, ("highest series number", -int(_number(self.head, "SeriesNumber"))))


def is_mr_image(head: Any) -> bool:
    """By the storage class of the file, else by its modality."""
    meta = getattr(head, "file_meta", {})
    stored = _text(head, "SOPClassUID") or _text(meta, "MediaStorageSOPClassUID")
    return (not stored or stored in MR_CLASSES) and _text(head, "Modality") in (
        ("", "MR") if stored else ("MR",)
    )


def age_in_years(head: Any) -> float | None:
    """The age of PatientAge (`070Y`, `018M`, `42`), else from birth to study; None if unknown."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) *([YMWD]?)", _text(head, "PatientAge").upper())
    if match and float(match.group(1)) > 0:
        unit = match.group(2) or "Y"
        years = float(match.group(1)) * DAYS_PER_UNIT[unit] / DAYS_PER_UNIT["Y"]
        return round(years, 2) if years <= OLDEST else None
    born, scanned = _date(head, "PatientBirthDate"), _scan_date(head)
    if born is None or scanned is None or born == NO_BIRTH_DATE:
        return None
    years = (scanned - born).days / DAYS_PER_UNIT["Y"]
    return round(years, 2) if 0 <= years <= OLDEST else None


def missing_slices(heads: Sequence[Any]) -> int:
    """The number of slices that are missing between those of a series, by their positions.

    It is 0 if most headers have no positions, as in multi-frame files, or if the orientations
    differ; a slice with a damaged header counts as missing. Slices missing at the ends are not
    detected.
    """
    stated = [
        (
            _numbers(head.get("ImagePositionPatient"), 3),
            _numbers(head.get("ImageOrientationPatient"), 6),
        )
        for head in heads
    ]
    whole = [(place, turn) for place, turn in stated if place and turn]
    if len(whole) < max(3, len(heads) / 2):
        return 0
    places, across = (np.array(numbers) for numbers in zip(*whole, strict=True))
    if not np.allclose(across, across[0], atol=0.01):
        return 0
    normal = np.cross(across[0, :3], across[0, 3:])
    along = np.sort(places @ normal)
    steps = np.diff(along)
    steps = steps[steps > SAME_PLACE_MM]
    if not len(steps):
        return 0
    sizes = [_number(heads[0], "SpacingBetweenSlices"), _number(heads[0], "SliceThickness")]
    usual = float(np.median(steps))
    if min(sizes) > 0 and usual > GAP * max(sizes):  # such as every second slice
        usual = max(sizes)
    wide = steps[steps > GAP * usual]
    return int(np.rint(wide / usual).sum()) - len(wide)


def read_heads(paths: Iterable[Path]) -> dict[Path, Any]:
    """The headers of the files that are DICOM, restricted to TAGS, without their pixels.

    Raises:
        UsageError: if pydicom is missing.
    """
    try:
        import pydicom
    except ImportError:
        raise UsageError(
            "reading DICOM needs pydicom and dcm2niix: pip install 'monai-vqbrain[dicom]'"
        ) from None
    heads = {}
    for path in paths:
        try:
            heads[path] = _read_head(pydicom, path)
        except ValueError:
            continue
    return heads


def _read_head(pydicom: Any, path: Path) -> Any:
    """The tags of a file; ValueError if it is unreadable or deflated as a whole."""
    try:
        with path.open("rb") as file:
            if DEFLATED in file.read(1024):
                raise ValueError("its data set is compressed, which dcm2niix does not read")
        head = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=TAGS)
    except Exception as error:  # its type depends on which byte is wrong
        raise ValueError(str(error)) from error
    for part in (head, head.file_meta):
        _forget_damaged(part)
    return head


def _forget_damaged(part: Any) -> None:
    """Remove values that cannot be decoded; pydicom decodes a value on its first access."""
    for tag in list(part.keys()):
        try:
            part[tag]
        except Exception:  # noqa: BLE001  (its type depends on which byte is wrong)
            del part[tag]


def series_of(heads: dict[Path, Any]) -> list[Series]:
    """Group files into series by participant and series id, in any folder.

    Images and other objects of one series are kept apart. Files without a series id belong to one
    series if they are in one folder. Of several copies of an image the first is used.
    """
    groups: dict[tuple[str, str, bool], dict[str, Path]] = {}
    copies: dict[tuple[str, str, bool], int] = {}
    for path, head in heads.items():
        series = _text(head, "SeriesInstanceUID") or path.parent.as_posix()
        key = (_text(head, "PatientID"), series, is_mr_image(head))
        image = _text(head, "SOPInstanceUID") or path.as_posix()
        first = groups.setdefault(key, {}).setdefault(image, path)
        copies[key] = copies.get(key, 0) + (first is not path)
    return [
        Series(tuple(group.values()), tuple(heads[path] for path in group.values()), copies[key])
        for key, group in groups.items()
    ]


def _text(head: Any, name: str) -> str:
    value = head.get(name)
    return "" if value is None else str(value).strip()


def _number(head: Any, name: str) -> float:
    try:
        return float(head.get(name) or 0)
    except (TypeError, ValueError):
        return 0.0


def _numbers(value: Any, count: int) -> list[float] | None:
    """The value as `count` finite numbers; None if it is something else."""
    try:
        numbers = [float(number) for number in value]
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count and np.isfinite(numbers).all() else None


def _scan_date(head: Any) -> date | None:
    return next((found for name in DATES if (found := _date(head, name))), None)


def _date(head: Any, name: str) -> date | None:
    digits = re.sub(r"[.\-/]", "", _text(head, name))[:8]
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:8]))
    except ValueError:
        return None
