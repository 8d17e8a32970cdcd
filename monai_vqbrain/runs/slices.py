"""2-slices: tables and datalist of a cohort's slices."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd

from monai_vqbrain.cohorts import Cohort, Participant, Problem, Scan, assign_splits
from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.runs.datalist import make_datalist
from monai_vqbrain.runs.folder import MIN_BRAIN_FRACTION, SLICE_COLUMNS, RunFolder
from monai_vqbrain.runs.splits import store_splits, stored_splits
from monai_vqbrain.tables import write_table

ScanRows = tuple[Scan, Sequence[Mapping[str, Any]]]  # a scan and one row per slice


def write_slice_tables(
    cohort: Cohort,
    scans: Sequence[ScanRows],
    seed: int,
    run: RunFolder,
    folder: Path,
) -> list[dict[str, Any]]:
    """Split the participants; write slices.tsv, participants.tsv, splits.tsv and datalist.json.

    Args:
        cohort: all participants; those without slices are left out.
        scans: the scans that have slices, with one row per slice.
        seed: seed of the split.
        run: the run, in which the splits are stored: an assigned participant never changes it.
        folder: where to write the tables, to become `2-slices` of the run.

    Returns:
        The rows of slices.tsv.

    Raises:
        VQBrainError: if no participant is left for training, or none of their slices holds enough
            brain.
    """
    with_slices = {scan.participant_id for scan, _ in scans}
    participants = [p for p in cohort.participants() if p.participant_id in with_slices]
    given = cohort.given_splits()
    splits = assign_splits(participants, seed, stored_splits(run, seed), given, cohort.groups)
    if "training" not in {splits[participant.participant_id] for participant in participants}:
        raise VQBrainError(
            "no participant is left in the training split, and participants never change their "
            "split: use another seed, or another run folder"
        )
    rows = slice_rows(scans, splits)
    kind = "simulated brains" if cohort.simulated else "brain MRI"
    datalist = make_datalist(rows, f"T1-weighted {kind}, slices in [0, 1]; label: brain mask")
    if not datalist["training"]:
        raise VQBrainError(
            f"no slice of a training participant is {MIN_BRAIN_FRACTION:.0%} brain or more: "
            "look at the positions and the spacing of the slices"
        )
    (folder / "datalist.json").write_text(json.dumps(datalist, indent=1) + "\n")
    write_slices(rows, folder / "slices.tsv")
    write_participants(participants, splits, folder / "participants.tsv")
    store_splits(run, splits, seed, folder)
    return rows


def slice_rows(scans: Iterable[ScanRows], splits: Mapping[str, str]) -> list[dict[str, Any]]:
    """One row per slice, with the columns of `SLICE_COLUMNS`; unknown values are None."""
    return [
        {
            **dict.fromkeys(SLICE_COLUMNS),
            **row,
            "participant_id": scan.participant_id,
            "session_id": scan.session_id or None,
            "split": splits[scan.participant_id],
            "diagnosis": scan.diagnosis or None,
            "age": scan.age,
            "sex": scan.sex or None,
            "source": scan.source,
        }
        for scan, rows in scans
        for row in rows
    ]


def write_slices(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write slices.tsv."""
    table = pd.DataFrame(rows, columns=list(SLICE_COLUMNS))
    rounded = table.round({"position_mm": 4, "position_rel": 5, "brain_fraction": 5})
    write_table(rounded, path)


def write_participants(
    participants: Iterable[Participant], splits: Mapping[str, str], path: Path
) -> None:
    """Write participants.tsv: one row per participant with slices, as of the first session."""
    rows = [
        (p.participant_id, splits[p.participant_id], p.diagnosis or None, p.sex or None, p.age)
        for p in participants
    ]
    columns = ["participant_id", "split", "diagnosis", "sex", "age"]
    write_table(pd.DataFrame(rows, columns=columns), path)


def write_problems(problems: Iterable[Problem], path: Path) -> None:
    """Write problems.tsv."""
    rows = [(p.path, p.problem, p.advice) for p in problems]
    write_table(pd.DataFrame(rows, columns=["path", "problem", "advice"]), path)


def participants_digest(cohort: Cohort) -> str:
    """A short hash of the source's data on its participants."""
    facts = [(s.participant_id, s.session_id, s.diagnosis, s.sex, s.age) for s in cohort.scans]
    return sha256(json.dumps(facts).encode()).hexdigest()[:12]
