"""`vqbrain encode`: every slice of a run as a grid of codes."""

from __future__ import annotations

from pathlib import Path

import click

from monai_vqbrain.provenance import describe, what_changed
from monai_vqbrain.stages.bundle import bundle_command, run_bundle
from monai_vqbrain.stages.codes import codes_made_from
from monai_vqbrain.stages.run import RunFolder


def encode(run_path: Path, device: str = "auto", show_command: bool = False) -> None:
    """Write `R/4-codes`, unless it is there and rests on the same slices and weights.

    Args:
        run_path: the run folder.
        device: "auto", "cpu", "cuda" or "cuda:N".
        show_command: print the bundle command that does the same, and stop.

    Raises:
        UsageError: if slices or VQ-VAE are missing.
        VQBrainError: if the VQ-VAE was trained on other slices.
    """
    run = RunFolder(run_path)
    ids = {"run_dir": str(run.path.absolute()), "device": device}
    if show_command:
        click.echo(bundle_command("vqvae", "inference", ids))
        return
    run.need(run.slices, "prepare SOURCE")
    run.need(run.vqvae, "train vqvae")
    why = what_changed(run.codes, describe(codes_made_from(run)), {})
    if why is None:
        click.echo(f"{run.codes.name} is up to date: nothing it depends on has changed")
        return
    click.echo(f"encoding {run.codes.name} ({why})")
    run_bundle("vqvae", "inference", ids)
