"""`vqbrain demo`: every stage on the built-in simulated cohort."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from monai_vqbrain.cohorts import make_phantom
from monai_vqbrain.errors import UsageError
from monai_vqbrain.provenance import read_provenance
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.phantom import PARTICIPANTS, SIZE, SPACING
from monai_vqbrain.stages.run import PipelineOptions, do_steps
from monai_vqbrain.stages.sample import SampleOptions
from monai_vqbrain.stages.slicing.options import PrepareOptions
from monai_vqbrain.stages.train import TrainOptions

logger = logging.getLogger(__name__)

FEW_CODES = {"network_def#num_codes": 64}  # as many as a prior can learn from few slices in minutes


def demo(run: Path | str = "vqbrain-demo", *, quick: bool = False, device: str = "auto") -> Path:
    """Simulate a cohort, train on it, sample from it, evaluate.

    Args:
        run: the run folder; finished stages are skipped, an interrupted training is resumed.
        quick: a smaller cohort and half a minute of training in total, to check the installation.
        device: "auto", "cpu", "cuda" or "cuda:N".

    Returns:
        The report, an HTML file.

    Raises:
        UsageError: if the folder holds a run on real data.
        VQBrainError: if a stage fails; the message names the stage.
    """
    run_folder = RunFolder(run)
    slices = read_provenance(run_folder.slices)
    if slices is not None and not slices.get("simulated"):
        raise UsageError(f"{run} holds a run on real data: give the demo a folder of its own")
    logger.info("A demo on SIMULATED data, %s.", "under 2 minutes" if quick else "about 4 minutes")
    participants = 10 if quick else PARTICIPANTS
    source = make_phantom(run_folder.path / "0-phantom", participants=participants)
    minutes = 0.25 if quick else 1.5
    epoch: dict[str, Any] = {"slices_per_epoch": 320} if quick else {}  # several points per curve
    options = PipelineOptions(
        prepare=PrepareOptions(size=SIZE, spacing=SPACING),
        vqvae=TrainOptions(minutes=minutes, device=device, overrides=FEW_CODES | epoch),
        prior=TrainOptions(minutes=minutes, device=device, overrides=epoch),
        sample=SampleOptions(),
        device=device,
    )
    return do_steps(source, run_folder, options)
