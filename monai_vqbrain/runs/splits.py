"""splits.tsv: the split of every participant that a run has ever had, stored permanently."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from monai_vqbrain.cohorts import SPLITS, check_splits
from monai_vqbrain.contents import is_unchanged
from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.provenance import intact_provenance
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.tables import read_table, write_table

COLUMNS = ["participant_id", "split", "seed"]


def stored_splits(run: RunFolder, seed: int) -> dict[str, str]:
    """Participant -> split, of every participant that was ever assigned to one with this seed.

    Where splits.tsv is missing or damaged, its copy in the slices counts; without both, the
    participants of the present slices are known.

    Raises:
        VQBrainError: if splits.tsv is damaged and has no copy, or has a participant in two splits.
    """
    table = _stored_table(run)
    if table is not None:
        table = table[table["seed"] == str(seed)]
        check_splits(zip(table["participant_id"], table["split"], strict=True))
        return dict(zip(table["participant_id"], table["split"], strict=True))
    record = intact_provenance(run.slices)
    if record is None or record["options"].get("seed") != seed:
        return {}
    whole = [n for n in ("participants.tsv", "slices.tsv") if _is_as_made(run, n)]
    return read_splits(run.slices / whole[0]) if whole else {}


def store_splits(run: RunFolder, splits: Mapping[str, str], seed: int, folder: Path) -> None:
    """Store the splits of a seed; those of other seeds are kept.

    Args:
        run: the run.
        splits: participant -> split.
        seed: the seed.
        folder: the slices' folder in progress, which gets a copy.
    """
    rows = [(participant, splits[participant], str(seed)) for participant in sorted(splits)]
    table = pd.DataFrame(rows, columns=COLUMNS)
    stored = _stored_table(run)
    if stored is not None:
        table = pd.concat([stored[stored["seed"] != str(seed)], table])
    for path in (run.splits, folder / run.splits.name):
        write_table(table, path)


def splits_damage(run: RunFolder) -> str | None:
    """What is wrong with splits.tsv; None if it has all splits that the present slices know of."""
    copy = _copy(run)
    if copy is None:
        return None
    if not run.splits.is_file():
        return f"{run.splits.name} is missing"
    return None if _holds(run.splits, copy) else f"{run.splits.name} has changed since it was made"


def read_splits(path: Path) -> dict[str, str]:
    """Participant -> split, from a table of slices; empty if there is none.

    Raises:
        VQBrainError: if the table does not say which split each participant is in.
    """
    if not path.is_file():
        return {}
    table = read_table(path)
    needed = ["participant_id", "split"]
    if not set(needed) <= set(table.columns) or table[needed].isna().any(axis=None):
        raise VQBrainError(
            f"{path} does not say which split each participant is in: restore it, or use another "
            "run folder"
        )
    return dict(zip(table["participant_id"], table["split"], strict=True))


def _stored_table(run: RunFolder) -> pd.DataFrame | None:
    """splits.tsv, or its copy where it lacks rows of that; None if neither is there."""
    copy = _copy(run)
    if copy is not None and not _holds(run.splits, copy):
        return copy
    return _read(run.splits) if run.splits.is_file() else None


def _copy(run: RunFolder) -> pd.DataFrame | None:
    """splits.tsv as it was when the slices were made; None if this is not known."""
    name = run.splits.name
    return _read(run.slices / name) if _is_as_made(run, name) else None


def _is_as_made(run: RunFolder, name: str) -> bool:
    """Whether a file of the slices is the one that their stage made."""
    record = intact_provenance(run.slices)
    recorded = None if record is None else record["files"].get(name)
    return recorded is not None and is_unchanged(run.slices / name, recorded)


def _holds(path: Path, copy: pd.DataFrame) -> bool:
    """Whether a table of splits is whole and has all rows of a copy.

    It may have more: a command that is killed leaves splits that no slices have yet.
    """
    try:
        rows = _read(path).itertuples(index=False, name=None)
    except VQBrainError:
        return False
    return set(copy.itertuples(index=False, name=None)) <= set(rows)


def _read(path: Path) -> pd.DataFrame:
    table = read_table(path)
    whole = list(table.columns) == COLUMNS and not table.isna().any(axis=None)
    if not whole or not table["split"].isin(SPLITS).all():
        raise VQBrainError(
            f"{path} is damaged: restore it from a copy; if it is removed, participants without "
            "slices may change their split"
        )
    return table.astype(str)
