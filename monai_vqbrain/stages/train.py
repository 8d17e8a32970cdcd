"""`vqbrain train`: the shipped bundle's training on a prepared run."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import pandas as pd

from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.files import hold, partial, release
from monai_vqbrain.provenance import describe, what_changed
from monai_vqbrain.stages.bundle import bundle_command, default, parse_overrides, run_bundle
from monai_vqbrain.stages.codes import check_codes
from monai_vqbrain.stages.phantom import prepare_phantom
from monai_vqbrain.stages.run import RunFolder

BUNDLE = {"vqvae": "vqvae", "prior": "pixelcnn"}


@dataclass(frozen=True)
class TrainOptions:
    """What a training is asked for; None leaves the bundle's own value."""

    minutes: float | None = None
    epochs: int | None = None
    resume: bool = False
    device: str = "auto"
    seed: int = 0
    overrides: tuple[str, ...] = field(default=())


def train(run_path: Path, which: str, options: TrainOptions, show_command: bool = False) -> None:
    """Train a network of a run, unless that is done already.

    Args:
        run_path: the run folder.
        which: "vqvae" or "prior".
        options: what is asked for.
        show_command: print the bundle command that does the same, and stop.

    Raises:
        UsageError: if an earlier stage is missing or an override is wrong.
    """
    run, bundle = RunFolder(run_path), BUNDLE[which]
    overrides = parse_overrides(bundle, "train", options.overrides)
    ids = _ids(run, bundle, options) | {"overrides": overrides}
    if show_command:
        click.echo(bundle_command(bundle, "train", ids, overrides))
        return
    if which == "vqvae":
        run.need(run.slices, "prepare SOURCE")
    else:
        run.need(run.codes, "encode")
        check_codes(run)
    folder = run.vqvae if which == "vqvae" else run.prior
    asked = {key: ids[key] for key in ("seed", "minutes", "max_epochs", "overrides")}
    why = what_changed(folder, describe(training_made_from(run.path, which)), asked)
    if why is None:
        click.echo(f"{folder.name} is up to date: nothing it depends on has changed")
        return
    click.echo(f"training {folder.name} ({why}): {_estimate(ids)}")
    try:
        run_bundle(bundle, "train", ids, overrides)
    finally:
        release(folder)


def begin_training(run_dir: Path | str, which: str, resume: bool = False) -> None:
    """Open the partial folder of a training: the first step of the bundles' `training`.

    The VQ-VAE's makes and prepares the built-in simulated cohort where a run has no slices. What an
    earlier training left unfinished is dropped unless it is resumed.

    Raises:
        VQBrainError: if another process trains there, or codes are missing.
    """
    run = RunFolder(run_dir)
    folder = run.vqvae if which == "vqvae" else run.prior
    hold(folder)
    if which == "vqvae" and not (run.slices / "provenance.json").is_file():
        prepare_phantom(run)
    if which == "prior" and not (run.codes / "provenance.json").is_file():
        raise VQBrainError(f"{run.codes} is not there: first run {run.command('encode')}")
    work = partial(folder)
    if work.exists() and not resume:
        click.echo(f"starting anew: what an interrupted training left in {work.name} is dropped")
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)


def training_made_from(run_dir: Path | str, which: str) -> dict[str, Path]:
    """The files that a training rests on."""
    run = RunFolder(run_dir)
    if which == "vqvae":
        return {"2-slices": run.slices / "provenance.json"}
    return {"4-codes": run.codes / "codes.safetensors", "codes.tsv": run.codes / "codes.tsv"}


def _ids(run: RunFolder, bundle: str, options: TrainOptions) -> dict[str, Any]:
    minutes = options.minutes
    if minutes is None and options.epochs is None:
        minutes = default(bundle, "train", "minutes")
    return {
        "run_dir": str(run.path.absolute()),
        "seed": options.seed,
        "minutes": minutes,
        "max_epochs": options.epochs,
        "resume": options.resume,
        "device": options.device,
    }


def _estimate(ids: dict[str, Any]) -> str:
    if ids["max_epochs"] is not None:
        return f"{ids['max_epochs']} epochs, or until validation stops improving"
    return f"{ids['minutes']:g} minutes, or until validation stops improving"


def say_where(folder: str) -> None:
    """Print where a training's results are: the last step of the bundles' `training`."""
    table = pd.read_csv(Path(folder) / "metrics.tsv", sep="\t")
    score = "ssim_brain" if "ssim_brain" in table else "bits_per_code"
    best = table[score].max() if score == "ssim_brain" else table[score].min()
    click.echo(f"trained: best validation {score} {best:.4f}; results: {Path(folder).resolve()}")
