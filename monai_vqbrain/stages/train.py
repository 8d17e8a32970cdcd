"""`vqbrain train`: train a network by the shipped bundle."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai_vqbrain.errors import StoppedError
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

    Returns:
        The folder with the trained network, `R/3-vqvae`.

    Raises:
        UsageError: if an earlier stage is missing or an override is wrong.
        VQBrainError: if the training fails.
    """
    return train(
        run, "vqvae", TrainOptions(minutes, epochs, resume, device, seed, size, overrides or {})
    )


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

    Returns:
        The folder with the trained network, `R/5-prior`.

    Raises:
        UsageError: if an earlier stage is missing or an override is wrong.
        VQBrainError: if the codes are out of date, or the training fails.
    """
    return train(
        run, "prior", TrainOptions(minutes, epochs, resume, device, seed, size, overrides or {})
    )


def train(run: Path | str, network: str, options: TrainOptions) -> Path:
    """Train "vqvae" or "prior"; see `train_vqvae` and `train_prior`."""
    run_folder, bundle = RunFolder(run), BUNDLE[network]
    ids = training_ids(run_folder, network, options)
    _check_ready(run_folder, network)
    folder = run_folder.vqvae if network == "vqvae" else run_folder.prior
    record = {key: ids[key] for key in PROVENANCE}
    reason = what_changed(folder, training_inputs(run_folder.path, network), record)
    if reason is None:
        logger.info("%s is up to date: nothing it depends on has changed", folder.name)
        return folder
    logger.info("training %s (%s): %s", folder.name, reason, _budget(ids))
    try:
        run_bundle(bundle, "train", ids, ids["overrides"])
    except (KeyboardInterrupt, StoppedError):
        logger.info("%s", _how_to_continue(run_folder, network, folder))
        raise
    finally:
        leave_stage(folder)
    return folder


def _how_to_continue(run: RunFolder, network: str, folder: Path) -> str:
    if (partial(folder) / "checkpoint.pt").is_file():
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
        "overrides": check_overrides(bundle, "train", settings | dict(options.overrides)),
    }


def _check_ready(run: RunFolder, network: str) -> None:
    if network == "vqvae":
        run.need(run.slices, "prepare SOURCE")
    else:
        run.need(run.codes, "encode")
        check_codes(run)


def _budget(ids: dict[str, Any]) -> str:
    if ids["max_epochs"] is not None:
        return f"{ids['max_epochs']} epochs, or until validation stops improving"
    return f"{ids['minutes']:g} minutes, or until validation stops improving"
