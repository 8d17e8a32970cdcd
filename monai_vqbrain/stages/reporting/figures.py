"""The report's figures: arrays and tables in, PNG bytes out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.ticker import LogLocator, NullFormatter
from skimage import util

INK, MUTED, GRID = "#1d2733", "#66717d", "#e3e7eb"
BLUE, AMBER, GREY = "#2b6cb0", "#c7791a", "#b4bdc7"
WALL_PIXELS = 1024  # small slices are enlarged by an integer factor up to this width
LABELS = {
    "loss": "loss",
    "ssim_brain": "SSIM inside the brain",
    "ssim_whole": "SSIM, whole image",
    "psnr_brain": "PSNR inside the brain (dB)",
    "codes_used": "codes in use",
    "perplexity": "perplexity of the codes",
    "bits_per_code": "bits per code",
    "black": "black",
    "position_mean": "mean at the position",
    "nearest": "nearest training slice",
    "pooling": "pooling",
}


def curves(history: pd.DataFrame, columns: Sequence[str], best: str | None = None) -> bytes:
    """Plots of a training's metrics over time.

    Args:
        history: metrics.tsv, with `epoch` and, if known, `seconds` since the start.
        columns: the columns to plot, one plot each; absent columns are skipped.
        best: the column whose highest value selected the model; that value is marked.
    """
    shown = [c for c in columns if c in history and history[c].notna().any()]
    figure, axes = _grid(1, max(1, len(shown)), width=3.1, height=2.3)
    time, unit = _time_axis(history)
    for axis, column in zip(axes[0], shown, strict=False):
        known = history[column].notna()
        dots = "o" if known.sum() < 4 else ""
        axis.plot(time[known], history[column][known], marker=dots, markersize=4, color=BLUE)
        if column == "loss" and history[column].min() > 0:
            _logarithmic(axis)
        if column == best:
            top = int(history[column].argmax())
            axis.plot(time.iloc[top], history[column].iloc[top], "o", color=AMBER, label="kept")
            axis.legend(frameon=False, fontsize=8, loc="lower right")
        _plain(axis, title=LABELS.get(column, column), below=unit)
    return figure_png(figure)


def bars(intervals: Mapping[str, Mapping[str, Any]], label: str) -> bytes:
    """One bar for each predictor, with its 95 % interval over participants.

    Args:
        intervals: name -> {mean, low, high}; the first is the model, the others are trivial.
        label: the quantity, with its unit.
    """
    names = list(intervals)[::-1]
    figure, axes = _grid(1, 1, width=4.4, height=0.4 * len(names) + 0.7)
    axis = axes[0][0]
    for place, name in enumerate(names):
        value = intervals[name]
        model = place == len(names) - 1
        axis.barh(place, value["mean"], color=BLUE if model else GREY, height=0.62)
        end = value["mean"]
        if value["low"] is not None:
            axis.plot([value["low"], value["high"]], [place, place], color=INK, linewidth=1.4)
            end = value["high"]
        text = f"  {value['mean']:.3f}"
        axis.text(max(end, value["mean"]), place, text, va="center", fontsize=8.5, color=INK)
    axis.set_yticks(range(len(names)), [LABELS.get(n, n) for n in names])
    axis.set_xlim(0, 1.15)
    _plain(axis, below=label)
    axis.grid(visible=False, axis="y")
    return figure_png(figure)


def by_participant(scores: pd.DataFrame, labels: Mapping[str, str], bar: float | None) -> bytes:
    """In-brain SSIM of every test slice, participant by participant.

    Args:
        scores: fidelity.tsv.
        labels: participant -> the name to show.
        bar: the pooling predictor's mean, drawn as a line; None for no line.
    """
    participants = scores.groupby("participant_id")["ssim_brain"]
    order = participants.mean().sort_values().index
    figure, axes = _grid(1, 1, width=min(9.0, max(4.2, 0.45 * len(order) + 1.2)), height=2.6)
    axis = axes[0][0]
    for place, participant in enumerate(order):
        values = participants.get_group(participant).to_numpy()
        spread = np.linspace(-0.16, 0.16, len(values)) if len(values) > 1 else np.zeros(1)
        axis.plot(place + spread, values, "o", color=GREY, markersize=3.2)
        axis.plot([place - 0.28, place + 0.28], [values.mean()] * 2, color=BLUE, linewidth=2)
    if bar is not None:
        axis.axhline(bar, color=AMBER, linewidth=1.2, linestyle="--")
        axis.text(1.0, bar, " pooling", color=AMBER, fontsize=8, va="center",
                  transform=axis.get_yaxis_transform())  # fmt: skip
    names = [labels.get(str(p), str(p)) for p in order]
    axis.set_xticks(range(len(order)), names, rotation=0 if len(order) <= 12 else 90)
    axis.set_xlim(-0.7, len(order) - 0.3)
    _plain(axis, left="SSIM inside the brain")
    axis.grid(visible=False, axis="x")
    return figure_png(figure)


def by_position(groups: Sequence[Mapping[str, Any]]) -> bytes:
    """In-brain SSIM of the test slices by slice position, with 95 % intervals.

    Args:
        groups: `group`, a position with its axis before it if there are several, and
            `ssim_brain` {mean, low, high}.
    """
    lines: dict[str, list[tuple[float, Mapping[str, Any]]]] = {}
    for group in groups:
        axis, _, place = str(group["group"]).rpartition(" ")
        if group["ssim_brain"]["mean"] is not None:
            lines.setdefault(axis, []).append((float(place), group["ssim_brain"]))
    figure, axes = _grid(1, 1, width=5.6, height=2.5)
    for (name, line), colour in zip(lines.items(), (BLUE, AMBER, GREY), strict=False):
        places = [place for place, _ in line]
        axes[0][0].plot(places, [s["mean"] for _, s in line], "o-", color=colour, label=name,
                        markersize=4, linewidth=1.6)  # fmt: skip
        known = [(place, s["low"], s["high"]) for place, s in line if s["low"] is not None]
        if known:
            axes[0][0].fill_between(*zip(*known, strict=True), color=colour, alpha=0.18, lw=0)
    if len(lines) > 1:
        axes[0][0].legend(frameon=False, fontsize=8)
    _plain(axes[0][0], below="slice position", left="SSIM inside the brain")
    return figure_png(figure)


def code_maps(images: np.ndarray, codes: np.ndarray, ranks: np.ndarray) -> bytes:
    """Slices above their code grids, each code coloured by its rank in brightness.

    Args:
        images: (n, W, H) uint8.
        codes: (n, w, h) integers below K.
        ranks: (K,) in [0, 1], NaN for codes that never occur.
    """
    figure, axes = _grid(2, len(images), width=1.55, height=1.55)
    for column, (image, grid) in enumerate(zip(images, codes, strict=True)):
        _show(axes[0][column], image)
        _show(axes[1][column], ranks[grid], colours="viridis", high=1.0)
    _name_rows(axes, ("slice", "its codes"))
    return figure_png(figure)


def code_brightness(batches: Iterable[tuple[np.ndarray, np.ndarray]], num_codes: int) -> np.ndarray:
    """Rank every code by the mean intensity of the patches that it encodes.

    Args:
        batches: pairs of images, (N, W, H) uint8, and the codes of the same slices, (N, w, h)
            integers in 0..K-1.
        num_codes: K.

    Returns:
        (K,) in [0, 1], the darkest code 0; NaN for codes that never occur.
    """
    total, occurrences = np.zeros(num_codes), np.zeros(num_codes, int)
    for images, codes in batches:
        count, width, height = codes.shape
        rows = np.arange(images.shape[1]) * width // images.shape[1]
        columns = np.arange(images.shape[2]) * height // images.shape[2]
        cells = (np.arange(count)[:, None, None] * width + rows[:, None]) * height + columns
        bright = np.bincount(cells.ravel(), images.ravel()) / np.bincount(cells.ravel())
        total += np.bincount(codes.ravel(), bright, minlength=num_codes)
        occurrences += np.bincount(codes.ravel(), minlength=num_codes)
    mean = np.where(occurrences > 0, total / np.maximum(occurrences, 1), np.nan)
    known = np.isfinite(mean)
    ranks = np.full(num_codes, np.nan)
    ranks[known] = mean[known].argsort().argsort() / max(1, known.sum() - 1)
    return ranks


def code_use(counts: np.ndarray) -> bytes:
    """How often each code occurs, the most frequent first.

    Args:
        counts: (K,) occurrences.
    """
    share = np.sort(counts)[::-1] / max(1, counts.sum())
    used = share > 0
    figure, axes = _grid(1, 1, width=4.4, height=2.3)
    axis = axes[0][0]
    axis.plot(np.arange(1, len(share) + 1)[used], 100 * share[used], color=BLUE, linewidth=1.6)
    axis.axhline(100 / len(counts), color=AMBER, linewidth=1.2, linestyle="--", label="equal use")
    _logarithmic(axis)
    axis.set_xlim(1, len(counts))
    axis.legend(frameon=False, fontsize=8)
    _plain(axis, below="codes, most frequent first", left="share of positions (%)")
    return figure_png(figure)


def montage(images: np.ndarray, columns: int = 8) -> bytes:
    """Slices side by side.

    Args:
        images: (n, W, H) uint8.
        columns: slices per row.
    """
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    upright = images.transpose(0, 2, 1)[:, ::-1]  # image rows, from the top
    wall = util.montage(upright, fill=0, grid_shape=(rows, columns))
    larger = max(1, WALL_PIXELS // wall.shape[1])
    wall = wall.repeat(larger, axis=0).repeat(larger, axis=1)
    buffer = BytesIO()
    imsave(buffer, wall, cmap="gray", vmin=0, vmax=255, format="png")
    return buffer.getvalue()


def beside_nearest(samples: np.ndarray, neighbours: np.ndarray) -> bytes:
    """Samples above their nearest training slices and the absolute differences.

    Args:
        samples: (n, W, H) uint8.
        neighbours: (n, W, H) uint8, decoded by the same VQ-VAE.
    """
    figure, axes = _grid(3, len(samples), width=1.3, height=1.3)
    for column, (sample, neighbour) in enumerate(zip(samples, neighbours, strict=True)):
        _show(axes[0][column], sample)
        _show(axes[1][column], neighbour)
        difference = np.abs(sample.astype(float) - neighbour.astype(float))
        _show(axes[2][column], difference, colours="magma", high=128.0)
    _name_rows(axes, ("sample", "nearest", "difference"))
    return figure_png(figure)


def orthogonal_sections(
    volumes: Mapping[str, np.ndarray], sides: tuple[float, float, float]
) -> bytes:
    """Middle sections of volumes across each of their three axes, one row per volume.

    Args:
        volumes: name -> (W, H, S) uint8, of one shape.
        sides: voxel size along each axis, mm.
    """
    lengths = np.array(next(iter(volumes.values())).shape) * sides
    planes = [(0, 1), (1, 2), (0, 2)]  # the axes of each section
    widths = [lengths[across] for across, _ in planes]
    heights = max(lengths[up] for _, up in planes)
    figure = Figure(
        figsize=(7.5, 7.5 * heights / sum(widths) * len(volumes) + 0.1), layout="constrained"
    )
    axes = figure.subplots(len(volumes), 3, squeeze=False, width_ratios=widths)
    for row, volume in zip(axes, volumes.values(), strict=True):
        for axis, (across, up) in zip(row, planes, strict=True):
            section = volume.take(volume.shape[3 - across - up] // 2, axis=3 - across - up)
            _show(axis, section)
            axis.set_aspect(sides[up] / sides[across])
    _name_rows(axes, volumes)
    return figure_png(figure)


def _grid(
    rows: int, columns: int, width: float, height: float, gap: float = 0.05
) -> tuple[Figure, np.ndarray]:
    """A figure with a grid of equal axes; width and height of each in inches."""
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    figure.get_layout_engine().set(wspace=gap, hspace=gap, w_pad=0.06, h_pad=0.06)  # type: ignore[union-attr, call-arg]
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, axes


def _plain(axis: Axes, title: str = "", below: str = "", left: str = "") -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(GREY)
    axis.tick_params(colors=MUTED, labelsize=8.5, length=0)
    axis.grid(visible=True, color=GRID, linewidth=0.8)
    axis.set_axisbelow(True)
    if title:
        axis.set_title(title, fontsize=9.5, color=INK, loc="left")
    axis.set_xlabel(below, fontsize=9, color=MUTED)
    axis.set_ylabel(left, fontsize=9, color=MUTED)


def _logarithmic(axis: Axes) -> None:
    """A logarithmic y axis with plain numbers at 1, 2 and 5."""
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.tick_params(which="minor", length=0)


def _show(axis: Axes, image: np.ndarray, colours: str = "gray", high: float = 255.0) -> None:
    """Show a slice, its first axis to the right, its second upwards: right is the brain's right."""
    axis.imshow(image.T, cmap=colours, vmin=0, vmax=high, origin="lower", interpolation="nearest")
    axis.set_axis_off()


def _name_rows(axes: np.ndarray, names: Iterable[str]) -> None:
    for row, name in zip(axes, names, strict=True):
        row[0].text(-0.04, 0.5, name, rotation=90, fontsize=9, color=INK, ha="right", va="center",
                    transform=row[0].transAxes)  # fmt: skip


def _time_axis(history: pd.DataFrame) -> tuple[pd.Series, str]:
    if "seconds" not in history:
        return history["epoch"], "epoch"
    if history["seconds"].max() < 180:
        return history["seconds"], "seconds"
    return history["seconds"] / 60, "minutes"


def figure_png(figure: Figure, dpi: int = 110) -> bytes:
    """A figure as a PNG file."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white")
    return buffer.getvalue()
