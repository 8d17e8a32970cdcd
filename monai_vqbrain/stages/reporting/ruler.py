"""The figures of a comparison of synthetic with real images, protocol vqbrain-eval-1."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from monai_vqbrain.metrics.bootstrap import Interval, balanced
from monai_vqbrain.metrics.copies import CopySearch, Matches, audit_copies
from monai_vqbrain.metrics.detectability import detectability, detectability_control
from monai_vqbrain.metrics.distribution import (
    blurred_images,
    floor,
    frechet_distance,
    kernel_sums,
    kid_interval,
    neighbours,
    noise_images,
    repeated_image,
)
from monai_vqbrain.metrics.features import (
    BATCH,
    Features,
    Images,
    RandomConvFeatures,
    Standardiser,
    texture_features,
)
from monai_vqbrain.metrics.images import ImageArray
from monai_vqbrain.progress import progress
from monai_vqbrain.runs.views import MAX_SHIFT
from monai_vqbrain.stages.reporting.anatomy import measure_anatomy_of
from monai_vqbrain.stages.reporting.image_sets import Comparison, ImageSet
from monai_vqbrain.stages.reporting.utility import measure_utilities
from monai_vqbrain.team import spread

PROTOCOL = "vqbrain-eval-1"
MIN_IMAGES, MIN_PARTICIPANTS = 10, 2
CEILING_IMAGES = 1000  # KID is unbiased for any number of images, and ceilings need no precision
CUT_OFF = 5.0  # standard deviations of a feature
SPACES: dict[str, Features] = {"random": RandomConvFeatures(), "texture": texture_features}

Figures = dict[str, Any]  # JSON values only


def measure(
    comparison: Comparison, spaces: Mapping[str, Features] | None = None, seed: int = 0
) -> tuple[Figures, Matches | None]:
    """All figures of a comparison.

    Args:
        comparison: the three sets of images.
        spaces: feature spaces besides "random" and "texture", such as the run's encoder.
        seed: of bootstraps, halves and networks.

    Returns:
        JSON values: protocol, images, distribution, detectability, anatomy, audit, utility; and the
        nearest training slice of each sample. With too few images only `not_measured`, the reason.
    """
    count = min(len(one) for one in comparison.sets)
    found: Figures = {"protocol": PROTOCOL, "images": _counts(comparison, count)}
    participants = min(
        len(set(one.participants)) for one in (comparison.training, comparison.held_out)
    )
    if count < MIN_IMAGES or participants < MIN_PARTICIPANTS:
        found["not_measured"] = (
            f"samples are measured with at least {MIN_IMAGES} images in each set and "
            f"{MIN_PARTICIPANTS} participants on each side; there are {count} and "
            f"{participants}"
        )
        return found, None
    copies: list[tuple[Figures, Matches]] = []
    steps: dict[str, Callable[[], Any]] = {
        "distribution": lambda: measure_distribution(
            equal_sets(comparison, seed), SPACES | dict(spaces or {}), seed, comparison.training
        ),
        "detectability": lambda: measure_detectability(comparison),
        "anatomy": lambda: measure_anatomy_of(comparison, seed),
        "audit": lambda: copies.append(measure_copies(comparison, seed)),
        "utility": lambda: measure_utilities(comparison),
    }
    for name, step in progress(steps.items(), "measure samples", unit="part"):
        found[name] = step()
    found["audit"] = {"copies": copies[0][0]}
    return found, copies[0][1]


def equal_sets(comparison: Comparison, seed: int) -> Comparison:
    """Equally many slices in each set, participants balanced; density and coverage need that."""
    sets = (comparison.training, comparison.held_out, comparison.synthetic)
    count = min(len(one) for one in sets)
    chosen = [
        one if len(one) == count else one.take(balanced(one.participants, count, seed))
        for one in sets
    ]  # a copy costs memory
    return replace(comparison, training=chosen[0], held_out=chosen[1], synthetic=chosen[2])


def _counts(comparison: Comparison, count: int) -> Figures:
    """How many images and participants there are, and how many the distribution uses."""
    held_out, training = comparison.held_out, comparison.training
    return {
        "synthetic": len(comparison.synthetic),
        "training": len(training),
        "training_participants": len(np.unique(training.participants)),
        "held_out": len(held_out),
        "held_out_participants": len(np.unique(held_out.participants)),
        "distribution_images": count,
    }


def measure_distribution(
    sets: Comparison,
    spaces: Mapping[str, Features],
    seed: int = 0,
    reference: ImageSet | None = None,
) -> Figures:
    """KID, density, coverage, precision, recall and Frechet distance in each feature space.

    Samples are compared with held-out participants. Each value has a floor (training against
    held-out participants, and participant-disjoint halves of training), and KID has ceilings
    (noise, blur, one repeated image).

    Args:
        sets: equally many images in each set.
        spaces: name -> features.
        seed: of the bootstrap.
        reference: the real slices on which features are standardised; those of training by default.
    """
    names = ("kid", "coverage", "coverage_interval", "density", "precision", "recall", "fid")
    found: Figures = {name: {} for name in names}
    for space, features in spaces.items():
        fitted = _standardised(features, (reference or sets.training).images)
        for name, value in _in_space(sets, fitted, seed).items():
            found[name][space] = value
    return found


def _standardised(features: Features, reference: ImageArray) -> Features:
    """Features in standard deviations of the reference, cut off at `CUT_OFF`.

    Otherwise the cubic kernel would be dominated by a few images, or by a feature that hardly
    varies among real slices.
    """
    fitted = Standardiser.fit(_computed(features, reference))
    return lambda images: np.clip(fitted(_computed(features, images)), -CUT_OFF, CUT_OFF)


def _computed(features: Features, images: Images) -> np.ndarray:
    """(N, D) features, computed by all ranks in their usual batches."""
    parts = (images[start : start + BATCH] for start in range(0, len(images), BATCH))
    return np.concatenate(list(spread(features, parts)))


def _in_space(sets: Comparison, features: Features, seed: int) -> Figures:
    training, held_out, synthetic = (
        features(one.images) for one in (sets.training, sets.held_out, sets.synthetic)
    )
    participants = sets.held_out.participants
    near, near_floor = neighbours(held_out, synthetic), neighbours(held_out, training)
    coverage = near.coverage_interval(participants, seed)
    kid = kid_interval(kernel_sums(held_out, synthetic, participants), seed)
    kid_floor = kid_interval(kernel_sums(held_out, training, participants), seed)
    return {
        "kid": _json(kid) | {
            "floor": _finite(kid_floor.value),
            "floor_low": _finite(kid_floor.low),
            "floor_high": _finite(kid_floor.high),
            "floor_halves": _halves(training, sets.training, seed),
            "ceilings": _ceilings(sets, features, held_out),
        },
        "coverage": coverage.value,
        "coverage_interval": _json(coverage) | {"floor": near_floor.coverage},
        "density": _json(near.density_interval(participants, seed)) | {"floor": near_floor.density},
        "precision": _json(near.precision_interval(seed)) | {"floor": near_floor.precision},
        "recall": _json(near.recall_interval(participants, seed)) | {"floor": near_floor.recall},
        "fid": {"value": frechet_distance(held_out, synthetic),
                "floor": frechet_distance(held_out, training)},
    }  # fmt: skip


def _halves(features: np.ndarray, real: ImageSet, seed: int) -> float | None:
    """KID between halves of the participants of real images; None with fewer than four."""
    if len(np.unique(real.participants)) < 4:
        return None
    return _finite(floor(features, real.participants, seed).value)


def _ceilings(sets: Comparison, features: Features, held_out: np.ndarray) -> Figures:
    """KID of sets that are wrong in a known way, of `CEILING_IMAGES` images at most."""
    count = min(CEILING_IMAGES, len(sets.training))
    images = sets.training.images[balanced(sets.training.participants, count)]
    wrong = {
        "noise": noise_images,
        "blur": blurred_images,
        "repeated_image": repeated_image,
    }
    return {"images": count} | {
        name: _finite(float(kernel_sums(held_out, features(make(images))).kid()[0]))
        for name, make in wrong.items()
    }


def measure_detectability(comparison: Comparison) -> Figures:
    """The classifier two-sample test, and its control on real participants."""
    training, held_out = comparison.training, comparison.held_out
    test = detectability(
        training.images, held_out.images, held_out.participants, comparison.synthetic.images
    )
    found: Figures = {
        "auc": test.auc.value,
        "low": _finite(test.auc.low),
        "high": _finite(test.auc.high),
        "by_seed": list(test.by_seed),
        "samples": test.samples,
        "control": None,
    }
    if min(len(np.unique(one.participants)) for one in (training, held_out)) >= 2:
        control = detectability_control(
            training.images, training.participants, held_out.images, held_out.participants
        )
        found |= {
            "control": control.auc.value,
            "control_low": _finite(control.auc.low),
            "control_high": _finite(control.auc.high),
        }
    return found


def measure_copies(comparison: Comparison, seed: int = 0) -> tuple[Figures, Matches]:
    """The nearest training slice of each sample, in every view that the prior was trained on."""
    training = comparison.training
    search = CopySearch(
        training.images, training.participants, max_shift=MAX_SHIFT, mirror=not comparison.sagittal
    )
    samples, held_out = (
        search.match(one.images) for one in (comparison.synthetic, comparison.held_out)
    )
    audit = audit_copies(
        samples,
        held_out,
        training_participants=training.participants,
        held_out_participants=comparison.held_out.participants,
        seed=seed,
    )
    figures = asdict(audit)
    figures["most_from_one_participant"] = max(audit.per_participant.values(), default=0)
    del figures["per_participant"]  # it names participants
    return {name: _plain(value) for name, value in figures.items()}, samples


def _json(interval: Interval) -> Figures:
    return interval.as_json()


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _plain(value: Any) -> Any:
    """A figure as a JSON value."""
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    return _finite(value) if isinstance(value, float) else value
