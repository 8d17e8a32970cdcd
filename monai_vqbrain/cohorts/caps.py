"""CAPS: T1 images that Clinica's t1-linear registered to MNI space."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from monai_vqbrain.cohorts.bids import another_scan, wrong_names
from monai_vqbrain.cohorts.cohort import Cohort, Problem, Scan, visit_order
from monai_vqbrain.cohorts.names import is_nifti
from monai_vqbrain.cohorts.participant_tables import Key, read_participant_tables

SPACE = "MNI152NLin2009cSym"
TOPS = ("subjects", "caps/subjects", "")  # where the participants' folders may be below the source
IMAGES = f"sub-*/ses-*/t1_linear/*_space-{SPACE}_*T1w.nii*"
CROPPED = "_desc-Crop_"


def is_caps(source: Path) -> bool:
    """Whether the source has an image of t1-linear."""
    return _top(source) is not None


def read_caps(
    source: Path, columns: Mapping[str, str] | None = None, table: Path | None = None
) -> Cohort:
    """Read the T1 images of a CAPS folder without opening one.

    If a session has several images, the cropped one is used, which t1-linear writes by default.
    CAPS has no tables of participants: participants.tsv and the sessions' tables of the original
    BIDS dataset are read if they are beside `subjects` or in it.

    Args:
        source: the CAPS folder, the one above it, or its `subjects`.
        columns: role -> column, for columns without a usual name.
        table: the table to read instead of participants.tsv.

    Returns:
        The cohort, one scan for each participant and session, in MNI space.

    Raises:
        UsageError: if a requested column does not exist.
    """
    top = _top(source) or source
    folder = top.parent if top.name == "subjects" else top
    tables = read_participant_tables(folder, top, columns, table)
    used, problems = _one_each(source, _images(top))
    known, unfit = tables.facts(used)
    scans = [
        Scan(
            participant_id=key[0],
            session_id=key[1],
            path=path,
            space=SPACE,
            source=path.relative_to(source).as_posix(),
            **vars(known[key]),
        )
        for key, path in used.items()
    ]
    problems += [*tables.problems, *tables.unmatched(s.participant_id for s in scans), *unfit]
    problems += wrong_names(source, top.glob("sub-*/ses-*/t1_linear/*"))
    return Cohort(
        root=source,
        layout="caps",
        scans=tuple(sorted(scans, key=visit_order)),
        problems=tuple(problems),
        columns=tables.columns,
    )


def _top(source: Path) -> Path | None:
    return next((source / top for top in TOPS if next(_images(source / top), None)), None)


def _images(top: Path) -> Iterator[Path]:
    return (path for path in sorted(top.glob(IMAGES)) if is_nifti(path))


def _one_each(source: Path, images: Iterable[Path]) -> tuple[dict[Key, Path], list[Problem]]:
    used: dict[Key, Path] = {}
    problems = []
    for path in sorted(images, key=lambda path: (CROPPED not in path.name, path)):
        session = path.parent.parent
        first = used.setdefault((session.parent.name, session.name), path)
        if first is not path:
            problems.append(another_scan(path.relative_to(source), first.relative_to(source)))
    return used, problems
