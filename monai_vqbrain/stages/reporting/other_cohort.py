"""The networks and samples of a run, measured on the slices of another cohort."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
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
) -> dict[str, Any]:
    """Measure a run's networks and samples on all slices of another run.

    Args:
        run: the run whose networks these are.
        other: the run with the slices of the other cohort; it needs no networks.
        vqvae: the run's VQ-VAE.
        decode: its decoder.
        comparison: the run's own comparison; None without samples.
        spaces: further feature spaces.

    Returns:
        JSON values: name, fidelity, prior, and with samples what `measure` gives, held-out slices
        being those of the other cohort.

    Raises:
        UsageError: if the other run was sliced in another way.
    """
    check_slicing(run, other)
    rows = read_slices_table(other).reset_index(drop=True)
    _warn_of_shared(run, rows)
    images, mask = read_slices(other, rows)
    codes = _encode(vqvae, images)
    decoded = np.concatenate(list(_decode(codes, decode)))
    scores = score_slices(decoded, images, mask).assign(participant_id=rows["participant_id"])
    found: dict[str, Any] = {"name": other.path.resolve().name, "fidelity": fidelity(scores)}
    if read_provenance(run.prior):
        found["prior"] = _bits(run, rows, codes)
    if comparison is None:
        return found
    spaces = {"encoder": EncoderFeatures(vqvae), **spaces}
    figures, _ = measure(_beside(run, other, comparison, to_uint8(decoded), rows), spaces)
    return found | {name: figures[name] for name in COMPARED if name in figures}


def check_slicing(run: RunFolder, other: RunFolder) -> None:
    """Refuse another cohort whose slices are not like those that the networks were trained on.

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
            "if they are the same, its figures are too good",
            len(shared),
        )


def _encode(vqvae: nn.Module, images: np.ndarray) -> np.ndarray:
    """(N, G, w, h) codes of (N, W, H) uint8."""
    network: Any = vqvae
    place = next(vqvae.parameters()).device
    found = []
    for start in progress(range(0, len(images), BATCH), "encode cohort"):
        batch = torch.from_numpy(images[start : start + BATCH]).to(place)[:, None].float() / 255
        with torch.inference_mode():
            codes = network.index_quantize(batch).cpu().numpy()
        found.append(codes[:, None] if codes.ndim == 3 else codes)
    return np.concatenate(found)


def _decode(codes: np.ndarray, decode: Decode) -> Iterator[np.ndarray]:
    for start in progress(range(0, len(codes), BATCH), "decode cohort"):
        yield decode(codes[start : start + BATCH])


def _bits(run: RunFolder, rows: pd.DataFrame, codes: np.ndarray) -> dict[str, Any]:
    """Bits per code of each slice by itself, over participants."""
    place = torch.device("cpu")
    prior = cast("PixelCNN", load_network(run.prior, place))
    known = prior.settings["conditions"]
    grids = torch.from_numpy(codes.astype(np.int64))
    grids = grids[:, 0] if grids.shape[1] == 1 else grids
    items = [
        {"codes": grid, "condition": condition_row(known, conditions_of_row(dict(row), known))}
        for grid, (_, row) in zip(grids, rows.iterrows(), strict=True)
    ]
    bits = bits_of_items(prior, items, place) / grids[0].numel()
    interval = metrics.over_participants(bits, rows["participant_id"].tolist())
    return {"bits_per_code_interval": interval.as_json()}


def _beside(
    run: RunFolder, other: RunFolder, own: Comparison, decoded: np.ndarray, rows: pd.DataFrame
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
