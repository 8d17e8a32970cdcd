"""Read back what the stages left: tables, slices and codes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.provenance import describe, read_provenance
from monai_vqbrain.stages.run import RunFolder
from monai_vqbrain.stages.slice_tables import LEAST_BRAIN
from monai_vqbrain.stages.stacks import mask_of


class Codes(NamedTuple):
    """The code grids of a run, and the slices that they stand for."""

    codes: np.ndarray  # (N, G, w, h) uint16
    rows: pd.DataFrame  # N rows, columns of slices.tsv
    num_codes: int


def read_table(path: Path) -> pd.DataFrame:
    """A tab-separated table of a run folder, ids and categories as text, `n/a` missing.

    Raises:
        VQBrainError: if the file is not there or holds no table.
    """
    ids = dict.fromkeys(("participant_id", "session_id", "diagnosis", "sex"), str)
    try:
        return pd.read_csv(path, sep="\t", dtype=ids, keep_default_na=False, na_values=["n/a", ""])
    except (FileNotFoundError, pd.errors.EmptyDataError) as error:
        raise VQBrainError(f"{path} is missing or empty: make its stage again") from error


def read_slices_table(run: RunFolder) -> pd.DataFrame:
    """The slices that count (at least 5 % brain)."""
    return _counted(read_table(run.slices / "slices.tsv"))


def read_slices(run: RunFolder, rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The images and brain masks of rows of slices.tsv, in the rows' order.

    Args:
        run: the run folder.
        rows: rows of `read_slices_table`.

    Returns:
        (N, W, H) uint8, 255 standing for an intensity of 1; (N, W, H) bool.
    """
    images: list[np.ndarray] = [np.empty(0)] * len(rows)
    masks: list[np.ndarray] = [np.empty(0)] * len(rows)
    places = pd.Series(np.arange(len(rows)), index=rows["stack"].to_numpy())
    for stack, group in places.groupby(level=0, sort=False):
        image = _stored(run.slices / str(stack))
        mask = _stored(mask_of(run.slices / str(stack)))
        for place in group:
            index = int(rows["index"].iloc[place])
            images[place], masks[place] = np.array(image[..., index]), mask[..., index] > 0
    return np.stack(images), np.stack(masks)


def read_codes(run: RunFolder) -> Codes:
    """What `vqbrain encode` left in 4-codes, restricted to the slices that count.

    Raises:
        VQBrainError: if the codes and their table differ in length.
    """
    from safetensors import safe_open

    path = run.codes / "codes.safetensors"
    with safe_open(path, framework="np") as file:
        codes, header = file.get_tensor("codes"), file.metadata()
    table = read_table(run.codes / "codes.tsv")
    if len(table) != len(codes):
        raise VQBrainError(
            f"{path} holds {len(codes)} code grids but codes.tsv has {len(table)} rows: "
            f"run: {run.command('encode')}"
        )
    rows = _counted(table)
    return Codes(codes[rows.index.to_numpy()], rows, int(header["num_codes"]))


def sample_files(run: RunFolder) -> list[Path]:
    """The samples of a run, in order; none if they were drawn from other networks than its own."""
    models = {"3-vqvae": run.vqvae / "model.pt", "5-prior": run.prior / "model.pt"}
    record = read_provenance(run.samples)
    if record is None or not all(path.is_file() for path in models.values()):
        return []
    if any(record["made_from"].get(n) != entry for n, entry in describe(models).items()):
        return []
    return sorted(run.samples.glob("sample-*.nii.gz"))


def read_samples(files: Sequence[Path]) -> np.ndarray:
    """The slices of samples of one size, file after file: (N, W, H) uint8, 255 standing for 1."""
    import nibabel

    slices = [np.moveaxis(nibabel.load(f).get_fdata(), 2, 0) for f in files]  # type: ignore[attr-defined]
    return eight_bit(np.concatenate(slices))


def eight_bit(images: np.ndarray) -> np.ndarray:
    """Intensities in [0, 1] as uint8."""
    return np.asarray((np.clip(images, 0, 1) * 255).round().astype(np.uint8))


def where(rows: pd.DataFrame, split: str) -> np.ndarray:
    """Which rows belong to a split: (N,) bool."""
    return (rows["split"] == split).to_numpy()


def number(value: Any) -> float | None:
    """A finite float, or None: JSON knows no NaN."""
    return float(value) if np.isfinite(value) else None


def _counted(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["brain_fraction"] >= LEAST_BRAIN]


def _stored(path: Path) -> np.ndarray:
    """A stack's own 8-bit values (W, H, S), memory-mapped."""
    import nibabel

    image = nibabel.load(path)
    return np.asanyarray(image.dataobj.get_unscaled())  # type: ignore[attr-defined]
