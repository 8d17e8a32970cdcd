"""A BIDS dataset: T1w images, participants.tsv, sessions.tsv, brain masks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from monai_vqbrain.cohorts.cohort import Cohort, Problem, Scan, visit_order
from monai_vqbrain.cohorts.names import BidsName, is_nifti, parse_name
from monai_vqbrain.cohorts.participant_tables import Key, read_participant_tables
from monai_vqbrain.cohorts.series_choice import Rank, reason
from monai_vqbrain.documents import read_json
from monai_vqbrain.errors import VQBrainError

ANAT = ("sub-*/anat", "sub-*/ses-*/anat")


def is_bids(source: Path) -> bool:
    """Whether there is a folder `sub-*` with an `anat` in it."""
    return any(next(source.glob(pattern), None) for pattern in ANAT)


def read_bids(
    source: Path, columns: Mapping[str, str] | None = None, table: Path | None = None
) -> Cohort:
    """Read a BIDS dataset without opening an image.

    An image is a `*_T1w`, or the `*_UNIT1` of MP2RAGE if a session has none.
    Diagnosis, sex and age of a session's table take precedence over those of participants.tsv. A
    brain mask is `*_desc-brain_mask.nii[.gz]` beside the image or below derivatives/, of the same
    participant, session and space.

    Args:
        source: the dataset's root.
        columns: role -> column, for columns without a usual name.
        table: the table to read instead of participants.tsv.

    Returns:
        The cohort, one scan for each participant and session.

    Raises:
        VQBrainError: if there is no T1w image.
        UsageError: if a requested column does not exist.
    """
    images = list(_find(source, ("T1w", "UNIT1")))
    misnamed = wrong_names(
        source, (path for pattern in ANAT for path in source.glob(f"{pattern}/*"))
    )
    if not images:
        first = f"; {misnamed[0].path} {misnamed[0].problem}" if misnamed else ""
        raise VQBrainError(f"{source} has no *_T1w.nii or .nii.gz below sub-*/[ses-*/]anat{first}")
    tables = read_participant_tables(source, source, columns, table)
    taken, problems = _one_each(source, images)
    known, unfit = tables.facts((name.participant_id, name.session_id) for _, name in taken)
    masks = _masks(source)
    scans = [
        Scan(
            participant_id=name.participant_id,
            session_id=name.session_id,
            path=path,
            mask_path=_mask_of(name, masks.get((name.participant_id, name.session_id), [])),
            source=path.relative_to(source).as_posix(),
            **vars(known[name.participant_id, name.session_id]),
        )
        for path, name in taken
    ]
    problems += [
        *tables.problems,
        *tables.unmatched(s.participant_id for s in scans),
        *unfit,
        *misnamed,
    ]
    return Cohort(
        root=source,
        layout="bids",
        scans=tuple(sorted(scans, key=visit_order)),
        problems=tuple(problems),
        columns=tables.columns,
        simulated="Simulated" in description(source),
    )


def description(source: Path) -> dict[str, Any]:
    """The content of dataset_description.json; empty if it is missing or unreadable."""
    try:
        found: dict[str, Any] = read_json(source / "dataset_description.json", {})
    except (OSError, VQBrainError):
        return {}
    return found


def _find(
    root: Path, suffixes: tuple[str, ...], below: str = ""
) -> Iterable[tuple[Path, BidsName]]:
    for pattern in ANAT:
        for path in sorted(root.glob(f"{below}{pattern}/*.nii*")):
            name = parse_name(path) if is_nifti(path) else None
            if name is not None and name.suffix in suffixes:
                yield path, name


def _one_each(
    source: Path, images: list[tuple[Path, BidsName]]
) -> tuple[list[tuple[Path, BidsName]], list[Problem]]:
    """The first by `_rank` of each participant and session, and a line for each of the others."""
    taken: dict[Key, tuple[Path, BidsName]] = {}
    problems = []
    for path, name in sorted(
        images, key=lambda image: ([n for _, n in _rank(image[1])], image[0].name)
    ):
        key = (name.participant_id, name.session_id)
        if key not in taken:
            taken[key] = path, name
            continue
        used, its_name = taken[key]
        why = reason(_rank(its_name), _rank(name), "first by name")
        problems.append(another_scan(path.relative_to(source), used.relative_to(source), why))
    return list(taken.values()), problems


def _rank(name: BidsName) -> Rank:
    """A T1w image before the UNI image of MP2RAGE; the plainest name without contrast agent."""
    return (
        ("T1w before UNIT1", int(name.suffix != "T1w")),
        ("magnitude before phase", int(name.entities.get("part", "mag") != "mag")),
        ("without contrast agent before with", int("ce" in name.entities)),
        ("plainest name", len(name.entities)),
    )


def another_scan(path: Path, used: Path, why: str = "") -> Problem:
    """The line for a scan of a session of which another scan was used, with the reason."""
    reason = f" ({why})" if why else ""
    return Problem(
        path.as_posix(),
        f"another scan of the same session was used{reason}: {used.name}",
        "nothing, or remove the other file to use this one",
    )


def wrong_names(source: Path, files: Iterable[Path]) -> list[Problem]:
    """A line for each file that would be a T1 image if it had a BIDS name.

    Args:
        source: the dataset's root.
        files: the files in the folders of images.
    """
    wrong = {path: _what_is_wrong(path) for path in sorted(files) if path.name[0] != "."}
    advice = "rename it as in sub-01_ses-M000_T1w.nii.gz"
    return [
        Problem(path.relative_to(source).as_posix(), problem, advice)
        for path, problem in wrong.items()
        if problem
    ]


def _what_is_wrong(path: Path) -> str:
    if not is_nifti(path):  # an ending in capitals is reported for every file of the source
        return ""
    name = parse_name(path)
    if name is None:
        return "its name or a label in it is not valid in BIDS, skipped"
    if name.suffix != "T1w" and name.suffix.lower() in ("t1w", "t1"):
        return f"ends in {name.suffix} instead of T1w, skipped"
    return ""


def _masks(source: Path) -> dict[Key, list[tuple[Path, BidsName]]]:
    found: dict[Key, list[tuple[Path, BidsName]]] = {}
    for below in ("", "derivatives/", "derivatives/*/"):
        for path, name in _find(source, ("mask",), below):
            if name.entities.get("desc") == "brain":
                found.setdefault((name.participant_id, name.session_id), []).append((path, name))
    return found


def _mask_of(image: BidsName, masks: list[tuple[Path, BidsName]]) -> Path | None:
    """The mask that agrees with most of the image's entities and has none of its own."""
    own = image.entities.items() - {("desc", image.entities.get("desc"))}
    fitting = [
        (len(shared), path)
        for path, mask in masks
        if (shared := mask.entities.items() - {("desc", "brain")}) <= own
    ]
    most = max((count for count, _ in fitting), default=0)
    return next((path for count, path in fitting if count == most), None)
