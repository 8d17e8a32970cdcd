"""Fidelity of reconstructions: by group, of trivial predictors, and the worst slices."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from monai_vqbrain import metrics
from monai_vqbrain.handlers.outputs import panel_of, png_bytes
from monai_vqbrain.runs.codes import code_shape, read_codes
from monai_vqbrain.runs.conditions import position_column
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.stacks import read_slices
from monai_vqbrain.runs.tables import in_split, read_slices_table
from monai_vqbrain.stages.reporting.image_sets import Decode
from monai_vqbrain.stages.reporting.run_images import BATCH
from monai_vqbrain.stages.reporting.stored_images import store
from monai_vqbrain.tables import SLICE_KEYS
from monai_vqbrain.team import spread

WHITE = np.float32(255)  # the stored value of an intensity of 1
SHOWN = 8  # slices in the gallery of the worst
MEASURES = (*metrics.SCORES, "ms_ssim_whole")


def fidelity(scores: pd.DataFrame) -> dict[str, Any]:
    """Means over participants of each score, with 95 % intervals.

    Args:
        scores: one row per slice: participant_id and those of `MEASURES` that were computed.
    """
    participants = [str(participant) for participant in scores["participant_id"]]
    return {
        name: metrics.over_participants(scores[name], participants).as_json()
        for name in MEASURES
        if name in scores
    }


def fidelity_groups(run: RunFolder, scores: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """The scores by slice position, diagnosis, sex and decade of age.

    Args:
        run: the run folder, whose slices.tsv has these.
        scores: fidelity.tsv.

    Returns:
        Name of a grouping -> one entry per group in ascending order: `group`, its label, and the
        scores of `fidelity`. Groupings without data are absent.
    """
    column = position_column(run)
    about = read_slices_table(run)[[*SLICE_KEYS, "diagnosis", "sex", "age", column]]
    table = scores.merge(about, on=list(SLICE_KEYS), how="left")
    found = {
        "position": _by_position(table, column),
        "diagnosis": _by_label(table, table["diagnosis"]),
        "sex": _by_label(table, table["sex"]),
        "age": _by_label(table, _decades(table["age"])),
    }
    return {name: groups for name, groups in found.items() if groups}


def _by_position(table: pd.DataFrame, column: str) -> list[dict[str, Any]]:
    """Group slices by index and axis; the label is the median position."""
    several = table["axis"].nunique() > 1
    digits = 0 if column == "position_mm" else 2
    groups = []
    for (axis, index), part in table.groupby(["axis", "index"]):
        middle = part[column].median()
        place = f"slice {index}" if np.isnan(middle) else f"{middle:.{digits}f}"
        groups.append({"group": f"{axis} {place}" if several else place, **fidelity(part)})
    return groups


def _by_label(table: pd.DataFrame, labels: pd.Series) -> list[dict[str, Any]]:
    return [{"group": str(label), **fidelity(part)} for label, part in table.groupby(labels)]


def _decades(ages: pd.Series) -> pd.Series:
    """`60-69` and the like; missing where the age is."""
    first = pd.to_numeric(ages, errors="coerce") // 10 * 10
    return first.map(lambda years: f"{years:.0f}-{years + 9:.0f}", na_action="ignore")


def trivial_fidelity(run: RunFolder, work: Path | None = None) -> dict[str, Any]:
    """Scores of trivial predictors on the test slices, and pooling factor; {} without slices.

    Args:
        run: the run folder.
        work: the folder whose disk takes the slices; by default that of temporary files.
    """
    rows = read_slices_table(run)
    test, training = rows[in_split(rows, "test")], rows[in_split(rows, "training")]
    if test.empty or training.empty:
        return {}
    target, known = (
        store((read_slices(run, part)[0] for part in _batches(rows)), work)
        for rows in (test, training)
    )
    factor = pooling_factor(run, target.size)
    places, means = metrics.position_means(known, training["index"].to_numpy())
    place = np.abs(test["index"].to_numpy()[:, None] - places).argmin(axis=1)
    closest = metrics.nearest(target, known)[0]
    parts = [slice(start, start + BATCH) for start in range(0, len(test), BATCH)]
    batches = (
        (*read_slices(run, test.iloc[part]), known[closest[part]], place[part]) for part in parts
    )
    tables: dict[str, pd.DataFrame] = {}
    scores = spread(partial(_trivial_scores, factor, means), batches)
    for part, found in zip(parts, scores, strict=True):
        # into one table: those of the batches, kept, would lie between the images of the next ones
        # and the memory of these could not be used again
        for name, table in found.items():
            if name not in tables:
                tables[name] = pd.DataFrame(np.nan, test.index, table.columns, np.float32)
            tables[name].iloc[part] = table.to_numpy()
    names = test["participant_id"].tolist()
    trivial = {name: fidelity(table.assign(participant_id=names)) for name, table in tables.items()}
    return {"trivial": trivial, "pooling_factor": factor}


def _trivial_scores(
    factor: int, means: np.ndarray, batch: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
) -> dict[str, pd.DataFrame]:
    """The scores of each predictor for one batch: slices, masks, nearest slices, places."""
    target, mask, nearest, place = batch
    predictions = {
        "black": metrics.black(target),
        "position_mean": means[place] / WHITE,
        "nearest": nearest / WHITE,
        "pooling": metrics.pooling(target, factor) / WHITE,
    }
    return {name: score_slices(one, target, mask) for name, one in predictions.items()}


def _batches(rows: pd.DataFrame) -> Iterator[pd.DataFrame]:
    for start in range(0, len(rows), BATCH):
        yield rows.iloc[start : start + BATCH]


def pooling_factor(run: RunFolder, size: tuple[int, ...]) -> int:
    """Pixels per code along a side, so that pooling has as many numbers; 4 without codes."""
    if not (run.codes / "codes.safetensors").is_file():
        return 4
    return max(1, round(size[0] / code_shape(run.path)[-2]))


def score_slices(prediction: np.ndarray, target: np.ndarray, mask: np.ndarray) -> pd.DataFrame:
    """The scores of slices, one row each.

    Args:
        prediction: (N, W, H) float in [0, 1].
        target: (N, W, H) uint8.
        mask: (N, W, H) bool, the brain in the target.
    """
    return pd.concat(_score_batches(prediction, target, mask), ignore_index=True)


def _score_batches(
    prediction: np.ndarray, target: np.ndarray, mask: np.ndarray
) -> Iterator[pd.DataFrame]:
    for start in range(0, len(target), BATCH):
        part = slice(start, start + BATCH)
        images = np.ascontiguousarray(prediction[part], dtype=np.float32)
        predicted = torch.from_numpy(images)[:, None]
        expected = torch.from_numpy(target[part])[:, None].float() / 255
        inside = torch.from_numpy(mask[part])[:, None]
        scores = metrics.slice_scores(predicted, expected, inside)
        yield pd.DataFrame({name: values.numpy() for name, values in scores.items()})


def draw_worst(run: RunFolder, scores: pd.DataFrame, decode: Decode, path: Path) -> None:
    """Draw the test slices with the lowest SSIM in the brain, their reconstructions, differences.

    Args:
        run: the run folder, with codes.
        scores: fidelity.tsv.
        decode: the VQ-VAE's decoder.
        path: the PNG.
    """
    codes, rows, _ = read_codes(run)
    numbered = rows[list(SLICE_KEYS)].assign(number=np.arange(len(rows)))
    worst = scores.nsmallest(SHOWN, "ssim_brain").merge(numbered, on=list(SLICE_KEYS))
    chosen = worst["number"].to_numpy(dtype=int)
    images = read_slices(run, rows.iloc[chosen])[0] / WHITE
    path.write_bytes(png_bytes(panel_of(list(images), list(decode(codes[chosen])))))
