"""Coherence of sampled volumes: similarity of slices 1 to 8 apart, compared with real volumes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch

from monai_vqbrain import metrics
from monai_vqbrain.runs.codes import read_codes
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.sample_sets import read_sample
from monai_vqbrain.runs.stacks import to_uint8
from monai_vqbrain.runs.tables import in_split
from monai_vqbrain.stages.reporting import figures
from monai_vqbrain.tables import finite_or_none
from monai_vqbrain.transforms import solid

MAX_COMPARED = 32  # volumes of each kind
DISTANCES = (1, 2, 4, 8)  # slices apart
DARK = 25  # of 255; brighter pixels are brain
Decode = Callable[[np.ndarray], np.ndarray]  # (B, G, w, h) codes -> (B, W, H) float in [0, 1]


def compare_volumes(
    run: RunFolder, files: Sequence[Path], decode: Decode, figure: Path
) -> dict[str, Any]:
    """Similarity of slices of one volume, in sampled and in real volumes.

    Real volumes are those of test participants, decoded by the VQ-VAE, at the same positions.
    `strangers` are slices of two different sampled volumes at these positions: the similarity of
    slices that were not sampled together.

    Args:
        run: the run folder.
        files: the files of sampled volumes.
        decode: the VQ-VAE's decoder.
        figure: the PNG to write, with orthogonal sections of a sampled and a real volume.

    Returns:
        `distances`: for slices 1, 2, 4 and 8 apart, as far as the volumes reach, the mean SSIM over
        volumes inside the brain, as `sampled`, `real` and `strangers`, and of whole images, as
        `sampled_whole` and so on; `compared`, the number of sampled volumes.
    """
    sampled = read_volumes(files[:MAX_COMPARED])
    real, present = real_volumes(run, decode, sampled.shape[-1])
    pairs = {
        "sampled": [(volume, volume, None) for volume in sampled],
        "real": [(volume, volume, slices) for volume, slices in zip(real, present, strict=True)],
        "strangers": [
            (one, other, None)
            for one, other in zip(sampled, np.roll(sampled, 1, axis=0), strict=True)
            if len(sampled) > 1
        ],
    }
    distances: dict[str, dict[str, float | None]] = {}
    for distance in (d for d in DISTANCES if d < sampled.shape[-1]):
        found = distances[str(distance)] = {}
        for kind, volumes in pairs.items():
            scores = [slice_ssim(*pair, distance) for pair in volumes]
            columns = np.array(scores).reshape(-1, 2).T
            means = [column[~np.isnan(column)].mean() for column in columns if len(scores)]
            inside, whole = map(finite_or_none, means or (np.nan, np.nan))
            found |= {kind: inside, f"{kind}_whole": whole}
    zooms = nib.load(files[0]).header.get_zooms()  # type: ignore[attr-defined]
    shown = {"sampled": sampled[0]} | ({"real": real[0]} if len(real) else {})
    x, y, z = (float(side) for side in zooms[:3])
    figure.write_bytes(figures.orthogonal_sections(shown, (x, y, z)))
    return {"compared": len(sampled), "distances": distances}


def read_volumes(files: Sequence[Path]) -> np.ndarray:
    """Read sampled volumes of one size: (N, W, H, S) uint8, 255 for an intensity of 1."""
    return np.stack([read_sample(file) for file in files])


def real_volumes(run: RunFolder, decode: Decode, slices: int) -> tuple[np.ndarray, np.ndarray]:
    """Stacks of test participants, decoded by the VQ-VAE, at the slice indices of sampled volumes.

    Args:
        run: the run folder.
        decode: the VQ-VAE's decoder.
        slices: S, the number of slices of a sampled volume.

    Returns:
        (N, W, H, S) uint8, black where a stack lacks a slice, and (N, S) bool, the slices that are
        present; the most complete stacks come first.
    """
    codes, rows, _ = read_codes(run)
    first = int(rows["index"][in_split(rows, "training")].min())
    test = in_split(rows, "test") & rows["index"].between(first, first + slices - 1).to_numpy()
    codes, rows = codes[test], rows[test].reset_index(drop=True)
    stacks = sorted(rows.groupby("stack"), key=lambda stack: -len(stack[1]))
    volumes, present = [], np.zeros((len(stacks[:MAX_COMPARED]), slices), bool)
    for (_, stack), mask in zip(stacks, present, strict=False):
        decoded = to_uint8(decode(codes[list(stack.index)]))
        indices = (stack["index"] - first).to_numpy()
        volumes.append(np.zeros((*decoded.shape[1:], slices), np.uint8))
        volumes[-1][..., indices] = np.moveaxis(decoded, 0, -1)
        mask[indices] = True
    return np.stack(volumes) if volumes else np.empty((0, 1, 1, slices), np.uint8), present


def slice_ssim(
    one: np.ndarray, other: np.ndarray, present: np.ndarray | None = None, distance: int = 1
) -> tuple[float, float]:
    """Mean SSIM of each slice of a volume and a farther slice of another.

    Args:
        one: (W, H, S) uint8.
        other: of the same shape.
        present: (S,) bool, the slices that are present; all by default.
        distance: slices between the two, 1 for the next.

    Returns:
        Inside the brain of both slices (with holes filled), and of whole images.
    """
    there = np.ones(one.shape[-1], bool) if present is None else present
    both = there[:-distance] & there[distance:]
    parts = one[..., :-distance], other[..., distance:]
    below, above = (np.moveaxis(part, -1, 0)[both] for part in parts)
    if not both.any():
        return float("nan"), float("nan")
    brains = [np.stack([solid(image > DARK) for image in part]) for part in (below, above)]
    mask = torch.from_numpy(brains[0] & brains[1])[:, None]
    upper, lower = (
        torch.from_numpy(np.ascontiguousarray(part))[:, None].float() / 255
        for part in (above, below)
    )
    inside = metrics.ssim_brain(upper, lower, mask)
    return float(inside.nanmean()), float(metrics.ssim_whole(upper, lower).mean())
