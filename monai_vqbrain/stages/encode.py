"""`vqbrain encode`: encode every slice of a run as a grid of codes."""

from __future__ import annotations

import logging
from pathlib import Path

from monai_vqbrain.provenance import what_changed
from monai_vqbrain.runs.bundles import bundle_command, run_bundle
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.freshness import code_inputs
from monai_vqbrain.runs.stage_folder import leave_stage
from monai_vqbrain.team import on_all_ranks

logger = logging.getLogger(__name__)


@on_all_ranks
def encode(run: Path | str, *, device: str = "auto") -> Path:
    """Encode every slice of a run, unless the codes are up to date.

    Args:
        run: the run folder, with a trained VQ-VAE.
        device: "auto", "cpu", "cuda" or "cuda:N".

    Returns:
        The folder of the codes, `R/4-codes`.

    Raises:
        UsageError: if slices or VQ-VAE are missing.
        VQBrainError: if the VQ-VAE was trained on other slices.
    """
    run_folder = RunFolder(run)
    run_folder.need(run_folder.slices, "prepare SOURCE")
    run_folder.need(run_folder.vqvae, "train vqvae")
    reason = what_changed(run_folder.codes, code_inputs(run_folder), {})
    if reason is None:
        logger.info("%s is up to date: nothing it depends on has changed", run_folder.codes.name)
        return run_folder.codes
    logger.info("encoding %s (%s)", run_folder.codes.name, reason)
    try:
        run_bundle("vqvae", "encode", _ids(run_folder, device))
    finally:
        leave_stage(run_folder.codes)
    return run_folder.codes


def encoding_command(run: Path | str, device: str = "auto") -> str:
    """The MONAI bundle command that does the same as `encode`."""
    return bundle_command("vqvae", "encode", _ids(RunFolder(run), device))


def _ids(run: RunFolder, device: str) -> dict[str, str]:
    return {"run_dir": str(run.path.absolute()), "device": device}
