"""Participants, scans and problems of a source, known before any image is opened."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

from monai_vqbrain.errors import UsageError, printable


@dataclass(frozen=True, kw_only=True)
class Scan:
    """One T1 volume of one session of a participant.

    Args:
        participant_id: as the source names it (`sub-02`, `002_S_0295`).
        session_id: the visit; empty if the source has no visits.
        path: the NIfTI file, or the folder of `files`.
        form: `nifti`; `dicom`, one series to be converted; or `pictures`, 2D slices.
        files: of DICOM and of pictures, in order.
        mask_path: a brain mask on the same grid; None if the source has none.
        space: the template space of the image; empty for the scanner's space.
        split: the split of the participant in the source; empty if the source has no splits.
        diagnosis: at this visit if known, else the participant's; empty if unknown.
        sex: `M`, `F`, or empty if unknown.
        age: in years, at this visit if known, else the participant's; None if unknown.
        source: the file relative to the cohort's root, for tables.
    """

    participant_id: str
    session_id: str = ""
    path: Path
    form: str = "nifti"
    files: tuple[Path, ...] = ()
    mask_path: Path | None = None
    space: str = ""
    split: str = ""
    diagnosis: str = ""
    sex: str = ""
    age: float | None = None
    source: str = ""

    @property
    def name(self) -> str:
        """`participant_id[_session_id]`, the start of the names of files made from this scan."""
        return "_".join(filter(None, (self.participant_id, self.session_id)))


@dataclass(frozen=True)
class Problem:
    """A problem of the source that the user may want to fix.

    Args:
        path: the file, relative to the cohort's root, or another subject of the problem.
        problem: what is wrong.
        advice: what to do.
    """

    path: str
    problem: str
    advice: str

    def __post_init__(self) -> None:
        for name, text in vars(self).items():  # one line, whatever characters a file name has
            object.__setattr__(self, name, printable(text))


@dataclass(frozen=True)
class Participant:
    """A participant with the data of the first visit, which the split depends on."""

    participant_id: str
    diagnosis: str = ""
    sex: str = ""
    age: float | None = None


@dataclass(frozen=True)
class Cohort:
    """The scans of a source, with its problems.

    Args:
        root: the source.
        layout: a key of `LAYOUTS`.
        scans: one for each participant and session, ordered by participant, then session.
        problems: what was skipped or is missing.
        columns: role (diagnosis, sex, age) -> column of the source.
        simulated: whether the images are simulated.
        notes: warnings for all users of the cohort.
        groups: participants that share an image, and therefore a split.
    """

    root: Path
    layout: str
    scans: tuple[Scan, ...]
    problems: tuple[Problem, ...] = ()
    columns: dict[str, str] = field(default_factory=dict)
    simulated: bool = False
    notes: tuple[str, ...] = ()
    groups: tuple[tuple[str, ...], ...] = ()

    def without(self, names: Collection[str]) -> Cohort:
        """The cohort without some participants or scans, with a problem for each excluded scan.

        Args:
            names: of participants, or of scans (`Scan.name`).

        Raises:
            UsageError: for a name that is neither.
        """
        known = {name for scan in self.scans for name in (scan.name, scan.participant_id)}
        unknown = [name for name in names if name not in known]
        if unknown:
            raise UsageError(
                f"there is no participant or scan {unknown[0]} to exclude: names are those of "
                "qc/qc.tsv"
            )
        out = [s for s in self.scans if s.name in names or s.participant_id in names]
        excluded = [Problem(s.source, "was excluded", "remove its line to use it") for s in out]
        kept = tuple(scan for scan in self.scans if scan not in out)
        return replace(self, scans=kept, problems=(*self.problems, *excluded))

    def given_splits(self) -> dict[str, str]:
        """participant -> split, for the splits that the source itself has."""
        return {scan.participant_id: scan.split for scan in self.scans if scan.split}

    def participants(self) -> tuple[Participant, ...]:
        """Each participant once, with the first known diagnosis, sex and age, in visit order."""
        visits: dict[str, list[Scan]] = {}
        for scan in sorted(self.scans, key=visit_order):
            visits.setdefault(scan.participant_id, []).append(scan)
        return tuple(
            Participant(
                participant_id=participant,
                diagnosis=next((s.diagnosis for s in scans if s.diagnosis), ""),
                sex=next((s.sex for s in scans if s.sex), ""),
                age=next((s.age for s in scans if s.age is not None), None),
            )
            for participant, scans in visits.items()
        )


def visit_order(scan: Scan) -> tuple[list[tuple[int, str]], list[tuple[int, str]]]:
    """A key that sorts scans by participant, then session, numbers as numbers."""
    return natural(scan.participant_id), natural(scan.session_id)


def natural(text: str) -> list[tuple[int, str]]:
    """A key that sorts `ses-2` before `ses-10`.

    Example:
        >>> sorted(["ses-10", "ses-2"], key=natural)
        ['ses-2', 'ses-10']
    """
    parts = re.split(r"(\d+)", text)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts] + [(-2, text)]
