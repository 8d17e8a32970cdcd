"""All figures of a run's report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from monai_vqbrain.metrics import code_counts
from monai_vqbrain.runs.codes import read_codes
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.sample_sets import main_set, read_samples
from monai_vqbrain.runs.stacks import read_slices
from monai_vqbrain.runs.tables import in_split, read_slices_table
from monai_vqbrain.runs.training import read_metrics
from monai_vqbrain.selection import evenly_spaced
from monai_vqbrain.stages.reporting import figures
from monai_vqbrain.stages.reporting.pages import data_uri
from monai_vqbrain.tables import read_table

BATCH = 64  # slices that are read at a time


def report_figures(
    run: RunFolder, work: Path, metrics: Mapping[str, Any], labels: Mapping[str, str]
) -> dict[str, str]:
    """Every figure for which the run has the data.

    Args:
        run: the run folder.
        work: the folder of metrics.json, fidelity.tsv, and of the evaluation's pictures.
        metrics: the content of metrics.json.
        labels: participant -> the name to show.

    Returns:
        Name -> PNG as a data URI.
    """
    pngs: dict[str, bytes] = {"montage": figures.montage(_training_slices(run))}
    for name in ("panel", "worst", "nearest", "cuts", "closest"):
        if (work / f"{name}.png").is_file():
            pngs[name] = (work / f"{name}.png").read_bytes()
    positions = metrics["fidelity"].get("groups", {}).get("position")
    if positions:
        pngs["positions"] = figures.by_position(positions)
    pngs |= _curves(run) | _fidelity_figures(work, metrics, labels)
    if "codebook" in metrics:
        pngs |= _code_figures(run)
    samples = main_set(run)[1][:16]
    if samples:
        pngs["samples"] = figures.montage(read_samples(samples)[:32])
    return {name: data_uri(png) for name, png in pngs.items()}


def _curves(run: RunFolder) -> dict[str, bytes]:
    """The curves of both trainings."""
    wanted = (
        ("vqvae", run.vqvae, ("loss", "ssim_brain", "codes_used"), "ssim_brain"),
        ("prior", run.prior, ("loss", "bits_per_code"), None),
    )
    return {
        f"curves_{name}": figures.curves(read_metrics(folder), columns, best)
        for name, folder, columns, best in wanted
        if (folder / "metrics.tsv").is_file()
    }


def _fidelity_figures(
    work: Path, metrics: Mapping[str, Any], labels: Mapping[str, str]
) -> dict[str, bytes]:
    fidelity = metrics["fidelity"]
    if "test" not in fidelity or "trivial" not in fidelity:
        return {}
    values = {"this VQ-VAE": fidelity["test"]["ssim_brain"]}
    trivial = fidelity["trivial"]
    order = ("pooling", "nearest", "position_mean", "black")
    values |= {name: trivial[name]["ssim_brain"] for name in order}
    scores = read_table(work / "fidelity.tsv")
    pooling = values["pooling"]["mean"]
    return {
        "bars": figures.bars(values, "SSIM inside the brain, 95 % interval"),
        "participants": figures.by_participant(scores, labels, pooling),
    }


def _code_figures(run: RunFolder) -> dict[str, bytes]:
    codes, rows, num_codes = read_codes(run)
    test = in_split(rows, "test")
    if not test.any():
        return {}
    grids, about = codes[test][:, 0], rows[test]
    parts = [slice(start, start + BATCH) for start in range(0, len(grids), BATCH)]
    batches = ((read_slices(run, about[part])[0], grids[part]) for part in parts)
    ranks = figures.code_brightness(batches, num_codes)
    chosen = evenly_spaced(len(grids), 6)
    images = read_slices(run, about.iloc[chosen])[0]
    return {
        "code_maps": figures.code_maps(images, grids[chosen], ranks),
        "code_use": figures.code_use(code_counts(codes[test], num_codes)),
    }


def _training_slices(run: RunFolder) -> np.ndarray:
    """At most 24 training slices, spread over participants and positions: (N, W, H) uint8."""
    rows = read_slices_table(run)
    training = rows[in_split(rows, "training")]
    chosen = training if len(training) else rows
    return read_slices(run, chosen.iloc[evenly_spaced(len(chosen), 24)])[0]
