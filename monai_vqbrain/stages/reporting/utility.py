"""The utility of samples for training classifiers of diagnosis, sex and age."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from monai_vqbrain.metrics.utility import Labelled, measure_utility
from monai_vqbrain.stages.reporting.image_sets import Comparison, ImageSet

MIN_PARTICIPANTS = 2  # per class, in training and held out
MIN_SAMPLES = 8  # per class

Labels = Callable[[ImageSet], pd.Series]  # (N,) texts, missing where unknown


def measure_utilities(comparison: Comparison) -> dict[str, Any]:
    """Train on real slices, on samples and on both, and test on held-out participants.

    Args:
        comparison: the sets of images; the samples' `about` has their requested conditions.

    Returns:
        Task -> the fields of `Utility`, and `classes`; or `measurable` false and `why`.
    """
    tasks: dict[str, Labels] = {
        "diagnosis": lambda images: images.labels("diagnosis"),
        "sex": lambda images: images.labels("sex"),
        "age band": _age_band(comparison.training),
    }
    return {name: _measure(comparison, name, labels) for name, labels in tasks.items()}


def _age_band(training: ImageSet) -> Labels:
    """Younger or older than the median training participant."""
    ages = training.about.assign(age=training.numbers("age")).groupby("participant_id")["age"]
    middle = np.round(ages.first().median())  # NaN for an unknown age

    def labels(images: ImageSet) -> pd.Series:
        age = pd.Series(images.numbers("age"))
        band = np.where(age > middle, f"over {middle:.0f}", f"{middle:.0f} or under")
        return pd.Series(band).where(age.notna())

    return labels


def _measure(comparison: Comparison, name: str, labels: Labels) -> dict[str, Any]:
    training, held_out, synthetic = (
        _by_participant(labels(images), images) for images in comparison.sets
    )
    known = _participants_per_class(training, comparison.training)
    tested = _participants_per_class(held_out, comparison.held_out)
    classes = sorted(c for c in known if min(known[c], tested.get(c, 0)) >= MIN_PARTICIPANTS)
    if len(classes) < 2:
        return _not_measurable(
            f"fewer than two groups have {MIN_PARTICIPANTS} training and {MIN_PARTICIPANTS} "
            f"held-out participants with a known {name}"
        )
    asked = synthetic.value_counts()
    short = [c for c in classes if asked.get(c, 0) < MIN_SAMPLES]
    if short:
        return _not_measurable(
            f"fewer than {MIN_SAMPLES} samples have the requested {name} {short[0]}"
        )
    found = measure_utility(
        _labelled(training, comparison.training, classes),
        _labelled(synthetic, comparison.synthetic, classes),
        _labelled(held_out, comparison.held_out, classes),
    )
    figures = found.as_json() | {"classes": classes}
    if not found.measurable:
        figures["why"] = (
            f"the classifier of real slices is at chance (AUC {found.real.auc:.2f}, "
            f"p = {found.p_value:.2f})"
        )
    return figures


def _by_participant(labels: pd.Series, images: ImageSet) -> pd.Series:
    """Each participant's label at the first visit, since a diagnosis may change."""
    return labels.groupby(np.asarray(images.participants)).transform("first")


def _participants_per_class(labels: pd.Series, images: ImageSet) -> dict[str, int]:
    table = pd.DataFrame({"label": labels, "participant": images.participants}).dropna()
    counts = table.groupby("label")["participant"].nunique()
    return {str(label): int(count) for label, count in counts.items()}


def _labelled(labels: pd.Series, images: ImageSet, classes: list[str]) -> Labelled:
    known = labels.isin(classes).to_numpy()
    chosen = images.take(known)
    numbers = labels[known].map({name: number for number, name in enumerate(classes)})
    return Labelled(chosen.images, numbers.to_numpy(dtype=int), chosen.participants)


def _not_measurable(why: str) -> dict[str, Any]:
    return {"measurable": False, "why": why}
