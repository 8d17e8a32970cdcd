"""`vqbrain sample`: new code grids from the prior, decoded to images."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import nibabel as nib
import pandas as pd

from monai_vqbrain.errors import UsageError
from monai_vqbrain.files import hold, partial, publish, release, sha256
from monai_vqbrain.provenance import Described, describe, what_changed, write_provenance
from monai_vqbrain.stages.bundle import bundle_command, run_bundle
from monai_vqbrain.stages.codes import check_models
from monai_vqbrain.stages.run import RunFolder


@dataclass(frozen=True)
class SampleOptions:
    """What a sample is asked for."""

    number: int = 16
    seed: int = 0
    temperature: float = 1.0
    top_p: float = 1.0


def sample(
    run_path: Path, options: SampleOptions, device: str = "auto", show_command: bool = False
) -> None:
    """Write `R/6-samples`, unless the same samples of the same models lie there.

    Args:
        run_path: the run folder.
        options: what is asked for.
        device: "auto", "cpu", "cuda" or "cuda:N".
        show_command: print the bundle command that does the same, and stop.

    Raises:
        UsageError: if a network is missing or an option is out of range.
    """
    _check(options)
    run = RunFolder(run_path)
    ids = {"run_dir": str(run.path.absolute()), "device": device, **asdict(options)}
    if show_command:
        click.echo(bundle_command("pixelcnn", "inference", ids))
        return
    run.need(run.vqvae, "train vqvae")
    run.need(run.prior, "train prior")
    why = what_changed(run.samples, describe(_made_from(run)), asdict(options))
    if why is None:
        click.echo(f"{run.samples.name} is up to date: the same {options.number} samples lie there")
        return
    click.echo(f"sampling {run.samples.name} ({why})")
    try:
        run_bundle("pixelcnn", "inference", ids)
    finally:
        release(run.samples)
    click.echo(f"{options.number} synthetic images: {run.samples}")


def begin_samples(run_dir: Path | str) -> dict[str, dict[str, Any]]:
    """Open the partial folder of the samples: the first step of the bundle's `run`.

    Returns:
        What the samples will rest on, described before they are drawn.

    Raises:
        VQBrainError: if the prior was trained on codes of another VQ-VAE.
    """
    run = RunFolder(run_dir)
    check_models(run)
    hold(run.samples)
    work = partial(run.samples)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    return describe(_made_from(run))


def sample_marks(
    run_dir: Path | str, seed: int, temperature: float, top_p: float
) -> dict[str, Any]:
    """What every sample carries: how it was drawn, from which models."""
    run = RunFolder(run_dir)
    return {
        "seed": seed,
        "condition": "none",
        "temperature": temperature,
        "top_p": top_p,
        "vqvae_sha256": sha256(run.vqvae / "model.pt"),
        "prior_sha256": sha256(run.prior / "model.pt"),
    }


def sample_spacing(run_dir: Path | str) -> tuple[float, float, float]:
    """Sides of a pixel and the slice distance of a run's stacks, mm; 1 mm where there are none."""
    stack = _stack(run_dir)
    if stack is None:
        return (1.0, 1.0, 1.0)
    x, y, z = (float(side) for side in stack.header.get_zooms()[:3])
    return (x, y, z)


def sample_size(run_dir: Path | str) -> tuple[int, int] | None:
    """Width and height of a run's slices, in pixels; None where there are none.

    Decoded code grids are larger where these are no multiple of the VQ-VAE's factor.
    """
    stack = _stack(run_dir)
    return None if stack is None else (stack.shape[0], stack.shape[1])


def _stack(run_dir: Path | str) -> Any:
    """The first stack of a run, opened; all have one shape and one voxel size."""
    run = RunFolder(run_dir)
    table = run.slices / "slices.tsv"
    if not table.is_file():
        return None
    return nib.load(run.slices / str(pd.read_csv(table, sep="\t", nrows=1)["stack"][0]))


def finish_samples(
    run_dir: Path | str, sources: Described, seconds: float, options: dict[str, Any]
) -> None:
    """Write the provenance of the samples and give their folder its name."""
    run = RunFolder(run_dir)
    write_provenance(partial(run.samples), sources, options, seconds)
    publish(run.samples)


def _made_from(run: RunFolder) -> dict[str, Path]:
    return {"3-vqvae": run.vqvae / "model.pt", "5-prior": run.prior / "model.pt"}


def _check(options: SampleOptions) -> None:
    if options.number < 1:
        raise UsageError(f"-n must be 1 or more, got {options.number}")
    if options.seed < 0:
        raise UsageError(f"--seed must be 0 or more, got {options.seed}")
    if not options.temperature > 0:
        raise UsageError(f"--temperature must be above 0, got {options.temperature:g}")
    if not 0 < options.top_p <= 1:
        raise UsageError(f"--top-p must lie in (0, 1], got {options.top_p:g}")
