"""Where the slices of a cohort lie in space: what samples are written with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from monai_vqbrain.documents import read_json
from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.packaged import prior_models
from monai_vqbrain.runs.records import slicing_options
from monai_vqbrain.runs.stacks import open_stack
from monai_vqbrain.runs.tables import in_split, read_rows

GEOMETRY = "geometry.json"  # beside the weights of a prior that is taken out of its run
GEOMETRY_FORM = {
    "axis": {"axial", "coronal", "sagittal"},
    "size": [int],
    "spacing": float,
    "affine": [[float]],
    "positions": [{"index": int, "position": float}],
}


def slice_positions(run: RunFolder, position: str, weights: str | None = None) -> pd.Series:
    """Median position over training participants of each slice index with enough brain.

    Args:
        run: the run folder.
        position: "position_mm" or "position_rel".
        weights: instead of the run's slices, those that these weights were trained on.
    """
    if weights is not None:
        stored = read_geometry(weights)["positions"]
        values = {entry["index"]: entry["position"] for entry in stored}
        return pd.Series(values, dtype=float, name=position).sort_index()
    table = read_rows(run.codes / "codes.tsv")
    rows = table[in_split(table, "training")]
    positions = rows.groupby("index")[position].median().sort_index()
    if positions.empty or positions.isna().any():
        raise VQBrainError(f"{run.codes / 'codes.tsv'} lacks a {position}: run its stage again")
    return positions


def cohort_affine(run: RunFolder, weights: str | None = None) -> np.ndarray:
    """The axes of the first stack at the median origin; the identity without slices.

    Args:
        run: the run folder.
        weights: as of `slice_positions`.

    Returns:
        (4, 4), voxel -> world, mm, RAS.
    """
    if weights is not None:
        return np.array(read_geometry(weights)["affine"])
    table = run.slices / "slices.tsv"
    if not table.is_file():
        return np.eye(4)
    stacks = read_rows(table)["stack"].unique()
    affines = np.stack([open_stack(run.slices / name).affine for name in stacks])
    affine: np.ndarray = affines[0].copy()
    affine[:3, 3] = np.median(affines[:, :3, 3], axis=0)
    return affine


def sample_size(run_dir: Path | str, weights: str | None = None) -> tuple[int, int] | None:
    """Width and height of a run's slices, pixels; None without slices.

    Decoded code grids are larger if these are not multiples of the VQ-VAE's factor.

    Args:
        run_dir: the run folder.
        weights: as of `slice_positions`.
    """
    if weights is not None:
        width, height = read_geometry(weights)["size"]
        return (width, height)
    run = RunFolder(run_dir)
    table = run.slices / "slices.tsv"
    if not table.is_file():
        return None
    stack = open_stack(run.slices / read_rows(table)["stack"][0])
    return (stack.shape[0], stack.shape[1])


def slice_frame(run: RunFolder, weights: str | None = None) -> tuple[int, int, float]:
    """Width and height of the slices in pixels, and the side of a pixel in mm.

    Args:
        run: the run folder.
        weights: as of `slice_positions`.
    """
    if weights is not None:
        stored = read_geometry(weights)
        width, height = stored["size"]
        return width, height, float(stored["spacing"])
    options = slicing_options(run, "size", "spacing")
    height, width = options["size"]
    return width, height, float(options["spacing"])


def geometry(run: RunFolder, position: str | None) -> dict[str, Any]:
    """The geometry of a run's slices as JSON values, without identifiers.

    Args:
        run: the run folder, encoded.
        position: the prior's condition on the position; None if it has none.
    """
    positions = pd.Series(dtype=float) if position is None else slice_positions(run, position)
    options = slicing_options(run, "axis", "spacing")
    return {
        "axis": options["axis"],
        "size": list(sample_size(run.path) or ()),
        "spacing": options["spacing"],
        "affine": cohort_affine(run).round(5).tolist(),
        "positions": [
            {"index": index, "position": round(value, 5)}
            for index, value in zip(positions.index.tolist(), positions.tolist(), strict=True)
        ],
    }


def read_geometry(weights: str) -> dict[str, Any]:
    """The geometry that is stored with the prior of some weights; see `find_models`."""
    return stored_geometry(prior_models(weights))


def stored_geometry(folder: Path | str) -> dict[str, Any]:
    """The geometry beside the weights of a network that is outside of a run.

    Raises:
        VQBrainError: if it is missing, or not as `geometry` gives it.
    """
    path = Path(folder) / GEOMETRY
    if not path.is_file():
        raise VQBrainError(f"{path} is not there: these weights are not whole; get them again")
    found: dict[str, Any] = read_json(path, GEOMETRY_FORM)
    if len(found["size"]) != 2 or np.shape(found["affine"]) != (4, 4):
        raise VQBrainError(f"{path} is damaged: get these weights again")
    return found
