"""The networks and samples of a run, measured on the slices of another cohort."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from torch import nn

from monai_vqbrain import metrics
from monai_vqbrain.errors import UsageError
from monai_vqbrain.metrics.features import EncoderFeatures, Features
from monai_vqbrain.networks import PixelCNN
from monai_vqbrain.networks.conditions import condition_row
from monai_vqbrain.progress import progress
from monai_vqbrain.provenance import read_provenance
from monai_vqbrain.runs.conditions import conditions_of_row, position_column
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.networks import load_network
from monai_vqbrain.runs.stacks import read_slices, to_uint8
from monai_vqbrain.runs.tables import in_split, read_slices_table
from monai_vqbrain.stages.reporting.fidelity import fidelity, score_slices
from monai_vqbrain.stages.reporting.image_sets import Comparison, Decode, ImageSet
from monai_vqbrain.stages.reporting.membership_audit import bits_of_items
from monai_vqbrain.stages.reporting.ruler import measure
from monai_vqbrain.stages.reporting.run_images import BATCH
from monai_vqbrain.stages.reporting.stored_images import StoredImages, store
from monai_vqbrain.team import spread

logger = logging.getLogger(__name__)

COMPARED = ("images", "distribution", "detectability", "anatomy", "utility", "not_measured")
SAME = ("axis", "size", "spacing")  # options of prepare that both cohorts must share


def measure_cohort(
    run: RunFolder,
    other: RunFolder,
    vqvae: nn.Module,
    decode: Decode,
    comparison: Comparison | None,
    spaces: dict[str, Features],
    work: Path | None = None,
) -> dict[str, Any]:
    """Measure a run's networks and samples on all slices of another run.

    Args:
        run: the run whose networks these are.
        other: the run with the slices of the other cohort; it needs no networks.
        vqvae: the run's VQ-VAE.
        decode: its decoder.
        comparison: the run's own comparison; None without samples.
        spaces: further feature spaces.
        work: the folder whose disk takes the decoded slices; by default that of temporary files.

    Returns:
        JSON values: name, fidelity, prior, and with samples what `measure` gives, held-out slices
        being those of the other cohort.

    Raises:
        UsageError: if the other run was sliced in another way.
    """
    check_slicing(run, other)
    rows = read_slices_table(other).reset_index(drop=True)
    _warn_of_shared(run, rows)
    codes, tables, decoded = _through_vqvae(other, rows, partial(_pass_batch, vqvae, decode), work)
    scores = tables.assign(participant_id=rows["participant_id"])
    found: dict[str, Any] = {"name": other.path.resolve().name, "fidelity": fidelity(scores)}
    if read_provenance(run.prior):
        found["prior"] = _bits(run, rows, codes)
    if comparison is None:
        return found
    spaces = {"encoder": EncoderFeatures(vqvae), **spaces}
    figures, _ = measure(_beside(run, other, comparison, decoded, rows), spaces)
    return found | {name: figures[name] for name in COMPARED if name in figures}


def check_slicing(run: RunFolder, other: RunFolder) -> None:
    """Refuse another cohort whose slices differ from those that the networks were trained on.

    Raises:
        UsageError: if `prepare` was given another axis, size or spacing, or none was prepared.
    """
    other.need(other.slices, "prepare SOURCE")
    ours, theirs = (
        (read_provenance(each.slices) or {}).get("options", {}) for each in (run, other)
    )
    for name in SAME:
        if ours.get(name) != theirs.get(name):
            raise UsageError(
                f"--cohort {other.path} has slices of {name} {theirs.get(name)}, {run.path} of "
                f"{ours.get(name)}: prepare it with the same --{name}"
            )


def _warn_of_shared(run: RunFolder, rows: pd.DataFrame) -> None:
    own = read_slices_table(run)
    trained_on = set(own["participant_id"][in_split(own, "training")])
    shared = trained_on & set(rows["participant_id"])
    if shared:
        logger.warning(
            "%d participants of the other cohort have identifiers of training participants: "
            "if these are the same participants, its figures are too optimistic",
            len(shared),
        )


Passed = tuple[np.ndarray, pd.DataFrame, np.ndarray]  # codes, scores, decoded slices


def _through_vqvae(
    other: RunFolder,
    rows: pd.DataFrame,
    through: Callable[[tuple[np.ndarray, np.ndarray]], Passed],
    work: Path | None,
) -> tuple[np.ndarray, pd.DataFrame, StoredImages]:
    """The codes (N, G, w, h), the scores and the reconstructions (N, W, H) of another cohort."""
    starts = range(0, len(rows), BATCH)
    batches = (read_slices(other, rows.iloc[start : start + BATCH]) for start in starts)
    codes, tables = [], []

    def decoded() -> Iterator[np.ndarray]:
        for grids, scores, images in progress(
            spread(through, batches), "encode cohort", len(starts), "batch"
        ):
            codes.append(grids)
            tables.append(scores)
            yield images

    images = store(decoded(), work)
    return np.concatenate(codes), pd.concat(tables, ignore_index=True), images


def _pass_batch(network: Any, decode: Decode, batch: tuple[np.ndarray, np.ndarray]) -> Passed:
    """One batch of slices (B, W, H) uint8 and masks, encoded, decoded and scored."""
    images, mask = batch
    place = next(network.parameters()).device
    with torch.inference_mode():
        pixels = torch.from_numpy(images).to(place)[:, None].float() / 255
        codes: np.ndarray = network.index_quantize(pixels).cpu().numpy()
    codes = codes[:, None] if codes.ndim == 3 else codes
    found = decode(codes)
    return codes.astype(np.int32), score_slices(found, images, mask), to_uint8(found)


def _bits(run: RunFolder, rows: pd.DataFrame, codes: np.ndarray) -> dict[str, Any]:
    """Bits per code of each slice without its neighbours, over participants."""
    prior = cast("PixelCNN", load_network(run.prior))
    known = prior.settings["conditions"]
    grids = torch.from_numpy(codes)
    grids = grids[:, 0] if grids.shape[1] == 1 else grids
    items = [
        {"codes": grid, "condition": condition_row(known, conditions_of_row(dict(row), known))}
        for grid, (_, row) in zip(grids, rows.iterrows(), strict=True)
    ]
    bits = bits_of_items(prior, items) / grids[0].numel()
    interval = metrics.over_participants(bits, rows["participant_id"].tolist())
    return {"bits_per_code_interval": interval.as_json()}


def _beside(
    run: RunFolder, other: RunFolder, own: Comparison, decoded: StoredImages, rows: pd.DataFrame
) -> Comparison:
    """The run's comparison with the other cohort's slices in place of the held-out ones."""
    column = position_column(run)
    if position_column(other) != column:  # positions then differ in their unit
        column = "position_rel"
    about = rows.assign(position=rows[column])
    training = own.training.about
    return replace(
        own,
        training=ImageSet(own.training.images, training.assign(position=training[column])),
        held_out=ImageSet(decoded, about),
        priors=own.priors if column == position_column(run) else None,
    )
