"""The first and last steps of a bundle's training on a run."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd

from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.provenance import read_provenance
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.phantom import slice_phantom
from monai_vqbrain.runs.stage_folder import open_stage
from monai_vqbrain.tables import read_table

logger = logging.getLogger(__name__)


def begin_training(run_dir: Path | str, network: str, resume: bool = False) -> None:
    """Open the partial folder of a training: the first step of the bundles' `training`.

    If a run has no slices, the VQ-VAE's bundle makes the built-in simulated cohort first. The files
    of an interrupted training are discarded unless it is resumed.

    Args:
        run_dir: the run folder.
        network: "vqvae" or "prior".
        resume: continue the interrupted training.

    Raises:
        VQBrainError: if another process is training this network, or codes are missing.
    """
    run = RunFolder(run_dir)
    if network == "vqvae" and read_provenance(run.slices) is None:
        slice_phantom(run)
    if network == "prior" and read_provenance(run.codes) is None:
        raise VQBrainError(f"{run.codes} is not there: first run {run.command('encode')}")
    open_stage(run.vqvae if network == "vqvae" else run.prior, resume)


def kept_epoch(table: pd.DataFrame) -> pd.Series:
    """The row of a prior's metrics.tsv whose weights are kept: that of the least key metric."""
    return table.iloc[int(table["bits"].argmin())]


def report_training(folder: Path | str) -> None:
    """Log the best epoch's score and the folder: the last step of the bundles' `training`."""
    table = read_table(Path(folder) / "metrics.tsv")
    if "ssim_brain" in table:
        score, best = "ssim_brain", table["ssim_brain"].max()
    else:
        score, best = "bits_per_code", kept_epoch(table)["bits_per_code"]
    where = Path(folder).resolve()
    logger.info("trained: best validation %s %.4f; results: %s", score, best, where)
