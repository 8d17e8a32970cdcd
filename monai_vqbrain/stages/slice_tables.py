"""The tables of the slices' folder, and MONAI's datalist."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from monai_vqbrain.cohorts import SPLITS, Person, Problem, check_splits
from monai_vqbrain.stages.stacks import Cut, mask_of

LEAST_BRAIN = 0.05  # of a slice's frame; slices with less count neither in training nor in scores
COLUMNS = (
    "participant_id", "session_id", "axis", "index", "position_mm", "position_rel",
    "brain_fraction", "split", "diagnosis", "age", "sex", "mask_source", "source", "stack",
)  # fmt: skip


def slice_rows(cuts: Iterable[Cut], splits: Mapping[str, str]) -> list[dict[str, Any]]:
    """One row a slice, columns as in `COLUMNS`; unknown values are None."""
    return [
        {
            **dict.fromkeys(COLUMNS),
            **row,
            "participant_id": cut.scan.participant_id,
            "session_id": cut.scan.session_id or None,
            "split": splits[cut.scan.participant_id],
            "diagnosis": cut.scan.diagnosis or None,
            "age": cut.scan.age,
            "sex": cut.scan.sex or None,
            "source": cut.scan.source,
        }
        for cut in cuts
        for row in cut.slices
    ]


def make_datalist(rows: Sequence[Mapping[str, Any]], description: str) -> dict[str, Any]:
    """MONAI's datalist of the slices that hold enough brain.

    Args:
        rows: of `slice_rows`.
        description: one sentence on where they come from.

    Returns:
        What `monai.data.load_decathlon_datalist` reads, with the keys training, validation, test.

    Raises:
        VQBrainError: naming whoever is in two splits.
    """
    used = [row for row in rows if row["brain_fraction"] >= LEAST_BRAIN]
    check_splits((row["participant_id"], row["split"]) for row in used)
    lists = {split: [_item(row) for row in used if row["split"] == split] for split in SPLITS}
    return {"name": "slices", "description": description, **lists}


def _item(row: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("index", "participant_id", "session_id", "axis", "position_mm", "position_rel")
    stack = Path(row["stack"])
    return {
        "image": stack.as_posix(),
        "label": mask_of(stack).as_posix(),
        **{key: row[key] for key in (*kept, "diagnosis", "age", "sex")},
        "session_id": row["session_id"] or "n/a",  # a batch of names cannot hold a null
    }


def write_slices(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write slices.tsv."""
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    rounded = table.round({"position_mm": 4, "position_rel": 5, "brain_fraction": 5})
    _write(rounded, path)


def write_participants(people: Iterable[Person], splits: Mapping[str, str], path: Path) -> None:
    """Write participants.tsv: everybody with slices, as first seen."""
    rows = [
        (p.participant_id, splits[p.participant_id], p.diagnosis or None, p.sex or None, p.age)
        for p in people
    ]
    _write(pd.DataFrame(rows, columns=["participant_id", "split", "diagnosis", "sex", "age"]), path)


def read_splits(path: Path) -> dict[str, str]:
    """The participants' splits of an earlier participants.tsv; empty where there is none."""
    if not path.is_file():
        return {}
    table = pd.read_csv(path, sep="\t", dtype=str)
    return dict(zip(table["participant_id"], table["split"], strict=True))


def write_problems(problems: Iterable[Problem], path: Path) -> None:
    """Write problems.tsv."""
    rows = [(p.path, p.problem, p.advice) for p in problems]
    _write(pd.DataFrame(rows, columns=["path", "problem", "advice"]), path)


def _write(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, sep="\t", index=False, na_rep="n/a")
