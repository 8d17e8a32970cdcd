"""`vqbrain train`: train a network by the shipped bundle."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai_vqbrain.documents import read_json
from monai_vqbrain.errors import StoppedError, UsageError, VQBrainError
from monai_vqbrain.files import partial
from monai_vqbrain.provenance import what_changed
from monai_vqbrain.runs.bundles import (
    bundle_command,
    default_value,
    run_bundle,
    size_settings,
)
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.freshness import check_codes, training_inputs
from monai_vqbrain.runs.overrides import check_overrides
from monai_vqbrain.runs.packaged import PACKAGED, find_start
from monai_vqbrain.runs.participants import RunParticipants
from monai_vqbrain.runs.stage_folder import leave_stage

logger = logging.getLogger(__name__)

BUNDLE = {"vqvae": "vqvae", "prior": "pixelcnn"}
PROVENANCE = ("seed", "minutes", "max_epochs", "overrides")  # options that the result depends on


@dataclass(frozen=True)
class TrainOptions:
    """Options of `train_vqvae` and `train_prior`; None stands for the bundle's default."""

    minutes: float | None = None
    epochs: int | None = None
    resume: bool = False
    device: str = "auto"
    seed: int = 0
    size: str = "base"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    start_from: str | None = None


def train_vqvae(
    run: Path | str,
    *,
    minutes: float | None = None,
    epochs: int | None = None,
    resume: bool = False,
    device: str = "auto",
    seed: int = 0,
    size: str = "base",
    overrides: Mapping[str, Any] | None = None,
    start_from: Path | str | None = None,
) -> Path:
    """Train the VQ-VAE of a run on its slices, unless it is up to date.

    Args:
        run: the run folder, prepared.
        minutes: wall-clock budget; 5 by default.
        epochs: instead of minutes, a number of epochs; the result is then reproducible bit for bit.
        resume: continue an interrupted training.
        device: "auto", "cpu", "cuda" or "cuda:N".
        seed: seed of weights, order and crops.
        size: "small", "base" or "large": width, depth, batch and budget together.
        overrides: id of the bundle's configuration -> value, such as
            `{"network_def#num_codes": 1024}`.
        start_from: instead of random weights: "ds002748", which come with the package, the folder
            of another run, or a file of weights. What fits is taken.

    Returns:
        The folder with the trained network, `R/3-vqvae`.

    Raises:
        UsageError: if an earlier stage is missing, an override is wrong, or there is no such start.
        VQBrainError: if the training fails, or the start does not fit.
    """
    start = None if start_from is None else str(start_from)
    options = TrainOptions(minutes, epochs, resume, device, seed, size, overrides or {}, start)
    return train(run, "vqvae", options)


def train_prior(
    run: Path | str,
    *,
    minutes: float | None = None,
    epochs: int | None = None,
    resume: bool = False,
    device: str = "auto",
    seed: int = 0,
    size: str = "base",
    overrides: Mapping[str, Any] | None = None,
    start_from: Path | str | None = None,
) -> Path:
    """Train the prior of a run on its codes, unless it is up to date.

    Args:
        run: the run folder, encoded.
        minutes: as for `train_vqvae`, like all further arguments.
        epochs: instead of minutes, a number of epochs.
        resume: continue an interrupted training.
        device: "auto", "cpu", "cuda" or "cuda:N".
        seed: seed of weights and order.
        size: "small", "base" or "large".
        overrides: id of the bundle's configuration -> value.
        start_from: as for `train_vqvae`. Start the VQ-VAE from there first, so that the codes mean
            the same.

    Returns:
        The folder with the trained network, `R/5-prior`.

    Raises:
        UsageError: if an earlier stage is missing, an override is wrong, or there is no such start.
        VQBrainError: if the codes are out of date, the training fails, or the start does not fit.
    """
    start = None if start_from is None else str(start_from)
    options = TrainOptions(minutes, epochs, resume, device, seed, size, overrides or {}, start)
    return train(run, "prior", options)


def train(run: Path | str, network: str, options: TrainOptions) -> Path:
    """Train "vqvae" or "prior"; see `train_vqvae` and `train_prior`."""
    run_folder = RunFolder(run)
    try:
        return run_training(run_folder, network, options)
    except (KeyboardInterrupt, StoppedError):
        logger.info("%s", _how_to_continue(run_folder, network))
        raise


def run_training(run_folder: RunFolder, network: str, options: TrainOptions) -> Path:
    """As `train`, without the message on how to continue an interrupted training."""
    bundle, folder = BUNDLE[network], _folder(run_folder, network)
    ids = training_ids(run_folder, network, options)
    _check_ready(run_folder, network)
    if options.start_from is not None:
        _check_start(run_folder, network, options.start_from)
    record = {key: ids[key] for key in PROVENANCE}
    inputs = training_inputs(run_folder.path, network, ids["start_from"])
    reason = what_changed(folder, inputs, record)
    if reason is None:
        logger.info("%s is up to date: nothing it depends on has changed", folder.name)
        return folder
    logger.info("training %s (%s): %s", folder.name, reason, _budget(ids))
    try:
        run_bundle(bundle, "train", ids, ids["overrides"])
    finally:
        leave_stage(folder)
    return folder


def can_resume(run: RunFolder, network: str, options: TrainOptions) -> bool:
    """Whether a run has an interrupted training with these inputs and options, but the budget."""
    work = partial(_folder(run, network))
    if not (work / "checkpoint.pt").is_file():
        return False
    ids = training_ids(run, network, options)
    try:
        begun = read_json(work / "config.json", {})
        made_from = training_inputs(run.path, network, ids["start_from"])
    except (FileNotFoundError, VQBrainError):  # of the training, or of a stage before it
        return False
    now = {"made_from": made_from, "seed": ids["seed"], "overrides": ids["overrides"]}
    return all(begun.get(name) == value for name, value in json.loads(json.dumps(now)).items())


def _folder(run: RunFolder, network: str) -> Path:
    return run.vqvae if network == "vqvae" else run.prior


def _how_to_continue(run: RunFolder, network: str) -> str:
    if (partial(_folder(run, network)) / "checkpoint.pt").is_file():
        command = f"{run.command(f'train {network}')} --resume"
        return f"the last finished epoch is kept: continue with {command} and the same options"
    return "no epoch was finished, so that there is nothing to resume: run the same command again"


def training_command(run: Path | str, network: str, options: TrainOptions) -> str:
    """The MONAI bundle command that does the same as `train`."""
    ids = training_ids(RunFolder(run), network, options)
    return bundle_command(BUNDLE[network], "train", ids, ids["overrides"])


def training_ids(run: RunFolder, network: str, options: TrainOptions) -> dict[str, Any]:
    """The options as ids of the bundle's configuration."""
    bundle, minutes = BUNDLE[network], options.minutes
    settings = size_settings(bundle, options.size)
    usual = settings.pop("minutes", default_value(bundle, "train", "minutes"))
    if minutes is None and options.epochs is None:
        minutes = usual
    return {
        "run_dir": str(run.path.absolute()),
        "seed": options.seed,
        "minutes": minutes,
        "max_epochs": options.epochs,
        "resume": options.resume,
        "device": options.device,
        "start_from": _absolute(options.start_from),
        "overrides": check_overrides(bundle, "train", settings | dict(options.overrides)),
    }


def _check_ready(run: RunFolder, network: str) -> None:
    if network == "vqvae":
        run.need(run.slices, "prepare SOURCE")
    else:
        run.need(run.codes, "encode")
        check_codes(run)


def _absolute(start_from: str | None) -> str | None:
    """A start as an id of the configuration: MONAI could take a relative path for code."""
    if start_from is None or start_from in PACKAGED:
        return start_from
    return str(Path(start_from).absolute())


def _check_start(run: RunFolder, network: str, start_from: str) -> None:
    """Refuse a start that the training would replace, or that has seen held-out participants."""
    path = find_start(start_from, network)
    own = run.vqvae if network == "vqvae" else run.prior
    if path.resolve().parent == own.resolve():
        raise UsageError(
            f"start_from {start_from}: these are the weights that the training would replace; "
            "copy them with their config.json to another folder, and start from there"
        )
    if (Path(start_from) / run.slices.name / "slices.tsv").is_file():
        seen = RunParticipants(RunFolder(start_from)).scans("training")
        shared = seen & RunParticipants(run).scans("validation", "test")
        if shared:
            raise VQBrainError(
                f"start_from {start_from}: {len(shared)} of its training scans are validation or "
                "test scans here, and every figure on them would be too good: start from another "
                "run, or give both runs the same splits"
            )


def _budget(ids: dict[str, Any]) -> str:
    if ids["max_epochs"] is not None:
        return f"{ids['max_epochs']} epochs, or until validation stops improving"
    return f"{ids['minutes']:g} minutes, or until validation stops improving"
