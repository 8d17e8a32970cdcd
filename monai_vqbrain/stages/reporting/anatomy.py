"""The anatomy of a comparison: samples and held-out slices, slopes, implausible samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from monai_vqbrain.metrics.anatomy import UNITS, Measures, fit_tissues, measure_anatomy
from monai_vqbrain.metrics.anatomy_comparison import compare_anatomy, position_bins, slope_on
from monai_vqbrain.metrics.laterality import count_mirrored, fit_laterality
from monai_vqbrain.metrics.plausibility import count_implausible, fit_ranges
from monai_vqbrain.stages.reporting.image_sets import Comparison, ImageSet, joined
from monai_vqbrain.tables import finite_or_none

SLOPES = (
    "brain_area", "csf_fraction", "grey_fraction", "white_fraction", "ventricle_area", "contrast",
)  # fmt: skip


def measure_anatomy_of(comparison: Comparison, seed: int = 0) -> dict[str, Any]:
    """Anatomical measures of samples and of real held-out slices, and implausible samples.

    Args:
        comparison: the three sets of images.
        seed: of the bootstraps.

    Returns:
        JSON values: one entry per measure, `slopes` if samples have a requested age or diagnosis,
        and the fractions of implausible slices.
    """
    training, held_out, synthetic = _measures(comparison)
    known, participants = comparison.knows_positions, comparison.held_out.participants
    pair = (comparison.held_out.positions, comparison.synthetic.positions) if known else None
    compared = compare_anatomy(held_out, synthetic, participants, pair, seed=seed)
    ranges = fit_ranges(training, comparison.training.positions if known else None)
    turned = pair and (pair[1], pair[0])
    odd = count_implausible(ranges, synthetic, held_out, participants, turned, seed=seed)
    real = {name: np.concatenate([training[name], held_out[name]]) for name in training}
    return {
        name: rows[0].as_json() | {"unit": UNITS[name]}
        for name, rows in compared.items()
        if math.isfinite(rows[0].difference)
    } | {
        "by_position": known,
        "tissue_priors": comparison.priors is not None and known,
        "slopes": measure_slopes(comparison, real, synthetic, seed),
        "implausible_share": odd.share,
        "implausible_low": odd.low,
        "implausible_high": odd.high,
        "implausible_share_real": odd.real_share,
        "implausible_by_measure": {name: list(pair) for name, pair in odd.by_measure.items()},
        **({} if comparison.sagittal else _mirrored(comparison, seed)),
    }


def _mirrored(comparison: Comparison, seed: int) -> dict[str, float | None]:
    """The fractions of samples and of held-out slices that look mirrored left to right."""
    held_out = comparison.held_out
    found = count_mirrored(
        fit_laterality(comparison.training.images), comparison.synthetic.images,
        held_out.images, held_out.participants, seed,
    )  # fmt: skip
    return {f"mirrored_{name}": finite_or_none(value) for name, value in asdict(found).items()}


def _measures(comparison: Comparison) -> list[Measures]:
    """The measures of training, held-out and synthetic slices."""
    tissues = fit_tissues(comparison.training.images)
    side = comparison.spacing or 1.0
    axis = "sagittal" if comparison.sagittal else "axial"
    priors = comparison.priors if comparison.knows_positions else None
    return [
        measure_anatomy(
            one.images,
            (side, side),
            tissues,
            axis,
            priors=None if priors is None else priors.maps,
            position=None if priors is None else priors.nearest(one.positions),
        )
        for one in comparison.sets
    ]


def measure_slopes(
    comparison: Comparison, real: Measures, synthetic: Measures, seed: int = 0
) -> dict[str, Any]:
    """Slopes on the requested age and diagnosis of samples, and the slopes of real participants.

    Args:
        comparison: the sets of images.
        real: measures of training and held-out slices, in this order.
        synthetic: measures of the samples.
        seed: of the bootstrap.

    Returns:
        "age" or "diagnosis: B - A" -> `unit`, and `measures` -> `real` and `synthetic`; without
        those that were not requested or do not vary.
    """
    real_images = joined(comparison.training, comparison.held_out)
    places: list[np.ndarray | None] = [None, None]
    if comparison.knows_positions:
        places = list(position_bins(real_images.positions, comparison.synthetic.positions))

    def slopes(values: Measures, x: np.ndarray, images: ImageSet, place: Any) -> dict[str, Any]:
        return {
            name: slope_on(values[name], x, images.participants, place, seed=seed).as_json()
            for name in SLOPES
        }

    found: dict[str, Any] = {}
    for name, unit, (x, asked) in _asked(real_images, comparison.synthetic):
        of_real = slopes(real, x, real_images, places[0])
        of_samples = slopes(synthetic, asked, comparison.synthetic, places[1])
        pairs = {m: {"synthetic": of_samples[m], "real": of_real[m]} for m in SLOPES}
        found[name] = {"unit": unit, "measures": pairs}
    return found


def _asked(
    real: ImageSet, synthetic: ImageSet
) -> Sequence[tuple[str, str, tuple[np.ndarray, np.ndarray]]]:
    """Name, unit, values of real slices and of samples, for conditions that vary in both."""
    rows = [("age", "per year", (real.numbers("age"), synthetic.numbers("age")))]
    labels = real.labels("diagnosis"), synthetic.labels("diagnosis")
    reference, *others = [str(value) for value in labels[0].value_counts().index] or [""]
    for other in others:
        coded = tuple(_coded(part, reference, other) for part in labels)
        name = f"diagnosis: {other} - {reference}"
        rows.append((name, "between diagnoses", (coded[0], coded[1])))
    return [row for row in rows if all(_varies(values) for values in row[2])]


def _coded(labels: pd.Series, reference: str, other: str) -> np.ndarray:
    """0 for the reference, 1 for the other, NaN elsewhere."""
    return labels.map({reference: 0.0, other: 1.0}).to_numpy(dtype=float)


def _varies(values: np.ndarray) -> bool:
    return len(np.unique(values[np.isfinite(values)])) > 1
