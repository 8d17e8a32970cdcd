"""The first and last steps of a bundle's training on a run."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd

from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.memory import keep_freed_memory
from monai_vqbrain.provenance import read_provenance
from monai_vqbrain.ranks import this_rank, wait_for_ranks
from monai_vqbrain.runs.datalist import check_datalist, check_sizes
from monai_vqbrain.runs.folder import DEFAULT_RUN, RunFolder
from monai_vqbrain.runs.freshness import check_codes
from monai_vqbrain.runs.phantom import slice_phantom
from monai_vqbrain.runs.process_group import check_one_process
from monai_vqbrain.runs.stage_folder import open_stage, use_inputs
from monai_vqbrain.tables import read_table

KEY_METRICS = ("ssim_brain", "bits", "bits_per_code")
logger = logging.getLogger(__name__)


def begin_training(run_dir: Path | str, network: str, resume: bool = False) -> None:
    """Open the partial folder of a training: the first step of the bundles' `training`.

    If the default run folder has no slices, the VQ-VAE's bundle makes the built-in simulated cohort
    first; it never does so in a run folder that the user has named. The files of an interrupted
    training are discarded unless it is resumed. With several ranks, rank 0 does it, and all others
    wait.

    Args:
        run_dir: the run folder.
        network: "vqvae" or "prior".
        resume: continue the interrupted training.

    Raises:
        UsageError: if the slices are not finished, or torchrun has started several processes with a
            configuration for one.
        VQBrainError: if another process is training this network, slices or codes are missing, or a
            file of an earlier stage has changed.
    """
    check_one_process("vqvae" if network == "vqvae" else "pixelcnn")
    keep_freed_memory()
    if this_rank() == 0:
        _begin(run_dir, network, resume)
    wait_for_ranks()


def _begin(run_dir: Path | str, network: str, resume: bool) -> None:
    run = RunFolder(run_dir)
    if network == "vqvae":
        if read_provenance(run.slices) is None and not run.slices.exists():
            if str(run_dir) != DEFAULT_RUN:
                raise VQBrainError(
                    f"{run.slices} is not there: first run {run.command('prepare SOURCE')} (MONAI "
                    "writes :: for # in paths: give those with a # to the vqbrain commands)"
                )
            slice_phantom(run)
        use_inputs(run.vqvae, run.slices)
        run.need(run.slices, "prepare SOURCE")
        check_datalist(run.slices)
        if (run.slices / "datalist.json").is_file():
            check_sizes(run.slices)
    else:
        use_inputs(run.prior, run.slices, run.vqvae, run.codes)
        if read_provenance(run.codes) is None:
            raise VQBrainError(f"{run.codes} is not there: first run {run.command('encode')}")
        check_codes(run)
    open_stage(run.vqvae if network == "vqvae" else run.prior, resume)


def kept_epoch(table: pd.DataFrame) -> pd.Series:
    """The row of a prior's metrics.tsv whose weights are kept: that of the least key metric."""
    key = next(name for name in ("bits", "bits_per_code") if name in table)
    return table.iloc[int(table[key].argmin())]


def read_metrics(folder: Path) -> pd.DataFrame:
    """Read metrics.tsv of a training, one row per epoch.

    Raises:
        VQBrainError: if it is missing, or not as a training writes it.
    """
    table = read_table(folder / "metrics.tsv")
    keys = [name for name in ("epoch", *KEY_METRICS) if name in table]
    numeric = all(pd.api.types.is_numeric_dtype(table[name]) for name in table)
    if len(keys) < 2 or keys[0] != "epoch" or not numeric or table[keys].isna().all().any():
        raise VQBrainError(f"{folder / 'metrics.tsv'} is damaged: run its stage again")
    return table


def report_training(folder: Path | str) -> None:
    """Log the best epoch's score and the folder: the last step of the bundles' `training`.

    Rank 0 alone does so: it may still be publishing the folder when others get here.
    """
    if this_rank() > 0:
        return
    table = read_metrics(Path(folder))
    if "ssim_brain" in table:
        score, best = "ssim_brain", table["ssim_brain"].max()
    else:
        row = kept_epoch(table)
        score = "bits_per_code" if "bits_per_code" in table else "bits"
        best = row[score]
    where = Path(folder).resolve()
    logger.info("trained: best validation %s %.4f; results: %s", score, best, where)
