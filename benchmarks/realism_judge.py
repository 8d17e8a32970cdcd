"""How near samples come to real slices: the figures of the realism studies.

The protocol is that of `vqbrain evaluate`. KID and coverage use the features of the random network,
all samples, and for coverage as many samples as there are held-out slices, 20 times.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from monai_vqbrain.metrics.bootstrap import balanced
from monai_vqbrain.metrics.detectability import detectability
from monai_vqbrain.metrics.distribution import kernel_sums, neighbours
from monai_vqbrain.metrics.membership import membership
from monai_vqbrain.stages.reporting import ruler
from monai_vqbrain.stages.reporting.anatomy import measure_anatomy_of
from monai_vqbrain.stages.reporting.image_sets import Comparison

REPEATS = 20  # subsets of samples for coverage
MEMBERS = 256  # training slices, for membership
DETECTORS = (0, 1, 2, 3, 4)  # seeds

Figures = dict[str, Any]


def judged(sets: Comparison) -> Figures:
    """All figures of samples beside training and held-out slices."""
    found = detectability(
        sets.training.images, sets.held_out.images, sets.held_out.participants,
        sets.synthetic.images, DETECTORS,
    )  # fmt: skip
    anatomy = measure_anatomy_of(sets)
    return {
        "detectability": found.auc.value,
        "detectability_low": found.auc.low,
        "detectability_high": found.auc.high,
        "detectability_by_seed": list(found.by_seed),
        **distribution(sets),
        "implausible": anatomy["implausible_share"],
        "implausible_real": anatomy["implausible_share_real"],
        "mirrored": anatomy.get("mirrored_share"),
        "mirrored_real": anatomy.get("mirrored_real_share"),
        "slopes": anatomy["slopes"],
        **spread(sets),
    }


def distribution(sets: Comparison) -> Figures:
    """KID and coverage of the random network's features, and what training slices have."""
    features = ruler._standardised(ruler.SPACES["random"], sets.training.images)  # noqa: SLF001
    training, held_out, synthetic = (features(one.images) for one in sets.sets)
    number, rng = len(held_out), np.random.default_rng(0)
    some = [rng.choice(len(synthetic), number, replace=False) for _ in range(REPEATS)]
    real = [balanced(sets.training.participants, number, seed) for seed in range(REPEATS)]
    kid, floor = (float(kernel_sums(held_out, one).kid()[0]) for one in (synthetic, training))
    covered = [neighbours(held_out, synthetic[i]).coverage for i in some]
    covered_by_real = [neighbours(held_out, training[i]).coverage for i in real]
    return {
        "kid": kid,
        "kid_floor": floor,
        "kid_ratio": kid / floor,
        "coverage": float(np.mean(covered)),
        "coverage_floor": float(np.mean(covered_by_real)),
        "coverage_ratio": float(np.mean(covered) / np.mean(covered_by_real)),
    }


def spread(sets: Comparison) -> Figures:
    """Standard deviation of the centre of mass along both axes, in pixels, over images."""
    found = {}
    for name, images in zip(("training", "held_out", "samples"), sets.sets, strict=True):
        weights = images.images.astype(float)
        for axis, letter in ((1, "x"), (2, "y")):
            sums = weights.sum(axis=3 - axis)
            centres = sums @ np.arange(sums.shape[1]) / sums.sum(axis=1).clip(min=1)
            found[f"centre_{letter}_sd_{name}"] = float(centres.std())
    return found


def membership_auc(
    members: np.ndarray, others: np.ndarray, participants: tuple[list[str], list[str]]
) -> float:
    """How well a score distinguishes training from held-out participants.

    Args:
        members: the score of training slices; low for what was learnt well.
        others: that of held-out slices.
        participants: of both.
    """
    chosen = balanced(participants[0], min(MEMBERS, len(participants[0])), seed=0)
    names = [participants[0][i] for i in chosen] + list(participants[1])
    is_member = np.arange(len(names)) < len(chosen)
    scores = np.concatenate((members[chosen], others))
    return membership(scores, names, is_member, unit="slice").auc.value
