"""Cross-fitted membership: priors that are each trained without a part of the participants."""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors.torch import save_file

from monai_vqbrain.errors import UsageError
from monai_vqbrain.files import building, partial, writing
from monai_vqbrain.metrics.membership import cross_fitted, participant_folds
from monai_vqbrain.networks import PixelCNN
from monai_vqbrain.progress import progress
from monai_vqbrain.provenance import describe, read_provenance, what_changed, write_provenance
from monai_vqbrain.runs.codes import code_items
from monai_vqbrain.runs.codes_file import open_codes
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.networks import load_network, select_device
from monai_vqbrain.runs.tables import UNUSED
from monai_vqbrain.stages.reporting.membership_audit import Items, bits_of_items
from monai_vqbrain.stages.train import TrainOptions, train
from monai_vqbrain.tables import SLICE_KEYS, read_text_table, write_table

logger = logging.getLogger(__name__)


def train_folds(run: RunFolder, folds: int, device: str = "auto", seed: int = 0) -> list[RunFolder]:
    """Train a prior per fold like the run's own, without the fold's training participants.

    Trained folds that are up to date are kept, and an interrupted training is resumed.

    Args:
        run: the run folder, with a trained prior.
        folds: number of folds.
        device: "auto", "cpu", "cuda" or "cuda:N".
        seed: of the folds.

    Returns:
        A run folder per fold, below `R/5-prior-folds`.

    Raises:
        UsageError: if there are fewer training participants than folds.
    """
    table = read_text_table(run.codes / "codes.tsv")
    training = (table["split"] == "training").to_numpy()
    try:
        dealt = participant_folds(table["participant_id"][training].tolist(), folds, seed)
    except ValueError as error:
        raise UsageError(f"--folds {folds}: {error}") from error
    record = read_provenance(run.prior) or {}
    options = record["options"] | {"start_from": record.get("start_from")}
    made = []
    for fold in progress(range(folds), "folds", unit="fold"):
        one = RunFolder(run.path / "5-prior-folds" / f"fold-{fold + 1}-of-{folds}")
        _make_fold(run, one, training, dealt == fold, {"seed": seed})
        train(one.path, "prior", _options(options, one, device))
        made.append(one)
    return made


def _options(options: dict[str, Any], fold: RunFolder, device: str) -> TrainOptions:
    interrupted = (partial(fold.prior) / "checkpoint.pt").is_file()
    return TrainOptions(
        minutes=options["minutes"],
        epochs=options["max_epochs"],
        resume=interrupted,
        device=device,
        seed=options["seed"],
        overrides=options["overrides"],
        start_from=options["start_from"],
    )


def _make_fold(
    run: RunFolder,
    fold: RunFolder,
    training: np.ndarray,
    left_out: np.ndarray,
    options: dict[str, Any],
) -> None:
    """Make the run folder of a fold: the run's codes, of which the fold's are in no split."""
    made_from = describe({"codes.tsv": run.codes / "codes.tsv", **_files(run)})
    if what_changed(fold.codes, made_from, options) is None:
        return
    for source, target in ((run.slices, fold.slices), (run.vqvae, fold.vqvae)):
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir() and not target.is_symlink():  # of an earlier version
            shutil.rmtree(target)
        if not target.is_symlink():
            target.symlink_to(os.path.relpath(source, target.parent))
    with building(fold.codes) as work:
        table = read_text_table(run.codes / "codes.tsv")
        table.loc[np.flatnonzero(training)[left_out], "split"] = UNUSED
        table.loc[(table["split"] == "test").to_numpy(), "split"] = UNUSED
        write_table(table, work / "codes.tsv")
        with open_codes(run.codes / "codes.safetensors", "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            header = file.metadata()
        if "views" in tensors:  # of training slices only
            tensors["views"] = tensors["views"][:, torch.from_numpy(~left_out)].contiguous()
        with writing(work / "codes.safetensors") as path:
            save_file(tensors, path, header)
        write_provenance(work, made_from, options, 0.0)


def _files(run: RunFolder) -> dict[str, Path]:
    return {"codes": run.codes / "codes.safetensors", "3-vqvae": run.vqvae / "model.pt"}


def measure_cross_fitted(
    run: RunFolder, folds: list[RunFolder], device: str = "auto", seed: int = 0
) -> dict[str, Any]:
    """How well bits reveal whether a prior was trained on a participant, each its own control.

    Every training slice is scored by the prior that has not seen its participant, and by that of
    the next fold, which has.

    Args:
        run: the run folder.
        folds: the result of `train_folds`.
        device: "auto", "cpu", "cuda" or "cuda:N".
        seed: of the bootstrap.

    Returns:
        JSON values.
    """
    place = select_device(device)
    unseen_by = [_left_out(fold) for fold in folds]
    seen: dict[tuple[str, ...], float] = {}
    unseen: dict[tuple[str, ...], float] = {}
    for number, fold in enumerate(folds):
        prior = cast("PixelCNN", load_network(fold.prior, place))
        items = code_items(run.path, "training", None, prior.settings["conditions"])
        before = unseen_by[number - 1]
        for found, keys in ((unseen, unseen_by[number]), (seen, before)):
            chosen: Items = [item for item in items if _key(item) in keys]
            bits = bits_of_items(prior, chosen)
            found |= {_key(item): float(b) for item, b in zip(chosen, bits, strict=True)}
    order = sorted(unseen)
    result = cross_fitted(
        [seen[k] for k in order], [unseen[k] for k in order], [k[0] for k in order], seed=seed
    )
    figures = asdict(result)
    auc = figures.pop("auc")
    return {
        "folds": len(folds),
        "auc": auc["value"],
        "low": auc["low"],
        "high": auc["high"],
        **figures,
    }


def _left_out(fold: RunFolder) -> set[tuple[str, ...]]:
    table = read_text_table(fold.codes / "codes.tsv")
    rows = table[table["split"] == UNUSED]
    return {tuple(map(str, row)) for row in rows[list(SLICE_KEYS)].itertuples(index=False)}


def _key(item: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(item[name]) for name in SLICE_KEYS)
