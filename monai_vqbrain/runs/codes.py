"""4-codes: slices as code grids, written by encoding and read by the prior."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file

from monai_vqbrain.cohorts import check_splits
from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.files import partial, writing
from monai_vqbrain.networks.conditions import Known, condition_row
from monai_vqbrain.provenance import Described
from monai_vqbrain.runs.codes_file import open_codes
from monai_vqbrain.runs.conditions import conditions_of_row, stored_views
from monai_vqbrain.runs.datalist import check_datalist
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.freshness import check_codes, check_vqvae, code_inputs, codes_header
from monai_vqbrain.runs.records import network_settings
from monai_vqbrain.runs.stage_folder import finish_stage, open_stage, use_inputs
from monai_vqbrain.runs.tables import read_rows, with_enough_brain
from monai_vqbrain.runs.views import PLAIN_VIEW, conditions_of_view
from monai_vqbrain.selection import thin_out
from monai_vqbrain.tables import SLICE_KEYS, read_text_table, write_table

DEFAULT_SHAPE = (512, 32, 32)  # K, h, w: of the default VQ-VAE on 128x128 slices


def begin_codes(run_dir: Path | str) -> Described:
    """Open the partial folder of the codes: the first step of the bundle's `run`.

    Returns:
        Size and hash of what the codes depend on, taken before encoding.

    Raises:
        VQBrainError: if the VQ-VAE was trained on other slices, or another process is encoding.
    """
    run = RunFolder(run_dir)
    use_inputs(run.codes, run.slices, run.vqvae)
    check_vqvae(run)
    check_datalist(run.slices)
    open_stage(run.codes)
    return code_inputs(run)


def write_codes(
    run_dir: Path | str,
    codes: torch.Tensor,
    items: Sequence[dict[str, Any]],
    sources: Described,
    seconds: float,
) -> None:
    """Write and publish `R/4-codes`: codes.safetensors, codes.tsv, provenance.

    Args:
        run_dir: the run folder.
        codes: (N, *grid) or, with several groups, (N, G, *grid), 0..K-1.
        items: the N items: those of the datalist, then those of `view_items`.
        sources: the result of `begin_codes`.
        seconds: wall time of encoding.

    Raises:
        VQBrainError: if the slices changed during encoding.
    """
    run = RunFolder(run_dir)
    if codes.ndim == 3:  # one group
        codes = codes[:, None]
    plain = [item for item in items if "view" not in item]
    views = 1 + max((item.get("view", -1) for item in items), default=-1)
    header = _new_header(run, codes, sources) | {"shifts": json.dumps(_shifts(items))}
    of_views = codes[len(plain) :].unflatten(0, (views, -1)) if views else codes[:0]
    tensors = {"codes": codes[: len(plain)], "views": of_views}
    stored = torch.uint16 if int(header["num_codes"]) <= 1 << 16 else torch.int32
    tensors = {name: grids.to(stored).contiguous() for name, grids in tensors.items()}
    work = partial(run.codes)
    write_table(_table_of(run, plain), work / "codes.tsv")
    with writing(work / "codes.safetensors") as path:
        save_file(tensors, path, header)
    finish_stage(run.codes, sources, {}, seconds, **header)


def _new_header(run: RunFolder, codes: torch.Tensor, sources: Described) -> dict[str, str]:
    settings = network_settings(run.vqvae)
    codebook = isinstance(settings["num_codes"], int)
    return {
        "vqvae_sha256": str(sources["3-vqvae"]["sha256"]),
        "quantizer": "CodebookQuantizer" if codebook else "ScalarQuantizer",
        "num_codes": str(settings["num_codes"] if codebook else math.prod(settings["num_codes"])),
        "grid": "x".join(str(side) for side in codes.shape[2:]),
    }


def _shifts(items: Sequence[dict[str, Any]]) -> list[list[int]]:
    """The shift of each view, in pixels."""
    views = {int(item["view"]): list(item["shift"]) for item in items if "view" in item}
    return [views[view] for view in sorted(views)]


def _table_of(run: RunFolder, items: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """The items' rows of slices.tsv, in the order of the items."""
    read_rows(run.slices / "slices.tsv")  # to check it
    slices = read_text_table(run.slices / "slices.tsv")
    names = pd.DataFrame([{key: _as_text(item[key]) for key in SLICE_KEYS} for item in items])
    table = names.merge(slices, on=list(SLICE_KEYS), how="left", validate="one_to_one")
    if table["split"].isna().any():
        raise VQBrainError(
            f"{run.slices} changed during encoding: run {run.command('encode')} again"
        )
    return table


CodeGrids = dict[int, np.ndarray]  # by row of codes.tsv, as they are stored


def code_items(
    run_dir: Path | str,
    split: str,
    most: int | None = None,
    conditions: Known | None = None,
    neighbour: bool = False,
    views: bool = False,
) -> list[dict[str, Any]]:
    """The code grids of one split, each with the prior's other inputs.

    Args:
        run_dir: the run folder.
        split: training, validation or test.
        most: maximum number of slices; they are thinned out evenly.
        conditions: the prior's conditions, see `prior_conditions`.
        neighbour: add the codes of the previous slice.
        views: append the code grids of all views; only training slices have views.

    Returns:
        One dictionary per code grid: "codes", (h, w) or (G, h, w) int64, 0..K-1; participant_id,
        session_id, axis, index; on request "condition", (C,) float32, and "neighbour", shaped as
        the codes, -1 if there is no previous slice.

    Raises:
        VQBrainError: if nothing is encoded, the VQ-VAE has changed since encoding, or a
            participant is in two splits.
    """
    run = RunFolder(run_dir)
    check_codes(run)
    read_rows(run.codes / "codes.tsv")  # to check it
    table = read_text_table(run.codes / "codes.tsv")
    check_splits(zip(table["participant_id"], table["split"], strict=True))
    rows = thin_out(list(table.index[table["split"] == split]), most)
    if not rows:
        raise VQBrainError(f"{run.codes} has no {split} codes: prepare at least three participants")
    plain, *others = _read_grids(run, table, views)
    previous = previous_slices(table) if neighbour else []
    about: dict[int, dict[str, Any]] = {
        row: table.loc[row, list(SLICE_KEYS)].to_dict() for row in rows
    }
    views_of = [conditions_of_view(view) for view in stored_views(run)] if others else []
    items: list[dict[str, Any]] = []
    for grids, view in zip((plain, *others), (PLAIN_VIEW, *views_of), strict=True):
        for row in (row for row in rows if row in grids):
            codes = _as_tensor(grids[row])
            items.append({"codes": codes, **about[row]})
            if conditions:
                values = conditions_of_row(table.loc[row].to_dict() | dict(view), conditions)
                items[-1]["condition"] = condition_row(conditions, values)
            if neighbour:
                before = grids.get(previous[row])
                missing = torch.full_like(codes, -1)
                items[-1]["neighbour"] = missing if before is None else _as_tensor(before)
    return items


def _as_tensor(grid: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(grid.astype(np.int64))


def _read_grids(run: RunFolder, table: pd.DataFrame, views: bool) -> list[CodeGrids]:
    """The code grids of all slices; then, if wanted, those of the training slices for each view."""
    with open_codes(run.codes / "codes.safetensors") as file:
        plain = file.get_tensor("codes")
        wanted = views and "views" in file.keys()  # noqa: SIM118
        of_views = file.get_tensor("views") if wanted else plain[:0, None]
        _check_grids(table, int(file.metadata()["num_codes"]), plain, of_views)
    if plain.shape[1] == 1:  # one group
        plain, of_views = plain[:, 0], of_views[:, :, 0]
    training = table.index[table["split"] == "training"]
    return [dict(enumerate(plain)), *(dict(zip(training, v, strict=True)) for v in of_views)]


def _check_grids(
    table: pd.DataFrame, num_codes: int, plain: np.ndarray, of_views: np.ndarray
) -> None:
    """Refuse codes that their table does not describe, or that no codebook has."""
    training = int((table["split"] == "training").sum())
    if len(plain) != len(table) or any(len(view) != training for view in of_views):
        raise ValueError(f"{len(plain)} code grids, and codes.tsv has {len(table)} rows")
    if any(grids.size and not 0 <= grids.min() <= grids.max() < num_codes
           for grids in (plain, of_views)):  # fmt: skip
        raise ValueError(f"a code is not below {num_codes}")


def previous_slices(table: pd.DataFrame) -> list[int]:
    """For each row of codes.tsv, the row of the previous slice in its volume; -1 for none."""
    places = [
        (participant, session, axis, int(index))
        for participant, session, axis, index in table[list(SLICE_KEYS)].itertuples(index=False)
    ]
    rows = {place: row for row, place in enumerate(places)}
    return [rows.get((*place[:3], place[3] - 1), -1) for place in places]


class RunCodes(NamedTuple):
    """The code grids of a run, with their rows of slices.tsv."""

    codes: np.ndarray  # (N, G, w, h) uint16, 0..K-1
    rows: pd.DataFrame  # N rows, columns of slices.tsv
    num_codes: int


def read_codes(run: RunFolder) -> RunCodes:
    """Read 4-codes, restricted to the slices with enough brain.

    Raises:
        VQBrainError: if the codes and their table differ in length.
    """
    path = run.codes / "codes.safetensors"
    with open_codes(path) as file:
        codes, header = file.get_tensor("codes"), file.metadata()
    table = read_rows(run.codes / "codes.tsv")
    if len(table) != len(codes):
        raise VQBrainError(
            f"{path} holds {len(codes)} code grids but codes.tsv has {len(table)} rows: "
            f"run: {run.command('encode')}"
        )
    if codes.size and not 0 <= codes.min() <= codes.max() < int(header["num_codes"]):
        raise VQBrainError(
            f"{path} is damaged (a code is not below {header['num_codes']}): "
            f"run: {run.command('encode')}"
        )
    rows = with_enough_brain(table)
    return RunCodes(codes[rows.index.to_numpy()], rows, int(header["num_codes"]))


def code_shape(run_dir: Path | str, settings: Mapping[str, Any] | None = None) -> tuple[int, ...]:
    """(K, h, w) of a run's codes, or (K, G, h, w).

    If nothing is encoded, it is that of the settings, or of the default VQ-VAE's codes.

    Args:
        run_dir: the run folder.
        settings: of a PixelCNN; empty or None for none.
    """
    run = RunFolder(run_dir)
    path = run.codes / "codes.safetensors"
    if not path.is_file():
        return (settings["num_codes"], *settings["grid"]) if settings else DEFAULT_SHAPE
    with open_codes(path) as file:
        shape = file.get_slice("codes").get_shape()[1:]
    return int(codes_header(run)["num_codes"]), *(shape[1:] if shape[0] == 1 else shape)


def _as_text(value: Any) -> str:
    return "n/a" if value is None else str(value)
