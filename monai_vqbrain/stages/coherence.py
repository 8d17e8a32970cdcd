"""Do the slices of sampled volumes fit together? Beside real volumes, and beside strangers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch

from monai_vqbrain import metrics
from monai_vqbrain.stages import figures
from monai_vqbrain.stages.run import RunFolder
from monai_vqbrain.stages.tables import eight_bit, number, read_codes, where

COMPARED = 32  # volumes of each kind, at most

Decode = Callable[[np.ndarray], np.ndarray]  # (B, G, w, h) codes -> (B, W, H) float in [0, 1]


def compare_volumes(
    run: RunFolder, files: Sequence[Path], decode: Decode, figure: Path
) -> dict[str, Any]:
    """How like one another neighbouring slices are, in sampled and in real volumes.

    Real ones are test people's as the VQ-VAE decodes them, at the same distances. `strangers` are
    neighbouring slices of two different sampled volumes: what slices have in common that were not
    drawn to fit together.

    Args:
        run: the run folder.
        files: of sampled volumes.
        decode: the VQ-VAE's decoder.
        figure: where the middle cuts of a sampled and a real volume are drawn.

    Returns:
        Whole-image SSIM of neighbouring slices: `sampled`, `real` and `strangers`.
    """
    sampled = read_volumes(files[:COMPARED])
    real = real_volumes(run, decode, sampled.shape[-1])
    found = {
        "compared": len(sampled),
        "sampled": _mean(neighbour_ssim(volume, volume) for volume in sampled),
        "real": _mean(neighbour_ssim(volume, volume) for volume in real),
        "strangers": _mean(
            neighbour_ssim(one, other)
            for one, other in zip(sampled, np.roll(sampled, 1, axis=0), strict=True)
        )
        if len(sampled) > 1
        else None,
    }
    zooms = nib.load(files[0]).header.get_zooms()  # type: ignore[attr-defined]
    shown = {"sampled": sampled[0]} | ({"real": real[0]} if len(real) else {})
    x, y, z = (float(side) for side in zooms[:3])
    figure.write_bytes(figures.cuts(shown, (x, y, z)))
    return found


def read_volumes(files: Sequence[Path]) -> np.ndarray:
    """Sampled volumes of one size: (N, W, H, S) uint8, 255 standing for 1."""
    return eight_bit(np.stack([nib.load(f).get_fdata() for f in files]))  # type: ignore[attr-defined]


def real_volumes(run: RunFolder, decode: Decode, slices: int) -> np.ndarray:
    """Test people's whole stacks as the VQ-VAE decodes them: (N, W, H, S) uint8."""
    codes, rows, _ = read_codes(run)
    test = where(rows, "test")
    stacks = [
        group.sort_values("index").index
        for _, group in rows[test].reset_index(drop=True).groupby("stack")
        if len(group) == slices
    ]
    decoded = [np.moveaxis(decode(codes[test][list(stack)]), 0, -1) for stack in stacks[:COMPARED]]
    return eight_bit(np.stack(decoded)) if decoded else np.empty((0, 1, 1, slices), np.uint8)


def neighbour_ssim(one: np.ndarray, other: np.ndarray) -> float:
    """Mean SSIM of each slice of a volume and the next slice of another, (W, H, S) uint8."""
    below, above = (
        torch.from_numpy(np.ascontiguousarray(part.transpose(2, 0, 1)))[:, None].float() / 255
        for part in (one[..., :-1], other[..., 1:])
    )
    return float(metrics.ssim_whole(above, below).mean())


def _mean(values: Any) -> float | None:
    listed = list(values)
    return number(np.mean(listed)) if listed else None
