"""`vqbrain evaluate`: the scores of a run, in metrics.json, and the report."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

import numpy as np
import torch

from monai_vqbrain.files import building, writing
from monai_vqbrain.logs import logging_to
from monai_vqbrain.provenance import describe, read_provenance, what_changed, write_provenance
from monai_vqbrain.runs.bundles import run_bundle
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.freshness import check_codes, check_models, evaluation_inputs
from monai_vqbrain.runs.networks import load_network, select_device
from monai_vqbrain.runs.sampling import sample_files, sample_size
from monai_vqbrain.stages.report import render
from monai_vqbrain.stages.reporting.coherence import Decode
from monai_vqbrain.stages.reporting.summary import summarise

logger = logging.getLogger(__name__)


def evaluate(run: Path | str, *, device: str = "auto", show_ids: bool = False) -> Path:
    """Score a run on its test participants and write 7-report: tables, metrics.json, the report.

    Scores are computed again only if something that they depend on has changed; the report is
    always rendered.

    Args:
        run: the run folder, with at least a trained VQ-VAE and codes.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        show_ids: show participant ids in the report.

    Returns:
        The report, an HTML file.

    Raises:
        UsageError: if an earlier stage is missing.
        VQBrainError: if codes or prior belong to another VQ-VAE.
    """
    folder = RunFolder(run)
    folder.need(folder.slices, "prepare SOURCE")
    folder.need(folder.vqvae, "train vqvae")
    folder.need(folder.codes, "encode")
    made_from = describe(evaluation_inputs(folder))
    reason = what_changed(folder.report, made_from, {})
    if reason is None:
        logger.info("%s is up to date: only the report is rendered again", folder.report.name)
        return render(folder, folder.report, show_ids)
    check_fit(folder)
    logger.info("evaluating %s (%s)", folder.report.name, reason)
    began = time.monotonic()
    with building(folder.report) as work, logging_to(work):
        run_evaluations(folder, work, device)
        numbers = summarise(folder, work, decoder(folder, device))
        with writing(work / "metrics.json") as path:
            path.write_text(json.dumps(numbers, indent=2, allow_nan=False) + "\n")
        write_provenance(work, made_from, {}, time.monotonic() - began)
        render(folder, work, show_ids)
    return folder.report / "report.html"


def check_fit(run: RunFolder) -> None:
    """Refuse codes or a prior that belong to another VQ-VAE; warn if samples do.

    Raises:
        VQBrainError: if they do; it names the command to run.
    """
    check_codes(run)
    if read_provenance(run.prior):
        check_models(run)
    if read_provenance(run.samples) and not sample_files(run):
        logger.warning("%s comes from other networks: left out of the report", run.samples.name)


def run_evaluations(run: RunFolder, work: Path, device: str) -> None:
    """Run the bundles' evaluations, which write fidelity.tsv, panel.png and bits.tsv to `work`."""
    ids = {
        "run_dir": str(run.path.absolute()),
        "output_dir": str(work.absolute()),
        "device": device,
    }
    run_bundle("vqvae", "evaluate", ids)
    if read_provenance(run.prior):
        run_bundle("pixelcnn", "evaluate", ids)


def decoder(run: RunFolder, device: str) -> Decode:
    """The run's VQ-VAE as a function from code grids (B, G, w, h) to images (B, W, H) in [0, 1]."""
    target = select_device(device)
    network = load_network(run.vqvae, target)
    width, height = sample_size(run.path) or (None, None)

    def decode(codes: np.ndarray) -> np.ndarray:
        grids = torch.from_numpy(codes.astype(np.int64)).to(target)
        if grids.shape[1] == 1:  # one group
            grids = grids[:, 0]
        with torch.inference_mode():
            images: torch.Tensor = network.decode_samples(grids)  # type: ignore[operator]
        return images[:, 0, :width, :height].float().cpu().numpy()

    return decode
