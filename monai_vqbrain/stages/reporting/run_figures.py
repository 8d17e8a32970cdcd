"""The figures of a run on its test participants: what metrics.json contains."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from monai_vqbrain.metrics.features import EncoderFeatures, Features
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.geometry import sample_size
from monai_vqbrain.runs.networks import load_network, select_device
from monai_vqbrain.runs.sample_sets import current_sets
from monai_vqbrain.stages.reporting.decoding import decoder
from monai_vqbrain.stages.reporting.figures import beside_nearest
from monai_vqbrain.stages.reporting.image_sets import Comparison, closest_pairs
from monai_vqbrain.stages.reporting.membership_audit import measure_membership
from monai_vqbrain.stages.reporting.other_cohort import measure_cohort
from monai_vqbrain.stages.reporting.ruler import measure
from monai_vqbrain.stages.reporting.run_images import run_comparison, sample_images
from monai_vqbrain.stages.reporting.summary import summarise

logger = logging.getLogger(__name__)


def measure_run(
    run: RunFolder,
    work: Path,
    other: RunFolder | None,
    spaces: dict[str, Features],
    device: str,
) -> dict[str, Any]:
    """The content of metrics.json; pictures go to `work`.

    Args:
        run: the run folder.
        work: the folder of the report, with the tables of `run_evaluations`.
        other: a run of another cohort; None for none.
        spaces: feature spaces besides the usual ones.
        device: "auto", "cpu", "cuda" or "cuda:N".
    """
    vqvae = load_network(run.vqvae, select_device(device))
    decode = decoder(vqvae, sample_size(run.path))
    numbers = summarise(run, work, decode)
    names = list(current_sets(run))
    comparison = run_comparison(run, decode, names[0], work) if names else None
    if comparison is not None:
        every: dict[str, Features] = {"encoder": EncoderFeatures(vqvae), **spaces}
        numbers |= measure_samples(run, work, comparison, every, device)
        numbers["other_sets"] = measure_other_sets(run, comparison, names[1:], every)
    if other is not None:
        numbers["cohort"] = measure_cohort(run, other, vqvae, decode, comparison, spaces, work)
    return numbers


def measure_samples(
    run: RunFolder, work: Path, comparison: Comparison, spaces: dict[str, Features], device: str
) -> dict[str, Any]:
    """The figures of the samples by protocol vqbrain-eval-1; closest.png goes to `work`.

    Args:
        run: the run folder, with samples.
        work: the folder of the report.
        comparison: of the run.
        spaces: feature spaces besides those that every comparison has.
        device: "auto", "cpu", "cuda" or "cuda:N".
    """
    found, matches = measure(comparison, spaces)
    if matches is None:
        logger.warning("%s", found["not_measured"])
        return found
    found["audit"]["membership"] = measure_membership(run, device)
    pairs = closest_pairs(comparison, matches, found["audit"]["copies"]["closest"])
    (work / "closest.png").write_bytes(beside_nearest(*pairs))
    return found


def measure_other_sets(
    run: RunFolder, comparison: Comparison, names: Sequence[str], spaces: dict[str, Features]
) -> dict[str, Any]:
    """The figures of further sets of samples, by the same protocol.

    Args:
        run: the run folder.
        comparison: of the run's first set; its real slices serve for all.
        names: of the further sets.
        spaces: feature spaces besides those that every comparison has.

    Returns:
        Name -> the figures of `measure`.
    """
    found = {}
    for name in names:
        logger.info("measuring the set of samples %s", name)
        one = replace(comparison, synthetic=sample_images(run, name))
        found[name] = measure(one, spaces)[0]
    return found
