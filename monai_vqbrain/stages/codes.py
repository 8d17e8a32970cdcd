"""4-codes: slices as code grids. Written by encoding, read by the prior."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from monai.data import load_decathlon_datalist
from safetensors import safe_open
from safetensors.torch import save_file

from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.files import building, sha256
from monai_vqbrain.provenance import read_provenance, write_provenance
from monai_vqbrain.stages.run import RunFolder

SPLITS = ("training", "validation", "test")
DEFAULT_SHAPE = (512, 32, 32)  # K, h, w: what the default VQ-VAE makes of 128x128 slices


def slice_items(
    dataset_dir: Path | str, split: str, most: int | None = None
) -> list[dict[str, Any]]:
    """The items of one split of a datalist, thinned out evenly to `most`.

    Raises:
        VQBrainError: if the datalist is not there or the split is empty.
    """
    path = Path(dataset_dir) / "datalist.json"
    if not path.is_file():
        raise VQBrainError(f"{path} is not there: first run vqbrain prepare SOURCE RUN")
    items = load_decathlon_datalist(str(path), True, split)
    if not items:
        raise VQBrainError(f"{path} has no {split} slices: prepare at least three participants")
    if most is None or len(items) <= most:
        return items
    return [items[i] for i in np.linspace(0, len(items) - 1, most).astype(int)]


def all_items(dataset_dir: Path | str) -> list[dict[str, Any]]:
    """The items of all splits, each with its split."""
    return [{**item, "split": s} for s in SPLITS for item in slice_items(dataset_dir, s)]


def whole_batches(items: Sequence[Any], batch_size: int) -> list[Any]:
    """The items, the last one repeated until all batches are whole.

    Float32 sums depend on the batch size; with whole batches alone, what a batch gives does not
    depend on how many slices there are.
    """
    missing = -len(items) % batch_size
    return [*items, *[items[-1]] * missing]


def write_codes(run_dir: Path | str, codes: torch.Tensor, items: Sequence[dict[str, Any]]) -> None:
    """Write `R/4-codes` whole: codes.safetensors, codes.tsv, provenance.

    Args:
        run_dir: the run folder.
        codes: (N, *grid), 0..K-1.
        items: the N items of the datalist, with their split.
    """
    began = time.monotonic()
    run = RunFolder(run_dir)
    settings = json.loads((run.vqvae / "config.json").read_text())["network_def"]
    header = {
        "vqvae_sha256": sha256(run.vqvae / "model.pt"),
        "quantizer": "CodebookQuantizer",
        "num_codes": str(settings["num_codes"]),
        "grid": "x".join(str(side) for side in codes.shape[1:]),
    }
    rows = pd.DataFrame([{k: v for k, v in item.items() if k != "label"} for item in items])
    slices = pd.read_csv(run.slices / "slices.tsv", sep="\t", dtype=str, keep_default_na=False)
    keys = ["participant_id", "session_id", "axis", "index"]
    rows = rows[keys].astype(str).replace({"session_id": {"": "n/a", "None": "n/a"}})
    table = rows.merge(slices, on=keys, how="left", validate="one_to_one")
    with building(run.codes) as work:
        save_file({"codes": codes[:, None].to(torch.uint16)}, work / "codes.safetensors", header)
        table.to_csv(work / "codes.tsv", sep="\t", index=False)
        write_provenance(work, codes_made_from(run), {}, time.monotonic() - began, **header)


def codes_made_from(run: RunFolder) -> dict[str, Path]:
    """The files that codes rest on."""
    return {"2-slices": run.slices / "provenance.json", "3-vqvae": run.vqvae / "model.pt"}


def code_items(run_dir: Path | str, split: str, most: int | None = None) -> list[dict[str, Any]]:
    """The code grids of one split: {"codes": (h, w) int64, participant_id, session_id, ...}.

    Raises:
        VQBrainError: if nothing is encoded, or the VQ-VAE has changed since.
    """
    run = RunFolder(run_dir)
    codes, header = _read(run)
    model = run.vqvae / "model.pt"
    if model.is_file() and sha256(model) != header["vqvae_sha256"]:
        raise VQBrainError(
            f"{run.codes} was encoded by another VQ-VAE than {model}: run vqbrain encode {run.path}"
        )
    table = pd.read_csv(run.codes / "codes.tsv", sep="\t", dtype=str, keep_default_na=False)
    rows = table.index[table["split"] == split]
    if most is not None and len(rows) > most:
        rows = rows[np.linspace(0, len(rows) - 1, most).astype(int)]
    keys = ["participant_id", "session_id", "axis", "index"]
    return [{"codes": codes[i, 0], **table.loc[i, keys].to_dict()} for i in rows]


def check_models(run: RunFolder) -> None:
    """Refuse to decode codes with a codebook that they do not come from.

    Raises:
        VQBrainError: if VQ-VAE, codes and prior do not belong together, or one is missing.
    """
    _, header = _read(run)
    record = read_provenance(run.prior)
    if record is None:
        raise VQBrainError(
            f"{run.prior} holds no trained prior: run vqbrain train prior {run.path}"
        )
    if record["made_from"]["4-codes"]["sha256"] != sha256(run.codes / "codes.safetensors"):
        raise VQBrainError(
            f"{run.prior.name} was trained on other codes than {run.codes.name} holds: "
            f"run vqbrain train prior {run.path}"
        )
    if header["vqvae_sha256"] != sha256(run.vqvae / "model.pt"):
        raise VQBrainError(
            f"{run.codes.name} was encoded by another VQ-VAE than {run.vqvae.name} holds: "
            f"run vqbrain encode {run.path}"
        )


def code_shape(run_dir: Path | str) -> tuple[int, ...]:
    """(K, h, w) of a run's codes; the default VQ-VAE's where there are none."""
    path = RunFolder(run_dir).codes / "codes.safetensors"
    if not path.is_file():
        return DEFAULT_SHAPE
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    return int(header["num_codes"]), *(int(side) for side in header["grid"].split("x"))


def _read(run: RunFolder) -> tuple[torch.Tensor, dict[str, str]]:
    path = run.codes / "codes.safetensors"
    if not path.is_file():
        raise VQBrainError(f"{path} is not there: first run vqbrain encode {run.path}")
    with safe_open(path, framework="pt") as file:
        return file.get_tensor("codes").to(torch.long), file.metadata()
