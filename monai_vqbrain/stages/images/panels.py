"""Panels of an image's results, as PNG bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from monai_vqbrain.selection import evenly_spaced
from monai_vqbrain.stages.images.reconstruction import Reconstruction
from monai_vqbrain.stages.reporting.figures import figure_png
from monai_vqbrain.transforms.input_image import InputImage

MAX_SLICES = 6
MAX_SHOWN_ERROR = 0.25  # end of the colour scale, for intensities in [0, 1]


def reconstruction_panel(result: Reconstruction) -> bytes:
    """A PNG of some slices above their reconstructions above the errors."""
    chosen = evenly_counted(result.scores["ssim_brain"].notna())
    rows = {
        "image": (result.image.slices, {"cmap": "gray", "vmin": 0, "vmax": 1}),
        "reconstruction": (result.slices, {"cmap": "gray", "vmin": 0, "vmax": 1}),
        "reconstruction - image": (
            result.slices - result.image.slices,
            {"cmap": "RdBu_r", "vmin": -MAX_SHOWN_ERROR, "vmax": MAX_SHOWN_ERROR},
        ),
    }
    width, height = result.slices.shape[:2]
    wide, high = 1.9 * max(1.0, width / height), 1.9 * max(1.0, height / width)
    size = max(3.4, wide * len(chosen) + 1.0), high * len(rows) + 0.7
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(rows), len(chosen), squeeze=False)
    for row, (name, (stack, style)) in zip(axes, rows.items(), strict=True):
        row[0].set_ylabel(name)
        for axis, index in zip(row, chosen, strict=True):
            axis.imshow(np.rot90(stack[..., index]), interpolation="nearest", **style)
            axis.set(xticks=[], yticks=[])
    for axis, index in zip(axes[0], chosen, strict=True):
        axis.set_title(_title(result.scores.iloc[index]), fontsize=9)
    figure.colorbar(axes[0][0].images[0], ax=axes[:2].ravel().tolist(), shrink=0.5)
    figure.colorbar(axes[2][0].images[0], ax=axes[2].tolist())
    return figure_png(figure, dpi=100)


def bits_panel(image: InputImage, bits: np.ndarray, table: pd.DataFrame) -> bytes:
    """A PNG of some slices above their bits per code.

    Args:
        image: the image.
        bits: bits per code at each pixel, (W, H, S).
        table: one row per slice.
    """
    chosen = evenly_counted(table["counts"])
    figure = Figure(figsize=(1.9 * len(chosen) + 1.2, 4.4), layout="constrained")
    axes = figure.subplots(2, len(chosen), squeeze=False)
    top = float(np.percentile(bits, 99.5))
    for column, index in enumerate(chosen):
        above, below = axes[0][column], axes[1][column]
        above.imshow(np.rot90(image.slices[..., index]), cmap="gray", vmin=0, vmax=1)
        shown = below.imshow(np.rot90(bits[..., index]), cmap="magma", vmin=0, vmax=top)
        above.set_title(f"{table['bits_per_code'].iloc[index]:.2f} bits per code", fontsize=9)
        for axis in (above, below):
            axis.set(xticks=[], yticks=[])
    axes[0][0].set_ylabel("image")
    axes[1][0].set_ylabel("bits per code")
    figure.colorbar(shown, ax=axes[1].tolist())
    return figure_png(figure, dpi=100)


def evenly_counted(counts: pd.Series) -> Sequence[int]:
    """Indices of at most six evenly spaced slices that count, or of all slices if none counts."""
    counted = np.flatnonzero(counts)
    among = counted if len(counted) else np.arange(len(counts))
    return [int(among[place]) for place in evenly_spaced(len(among), MAX_SLICES)]


def _title(row: pd.Series) -> str:
    position = f"{row['position_mm']:.1f} mm\n" if np.isfinite(row["position_mm"]) else ""
    inside = np.isfinite(row["ssim_brain"])
    score = row["ssim_brain"] if inside else row["ssim_whole"]
    return f"{position}SSIM {'in the brain' if inside else 'whole'} {score:.3f}"
