"""4-codes: slices as code grids. Written by encoding, read by the prior."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from monai.data import load_decathlon_datalist
from safetensors import safe_open
from safetensors.torch import save_file

from monai_vqbrain.cohorts import SPLITS
from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.files import building, sha256
from monai_vqbrain.networks.conditions import Known, condition_row
from monai_vqbrain.provenance import Described, describe, read_provenance, write_provenance
from monai_vqbrain.stages.conditions import condition_of
from monai_vqbrain.stages.run import RunFolder
from monai_vqbrain.stages.trained import trained_network

SLICE_KEYS = ["participant_id", "session_id", "axis", "index"]  # they name a slice
MOST_VIEWS = 31
MOST_SHIFT = 3  # pixels
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
    if not json.loads(path.read_text()).get(split):  # MONAI's reader would raise an IndexError
        raise VQBrainError(f"{path} has no {split} slices: prepare at least three participants")
    return _thinned(load_decathlon_datalist(str(path), True, split), most)


def all_items(dataset_dir: Path | str) -> list[dict[str, Any]]:
    """The items of all splits, in their order."""
    return [item for split in SPLITS for item in slice_items(dataset_dir, split)]


def view_items(dataset_dir: Path | str, most: int = 16_000) -> list[dict[str, Any]]:
    """The training items as they might have been: once mirrored, then mirrored or not, and shifted.

    They are what `ViewSliced` takes. A brain that lies two pixels aside has other codes in every
    place, and a mirrored one is nearly another brain. Sagittal slices are never mirrored.

    Args:
        dataset_dir: with datalist.json.
        most: so many items at most, but every training item once.

    Returns:
        All items of the first view, of the second, ...; `view` is its number.
    """
    items = slice_items(dataset_dir, "training")
    number = max(1, min(MOST_VIEWS, most // len(items)))
    views = slice_views(number, any(item["axis"] == "sagittal" for item in items))
    return [item | view for view in views for item in items]


def slice_views(number: int, sagittal: bool) -> list[dict[str, Any]]:
    """How each view differs: its number as `view`, `mirrored`, and `shift` in pixels."""
    shifts = np.random.default_rng(0).integers(-MOST_SHIFT, MOST_SHIFT + 1, (number, 2)).tolist()
    if not sagittal:
        shifts[0] = [0, 0]
    return [
        {"view": view, "mirrored": view % 2 == 0 and not sagittal, "shift": shift}
        for view, shift in enumerate(shifts)
    ]


def whole_batches(items: Sequence[Any], batch_size: int) -> list[Any]:
    """The items, the last one repeated until all batches are whole.

    Float32 sums depend on the batch size; with whole batches alone, what a batch gives does not
    depend on how many slices there are.
    """
    missing = -len(items) % batch_size
    return [*items, *[items[-1]] * missing]


def begin_codes(run_dir: Path | str) -> dict[str, dict[str, Any]]:
    """What the codes will rest on, described before encoding: the first step of the bundle's `run`.

    Raises:
        VQBrainError: if the VQ-VAE was trained on other slices.
    """
    run = RunFolder(run_dir)
    check_vqvae(run)
    return describe(codes_made_from(run))


def write_codes(
    run_dir: Path | str,
    codes: torch.Tensor,
    items: Sequence[dict[str, Any]],
    sources: Described,
    seconds: float,
) -> None:
    """Write `R/4-codes` whole: codes.safetensors, codes.tsv, provenance.

    Args:
        run_dir: the run folder.
        codes: (N, *grid) or, with several groups, (N, G, *grid), 0..K-1.
        items: the N items: those of the datalist, then those of `view_items`.
        sources: of `begin_codes`.
        seconds: what encoding took.

    Raises:
        VQBrainError: if the slices changed meanwhile.
    """
    run = RunFolder(run_dir)
    settings = json.loads((run.vqvae / "config.json").read_text())["network_def"]
    codebook = isinstance(settings["num_codes"], int)
    if codes.ndim == 3:  # one group
        codes = codes[:, None]
    header = {
        "vqvae_sha256": str(sources["3-vqvae"]["sha256"]),
        "quantizer": "CodebookQuantizer" if codebook else "ScalarQuantizer",
        "num_codes": str(settings["num_codes"] if codebook else math.prod(settings["num_codes"])),
        "grid": "x".join(str(side) for side in codes.shape[2:]),
    }
    slices = _text_table(run.slices / "slices.tsv")
    plain = [item for item in items if "view" not in item]
    names = [{key: _text(item[key]) for key in SLICE_KEYS} for item in plain]
    table = pd.DataFrame(names).merge(slices, on=SLICE_KEYS, how="left", validate="one_to_one")
    if table["split"].isna().any():
        raise VQBrainError(f"{run.slices} changed meanwhile: run {run.command('encode')} again")
    with building(run.codes) as work:
        stored = torch.uint16 if int(header["num_codes"]) <= 1 << 16 else torch.int32
        views = 1 + max((item.get("view", -1) for item in items), default=-1)
        varied = codes[len(plain) :].unflatten(0, (views, -1)) if views else codes[:0]
        tensors = {"codes": codes[: len(plain)], "views": varied}
        tensors = {name: grids.to(stored).contiguous() for name, grids in tensors.items()}
        save_file(tensors, work / "codes.safetensors", header)
        table.to_csv(work / "codes.tsv", sep="\t", index=False)
        write_provenance(work, sources, {}, seconds, **header)


def codes_made_from(run: RunFolder) -> dict[str, Path]:
    """The files that codes rest on."""
    return {"2-slices": run.slices / "provenance.json", "3-vqvae": run.vqvae / "model.pt"}


def code_items(
    run_dir: Path | str,
    split: str,
    most: int | None = None,
    conditions: Known | None = None,
    neighbour: bool = False,
    views: bool = False,
) -> list[dict[str, Any]]:
    """The code grids of one split, with what a prior is told of them.

    Args:
        run_dir: the run folder.
        split: training, validation or test.
        most: thin out to so many, evenly.
        conditions: what the prior knows, see `code_conditions`.
        neighbour: with the codes of the slice before.
        views: those of all views too, after the others; of training slices there are some.

    Returns:
        {"codes": (h, w) or (G, h, w) int64, participant_id, session_id, axis, index}, and if asked
        for "condition", (C,) float32, and "neighbour", as the codes, -1 where there is none.

    Raises:
        VQBrainError: if nothing is encoded, or the VQ-VAE has changed since.
    """
    run = RunFolder(run_dir)
    check_codes(run)
    table = _text_table(run.codes / "codes.tsv")
    rows = _thinned(list(table.index[table["split"] == split]), most)
    if not rows:
        raise VQBrainError(f"{run.codes} has no {split} codes: prepare at least three participants")
    plain, *others = _grids(run, table, views)
    before = slices_before(table) if neighbour else []
    about: dict[int, dict[str, Any]] = {row: table.loc[row, SLICE_KEYS].to_dict() for row in rows}
    for row in rows if conditions else ():
        asked = condition_of(table.loc[row].to_dict(), conditions or {})
        about[row]["condition"] = condition_row(conditions or {}, asked)
    items: list[dict[str, Any]] = []
    for grids in (plain, *others):
        for row in (row for row in rows if row in grids):
            items.append({"codes": grids[row], **about[row]})
            if neighbour:
                nothing = torch.full_like(grids[row], -1)
                items[-1]["neighbour"] = grids.get(before[row], nothing)
    return items


Grids = dict[int, torch.Tensor]  # by row of codes.tsv


def _grids(run: RunFolder, table: pd.DataFrame, views: bool) -> list[Grids]:
    """The code grids; then, if wanted, those of the training slices in each view."""
    with safe_open(run.codes / "codes.safetensors", framework="pt") as file:
        plain = file.get_tensor("codes").to(torch.long)
        wanted = views and "views" in file.keys()  # noqa: SIM118
        varied = file.get_tensor("views").to(torch.long) if wanted else plain[:0, None]
    if plain.shape[1] == 1:  # one group
        plain, varied = plain[:, 0], varied.squeeze(2)
    training = table.index[table["split"] == "training"]
    return [dict(enumerate(plain)), *(dict(zip(training, v, strict=True)) for v in varied)]


def slices_before(table: pd.DataFrame) -> list[int]:
    """For each row of codes.tsv the row of the slice before it in its volume; -1 where none is."""
    places = [
        (person, session, axis, int(index))
        for person, session, axis, index in table[SLICE_KEYS].itertuples(index=False)
    ]
    rows = {place: row for row, place in enumerate(places)}
    return [rows.get((*place[:3], place[3] - 1), -1) for place in places]


def know_codes(network: Any, run_dir: Path | str) -> Any:
    """Tell a new prior what the codes of a run stand for; it comes back.

    Raises:
        VQBrainError: if the run's VQ-VAE cannot be read.
    """
    run = RunFolder(run_dir)
    if (run.vqvae / "model.pt").is_file() and network.settings["likeness"]:
        quantizer: Any = trained_network(run.vqvae).quantizer
        codes = torch.arange(network.num_codes).expand(network.groups, -1)
        vectors = quantizer.embed(codes[None] if network.groups > 1 else codes)
        network.know_codes(vectors[0].unflatten(0, (network.groups, -1)).mT)
    return network


def check_vqvae(run: RunFolder) -> None:
    """Refuse a VQ-VAE that was trained on other slices: its training people may be test people now.

    Raises:
        VQBrainError: if slices and VQ-VAE do not belong together, or one is missing.
    """
    record = read_provenance(run.vqvae) or {"made_from": {}}
    now = describe({"2-slices": run.slices / "provenance.json"})["2-slices"]
    if record["made_from"].get("2-slices") != now:
        raise VQBrainError(
            f"{run.vqvae.name} was trained on other slices than {run.slices.name} holds: "
            f"run {run.command('train vqvae')}"
        )


def check_codes(run: RunFolder) -> None:
    """Refuse codes of other slices or another VQ-VAE.

    Raises:
        VQBrainError: if slices, VQ-VAE and codes do not belong together, or one is missing.
    """
    header = _header(run)
    check_vqvae(run)
    if header["vqvae_sha256"] != sha256(run.vqvae / "model.pt"):
        raise VQBrainError(
            f"{run.codes.name} was encoded by another VQ-VAE than {run.vqvae.name} holds: "
            f"run {run.command('encode')}"
        )


def check_models(run: RunFolder) -> None:
    """Refuse to decode codes with a codebook that they do not come from.

    Raises:
        VQBrainError: if slices, VQ-VAE, codes and prior do not belong together, or one is missing.
    """
    check_codes(run)
    record = read_provenance(run.prior)
    if record is None:
        raise VQBrainError(f"{run.prior} holds no trained prior: run {run.command('train prior')}")
    if record["made_from"]["4-codes"]["sha256"] != sha256(run.codes / "codes.safetensors"):
        raise VQBrainError(
            f"{run.prior.name} was trained on other codes than {run.codes.name} holds: "
            f"run {run.command('train prior')}"
        )


def code_shape(run_dir: Path | str) -> tuple[int, ...]:
    """(K, h, w) of a run's codes, or (K, G, h, w); the default VQ-VAE's where there are none."""
    run = RunFolder(run_dir)
    path = run.codes / "codes.safetensors"
    if not path.is_file():
        return DEFAULT_SHAPE
    with safe_open(path, framework="pt") as file:
        shape = file.get_slice("codes").get_shape()[1:]
    return int(_header(run)["num_codes"]), *(shape[1:] if shape[0] == 1 else shape)


def _header(run: RunFolder) -> dict[str, str]:
    path = run.codes / "codes.safetensors"
    if not path.is_file():
        raise VQBrainError(f"{path} is not there: first run {run.command('encode')}")
    with safe_open(path, framework="pt") as file:
        header: dict[str, str] = file.metadata()
    return header


def _thinned(items: list[Any], most: int | None) -> list[Any]:
    if most is None or len(items) <= most:
        return items
    return [items[i] for i in np.linspace(0, len(items) - 1, most).astype(int)]


def _text(value: Any) -> str:
    return "n/a" if value is None else str(value)


def _text_table(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
