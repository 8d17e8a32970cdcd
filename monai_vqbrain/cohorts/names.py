"""The parts of a BIDS file name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class BidsName:
    """A parsed BIDS file name.

    Args:
        entities: key -> value in the order of the name, without prefixes (`sub` -> `02`).
        suffix: what the image is (`T1w`, `mask`).
    """

    entities: dict[str, str]
    suffix: str

    @property
    def participant_id(self) -> str:
        """With its prefix: `sub-02`."""
        return f"sub-{self.entities['sub']}"

    @property
    def session_id(self) -> str:
        """With its prefix: `ses-01`; empty if the name has none."""
        return f"ses-{self.entities['ses']}" if "ses" in self.entities else ""


def parse_name(path: Path) -> BidsName | None:
    """Parse a BIDS file name; None if it is not one.

    Example:
        >>> parse_name(Path("sub-02_ses-M000_T1w.nii.gz"))
        BidsName(entities={'sub': '02', 'ses': 'M000'}, suffix='T1w')
    """
    *pairs, suffix = stem(path).split("_")
    matches = [re.fullmatch(r"([A-Za-z]+)-([A-Za-z0-9+.]+)", pair) for pair in pairs]
    if not matches or not suffix or None in matches:
        return None
    entities = {match.group(1): match.group(2) for match in matches if match}
    return BidsName(entities, suffix) if next(iter(entities)) == "sub" else None


def stem(path: Path) -> str:
    """The file name without `.nii` or `.nii.gz`."""
    return re.sub(r"\.nii(\.gz)?$", "", path.name)


def is_nifti(path: Path) -> bool:
    """Whether the name has a NIfTI ending and is not hidden (macOS writes hidden copies)."""
    return path.name.endswith((".nii", ".nii.gz")) and not path.name.startswith(".")


def is_nearly_nifti(path: Path) -> bool:
    """Whether the name has a NIfTI ending in capitals, as in `a.NII.GZ`."""
    return not is_nifti(path) and is_nifti(path.with_name(path.name.lower()))


def is_dicom_name(path: Path) -> bool:
    """Whether the name has a DICOM ending."""
    return path.suffix.lower() in (".dcm", ".ima") and not path.name.startswith(".")
