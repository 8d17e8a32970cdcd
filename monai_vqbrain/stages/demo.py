"""`vqbrain demo`: every stage on the built-in simulated cohort."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from monai_vqbrain.cohorts import make_phantom
from monai_vqbrain.errors import UsageError
from monai_vqbrain.provenance import read_provenance
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.phantom import PARTICIPANTS, SIZE, SPACING
from monai_vqbrain.stages.encode import encode
from monai_vqbrain.stages.evaluate import evaluate
from monai_vqbrain.stages.prepare import prepare
from monai_vqbrain.stages.sample import sample
from monai_vqbrain.stages.train import train_prior, train_vqvae

logger = logging.getLogger(__name__)

FEW_CODES = {"network_def#num_codes": 64}  # as many as a prior can learn from few slices in minutes


def demo(run: Path | str = "vqbrain-demo", *, quick: bool = False, device: str = "auto") -> Path:
    """Simulate a cohort, train on it, sample from it, evaluate.

    Args:
        run: the run folder; stages that are up to date are not run again.
        quick: a smaller cohort and half a minute of training in total, to check the installation.
        device: "auto", "cpu", "cuda" or "cuda:N".

    Returns:
        The report, an HTML file.

    Raises:
        UsageError: if the folder holds a run on real data.
    """
    began = time.monotonic()
    run_folder = RunFolder(run)
    slices = read_provenance(run_folder.slices)
    if slices is not None and not slices.get("simulated"):
        raise UsageError(f"{run} holds a run on real data: give the demo a folder of its own")
    logger.info("A demo on SIMULATED data, %s.", "under 2 minutes" if quick else "about 6 minutes")
    participants = 10 if quick else PARTICIPANTS
    source = make_phantom(run_folder.path / "0-phantom", participants=participants)
    prepare(source, run, size=SIZE, spacing=SPACING)
    minutes = 0.25 if quick else 2.5
    epoch: dict[str, Any] = {"slices_per_epoch": 320} if quick else {}  # several points per curve
    train_vqvae(run, minutes=minutes, device=device, overrides=FEW_CODES | epoch)
    encode(run, device=device)
    train_prior(run, minutes=minutes, device=device, overrides=epoch)
    sample(run, device=device)
    page = evaluate(run, device=device)
    duration = (time.monotonic() - began) / 60  # minutes
    logger.info("done in %.1f minutes; open the report: %s", duration, page.resolve())
    return page
