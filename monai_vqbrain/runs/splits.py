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

    Where splits.tsv is missing, the participants of the present slices are known.

    Raises:
        VQBrainError: if splits.tsv is damaged, or has a participant in two splits.
    """
    if run.splits.is_file():
        table = _read(run)
        table = table[table["seed"] == str(seed)]
        check_splits(zip(table["participant_id"], table["split"], strict=True))
        return dict(zip(table["participant_id"], table["split"], strict=True))
    record = intact_provenance(run.slices)
    if record is None or record["options"].get("seed") != seed:
        return {}
    tables = (name for name in ("participants.tsv", "slices.tsv") if name in record["files"])
    whole = [n for n in tables if is_unchanged(run.slices / n, record["files"][n])]
    return read_splits(run.slices / whole[0]) if whole else {}


def store_splits(run: RunFolder, splits: Mapping[str, str], seed: int) -> None:
    """Store the splits of a seed; those of other seeds are kept."""
    rows = [(participant, splits[participant], str(seed)) for participant in sorted(splits)]
    table = pd.DataFrame(rows, columns=COLUMNS)
    if run.splits.is_file():
        others = _read(run)
        table = pd.concat([others[others["seed"] != str(seed)], table])
    write_table(table, run.splits)


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


def _read(run: RunFolder) -> pd.DataFrame:
    table = read_table(run.splits)
    whole = list(table.columns) == COLUMNS and not table.isna().any(axis=None)
    if not whole or not table["split"].isin(SPLITS).all():
        raise VQBrainError(
            f"{run.splits} is damaged: restore it from a copy; if it is removed, participants that "
            f"are not in {run.slices.name} may change their split"
        )
    return table.astype(str)
