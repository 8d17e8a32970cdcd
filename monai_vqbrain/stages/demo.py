"""`vqbrain demo`: every stage on the built-in simulated cohort."""

from __future__ import annotations

import time
from pathlib import Path

import click

from monai_vqbrain.cohorts import make_phantom
from monai_vqbrain.stages.encode import encode
from monai_vqbrain.stages.evaluate import evaluate
from monai_vqbrain.stages.prepare import PrepareOptions, prepare
from monai_vqbrain.stages.run import RunFolder
from monai_vqbrain.stages.sample import SampleOptions, sample
from monai_vqbrain.stages.train import TrainOptions, train

PARTICIPANTS = 40
SLICES = PrepareOptions(size=(64, 64), spacing=3.0)


def demo(run_path: Path, quick: bool = False, device: str = "auto") -> None:
    """Make a simulated cohort, train on it, sample from it, report; the last line says where.

    Args:
        run_path: the run folder; what is finished there is not done again.
        quick: a smaller cohort and half a minute of training in all, to see that all works.
        device: "auto", "cpu", "cuda" or "cuda:N".
    """
    began = time.monotonic()
    run = RunFolder(run_path)
    training = TrainOptions(minutes=0.25 if quick else 2.5, device=device)
    click.echo(f"A demo on SIMULATED people, {'under 2' if quick else 'about 7'} minutes.")
    prepare_phantom(run, participants=10 if quick else PARTICIPANTS)
    train(run.path, "vqvae", training)
    encode(run.path, device)
    train(run.path, "prior", training)
    sample(run.path, SampleOptions(number=16), device)
    report = evaluate(run.path, device)
    minutes = (time.monotonic() - began) / 60
    click.echo(f"done in {minutes:.1f} minutes; open the report: {report.resolve()}")


def prepare_phantom(run: RunFolder, participants: int = PARTICIPANTS) -> None:
    """Make and prepare the built-in cohort in a run folder: `R/0-phantom`, `R/2-slices`."""
    source = make_phantom(run.path / "0-phantom", participants=participants)
    prepare(source, run.path, SLICES)
