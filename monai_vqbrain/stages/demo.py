"""`vqbrain demo`: every stage on the built-in simulated cohort."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import click

from monai_vqbrain.errors import UsageError
from monai_vqbrain.provenance import read_provenance
from monai_vqbrain.stages.encode import encode
from monai_vqbrain.stages.evaluate import evaluate
from monai_vqbrain.stages.phantom import PARTICIPANTS, prepare_phantom
from monai_vqbrain.stages.run import RunFolder
from monai_vqbrain.stages.sample import SampleOptions, sample
from monai_vqbrain.stages.train import TrainOptions, train

FEW_CODES = ("network_def#num_codes=64",)  # what a prior can learn from few slices in minutes


def demo(run_path: Path, quick: bool = False, device: str = "auto") -> None:
    """Make a simulated cohort, train on it, sample from it, report; the last line says where.

    Args:
        run_path: the run folder; what is finished there is not done again.
        quick: a smaller cohort and half a minute of training in all, to see that all works.
        device: "auto", "cpu", "cuda" or "cuda:N".
    """
    began = time.monotonic()
    run = RunFolder(run_path)
    slices = read_provenance(run.slices)
    if slices is not None and not slices.get("simulated"):
        raise UsageError(f"{run.path} holds a run on real data: give the demo a folder of its own")
    minutes = 0.25 if quick else 2.5
    short = ("slices_per_epoch=320",) if quick else ()  # so that curves have more than a point
    click.echo(f"A demo on SIMULATED people, {'under 2' if quick else 'about 5'} minutes.")
    prepare_phantom(run, participants=10 if quick else PARTICIPANTS)
    training = TrainOptions(minutes=minutes, device=device, overrides=short)
    train(run.path, "vqvae", replace(training, overrides=FEW_CODES + short))
    encode(run.path, device)
    train(run.path, "prior", training)
    sample(run.path, SampleOptions(number=16), device)
    report = evaluate(run.path, device)
    took = (time.monotonic() - began) / 60
    click.echo(f"done in {took:.1f} minutes; open the report: {report.resolve()}")
