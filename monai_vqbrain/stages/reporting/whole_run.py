"""Whether the stages that a report needs are complete and unchanged."""

from __future__ import annotations

from pathlib import Path

from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.sample_sets import sample_sets


def reported_stages(run: RunFolder) -> list[Path]:
    """The folders that a report needs; prior and samples are optional."""
    sets = [run.sample_set(name) for name in sample_sets(run)]
    return [run.slices, run.vqvae, run.codes, run.prior, *sets]


def check_whole(run: RunFolder) -> None:
    """Refuse a run with an incomplete or changed stage; prior and samples are optional.

    Raises:
        UsageError: if slices, VQ-VAE or codes are missing.
        VQBrainError: if a file of a stage is missing or has changed.
    """
    run.need(run.slices, "prepare SOURCE")
    run.need(run.vqvae, "train vqvae")
    run.need(run.codes, "encode")
    if run.prior.exists():
        run.need(run.prior, "train prior")
    for name in sample_sets(run):
        run.need(run.sample_set(name), f"sample --name {name}")
