"""Utility: train on synthetic slices, test on real ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor, nn

from monai_vqbrain.metrics.anatomy_comparison import percentiles
from monai_vqbrain.metrics.concurrency import run_concurrently, seeded_network
from monai_vqbrain.metrics.images import ImageArray

Floats = NDArray[np.floating]

SIDE = 64  # pixels along each side that the network sees
CHANNELS = (16, 32, 64, 128)  # of strided 3x3 convolutions
STEPS = 150
BATCH = 32
LEARNING_RATE = 3e-3
SHIFT = 2  # pixels of 64
BRIGHTNESS = 0.1
CHUNK = 256
SIGNIFICANCE = 0.025  # one-sided, of the AUC of real slices


@dataclass(frozen=True)
class Labelled:
    """Slices with a class each.

    Attributes:
        images: (N, W, H), float in [0, 1] or uint8.
        labels: (N,) integers 0..K-1: group, sex or age band.
        participants: (N,) participant of each slice; samples need none.
    """

    images: ImageArray
    labels: NDArray[np.integer]
    participants: Sequence[str] = ()


@dataclass(frozen=True)
class Score:
    """Scores over held-out participants, means over seeds, with 95 % bootstrap intervals.

    Attributes:
        auc: area under the ROC curve; of more than two classes, the mean of each against the rest.
        balanced_accuracy: mean of the classes' recalls; chance is 1 / K.
        auc_by_seed: of each seed.
    """

    auc: float
    auc_low: float
    auc_high: float
    balanced_accuracy: float
    balanced_accuracy_low: float
    balanced_accuracy_high: float
    auc_by_seed: tuple[float, ...]


@dataclass(frozen=True)
class Utility:
    """What a classifier learns from real slices, from samples and from both.

    Attributes:
        real: trained on real training slices.
        synthetic: trained on samples; None where the task is not measurable.
        both: trained on both, half of each batch from either; likewise.
        difference: AUC of `synthetic` minus AUC of `real`, paired over participants; NaN where the
            task is not measurable.
        measurable: whether the AUC of `real` is above chance: its interval lies above 0.5, and
            its p-value is below `SIGNIFICANCE`. If not, the task says nothing of samples.
        p_value: how often the AUC of `real` is reached when classes are assigned to the held-out
            participants at random. A bootstrap of two or three participants cannot replace it.
        images: how many real slices, and how many samples, were trained on.
        participants: how many held-out participants were scored.
    """

    real: Score
    synthetic: Score | None
    both: Score | None
    difference: float
    difference_low: float
    difference_high: float
    measurable: bool
    p_value: float
    images: int
    participants: int

    def as_json(self) -> dict[str, Any]:
        """The fields as JSON values; what is missing or not finite becomes None."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }


def measure_utility(
    real: Labelled,
    synthetic: Labelled,
    held_out: Labelled,
    steps: int = STEPS,
    seeds: Sequence[int] = (0, 1, 2),
    draws: int = 500,
    device: str = "cpu",
) -> Utility:
    """Train a small network on each set for the same number of steps and score it.

    Where what was learned from real slices is at chance, nothing is learned from the samples.

    The network of four strided convolutions sees slices at 64x64 pixels, shifted, mirrored and
    made brighter or darker at random; batches hold equally many of each class. Of the larger set a
    random part is used, as many as the smaller has. The probability that a participant has is the
    mean over their slices.

    Args:
        real: real training slices.
        synthetic: samples that were asked for the classes.
        held_out: real slices of other participants, each of one class.
        steps: of training, for each network.
        seeds: one network each; they decide its weights, batches and augmentation.
        draws: of the bootstrap over held-out participants, within each class.
        device: where to train.

    Raises:
        ValueError: if a class is missing in a set, there is one class only, or a participant has
            two.
    """
    classes = _check(real, synthetic, held_out)
    names, participant = np.unique(np.asarray(held_out.participants), return_inverse=True)
    truth = np.zeros(len(names), int)
    truth[participant] = held_out.labels
    if (truth[participant] != held_out.labels).any():
        several = names[participant[truth[participant] != held_out.labels][0]]
        raise ValueError(f"participant {several} has slices of more than one class")
    size = min(len(real.labels), len(synthetic.labels))
    sets = [_reduced(part, size, classes, seeds[0]) for part in (real, synthetic)]
    seen, held = [(small(s.images), s.labels) for s in sets], small(held_out.images)

    def learned(*sources: int) -> NDArray[np.float64]:
        """(seeds, P, K) probabilities of networks that were trained on these sets."""
        chosen = [seen[source] for source in sources]
        tasks = [partial(_train, chosen, classes, steps, seed, device) for seed in seeds]
        by_seed = run_concurrently(tasks)
        return np.stack([_by_participant(net, held, participant, device) for net in by_seed])

    drawn = _draws(truth, draws, seeds[0])
    of_real = learned(0)
    luck = _permutation_p(of_real, truth, draws, seeds[0])
    auc, accuracy = _scores(of_real, truth, drawn)
    score = _score(auc, accuracy)
    if score.auc_low <= 0.5 or luck >= SIGNIFICANCE:
        nothing = (None, None, math.nan, math.nan, math.nan)
        return Utility(score, *nothing, False, luck, size, len(names))
    of_samples, of_both = (_scores(learned(*s), truth, drawn) for s in ((1,), (0, 1)))
    gap = of_samples[0].mean(axis=0) - auc.mean(axis=0)
    return Utility(
        score,
        _score(*of_samples),
        _score(*of_both),
        float(gap[0]),
        *percentiles(gap[1:]),
        True,
        luck,
        size,
        len(names),
    )


def _check(real: Labelled, synthetic: Labelled, held_out: Labelled) -> int:
    """The number of classes."""
    sets = {"real": real, "synthetic": synthetic, "held-out": held_out}
    for name, part in sets.items():
        if len(part.images) != len(part.labels):
            raise ValueError(
                f"give one label for each of {len(part.images)} {name} slices, "
                f"not {len(part.labels)}"
            )
    if len(held_out.participants) != len(held_out.labels):
        raise ValueError(
            f"give one participant for each of {len(held_out.labels)} held-out slices, "
            f"not {len(held_out.participants)}"
        )
    classes = {int(label) for part in sets.values() for label in np.unique(part.labels)}
    if len(classes) < 2 or classes != set(range(len(classes))):
        raise ValueError(f"labels must be 0..K-1 of at least two classes, not {sorted(classes)}")
    for name, part in sets.items():
        missing = classes - set(np.unique(part.labels).tolist())
        if missing:
            raise ValueError(f"the {name} slices have none of class {min(missing)}")
    return len(classes)


def _reduced(part: Labelled, size: int, classes: int, seed: int) -> Labelled:
    """A random part of this size, with at least one of each class."""
    order = np.random.default_rng(seed).permutation(len(part.labels))
    first = np.array([order[part.labels[order] == label][0] for label in range(classes)])
    rest = order[~np.isin(order, first)]
    taken = np.sort(np.concatenate([first, rest])[:size])
    return Labelled(part.images[taken], part.labels[taken])


def small(images: ImageArray) -> Tensor:
    """Images as the network sees them: (N, 1, 64, 64) uint8, block means."""
    parts = []
    for start in range(0, len(images), CHUNK):
        chunk = images[start : start + CHUNK]
        scale = 1 if chunk.dtype == np.uint8 else 255
        pixels = torch.from_numpy(np.ascontiguousarray(chunk, np.float32))[:, None] * scale
        parts.append(F.adaptive_avg_pool2d(pixels, SIDE).clamp(0, 255).round().to(torch.uint8))
    return torch.cat(parts)


def _network(classes: int) -> nn.Module:
    layers: list[nn.Module] = []
    for before, after in zip((1, *CHANNELS), CHANNELS, strict=False):
        layers += [nn.Conv2d(before, after, 3, 2, 1), nn.GroupNorm(8, after), nn.SiLU()]
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS[-1], classes)
    )


def _train(
    sources: Sequence[tuple[Tensor, NDArray[np.integer]]],
    classes: int,
    steps: int,
    seed: int,
    device: str,
) -> nn.Module:
    rng = np.random.default_rng(seed)
    network, _ = seeded_network(partial(_network, classes), seed)
    net = network.to(device)
    optimiser = torch.optim.AdamW(net.parameters(), LEARNING_RATE, weight_decay=0.05, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps)
    for _ in range(steps):
        images, labels = _batch(sources, classes, rng)
        loss = F.cross_entropy(net(images.to(device)), labels.to(device))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return net.eval()


def _batch(
    sources: Sequence[tuple[Tensor, NDArray[np.integer]]], classes: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """(B, 1, 64, 64) float and (B,) labels: equally many of each class and source."""
    each = max(1, BATCH // (classes * len(sources)))
    images, labels = [], []
    for pixels, own in sources:
        for label in range(classes):
            images.append(pixels[rng.choice(np.flatnonzero(own == label), each)])
            labels += [label] * each
    return _augmented(torch.cat(images).float() / 255, rng), torch.tensor(labels)


def _augmented(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Each image shifted, mirrored and made brighter or darker."""
    count = len(images)
    shift = rng.integers(0, 2 * SHIFT + 1, (2, count, 1))
    place = np.arange(SIDE)
    rows = place[::-1] * (mirror := rng.random((count, 1)) < 0.5) + place * ~mirror + shift[0]
    columns = place + shift[1]
    padded = F.pad(images, (SHIFT,) * 4)[:, 0]
    picked = padded[
        torch.arange(count)[:, None, None],
        torch.from_numpy(rows)[:, :, None],
        torch.from_numpy(columns)[:, None],
    ]
    factor = 1 + BRIGHTNESS * rng.uniform(-1, 1, (count, 1, 1)).astype(np.float32)
    return (picked * torch.from_numpy(factor))[:, None] * 2 - 1


@torch.no_grad()
def _by_participant(
    net: nn.Module, images: Tensor, participant: NDArray[np.integer], device: str
) -> NDArray[np.float64]:
    """(P, K) probability of each class, a mean over the slices of each participant."""
    parts = [
        net((chunk.float() / 127.5 - 1).to(device)).softmax(1) for chunk in images.split(CHUNK)
    ]
    found = torch.cat(parts).double().cpu().numpy()
    counts = np.bincount(participant)
    sums = [np.bincount(participant, weights=column) for column in found.T]
    return np.stack([column / counts for column in sums], axis=1)


def _draws(truth: NDArray[np.integer], draws: int, seed: int) -> NDArray[np.integer]:
    """(1 + draws, P) participants, drawn within each class; the first row is the set itself."""
    rng = np.random.default_rng([seed, 2])
    drawn = np.tile(np.arange(len(truth)), (1 + draws, 1))
    for label in np.unique(truth):
        own = np.flatnonzero(truth == label)
        drawn[1:, own] = rng.choice(own, (draws, len(own)))
    return drawn


def _scores(
    found: NDArray[np.float64], truth: NDArray[np.integer], drawn: NDArray[np.integer]
) -> tuple[Floats, Floats]:
    """AUC and balanced accuracy of each seed and draw, (seeds, 1 + draws) each."""
    auc = [[class_auc(one[rows], truth[rows]) for rows in drawn] for one in found]
    right = found.argmax(axis=2) == truth  # (seeds, P)
    recalls = [
        np.stack([one[drawn[:, truth == label]].mean(axis=1) for one in right])
        for label in np.unique(truth)
    ]
    return np.array(auc), np.mean(recalls, axis=0)


def class_auc(probabilities: Floats, truth: NDArray[np.integer]) -> float:
    """Area under the ROC curve, ties counted as half.

    Args:
        probabilities: (P, K) of each class.
        truth: (P,) 0..K-1; all K occur.

    Returns:
        Of two classes, that of class 1; of more, the mean of each against the rest.

    Example:
        >>> class_auc(np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]]), np.array([0, 0, 1]))
        1.0
    """
    classes = range(probabilities.shape[1]) if probabilities.shape[1] > 2 else [1]
    areas = []
    for label in classes:
        own = truth == label
        ranks = rankdata(probabilities[:, label])[own]
        pairs = own.sum() * (~own).sum()
        areas.append((ranks.sum() - own.sum() * (own.sum() + 1) / 2) / pairs)
    return float(np.mean(areas))


def _permutation_p(
    found: NDArray[np.float64], truth: NDArray[np.integer], draws: int, seed: int
) -> float:
    """One-sided p-value of the mean AUC over seeds."""
    rng = np.random.default_rng([seed, 3])
    dealt = [truth, *(rng.permutation(truth) for _ in range(draws))]
    areas = np.array([np.mean([class_auc(one, classes) for one in found]) for classes in dealt])
    return float((areas >= areas[0] - 1e-12).sum() / len(areas))


def _score(auc: Floats, accuracy: Floats) -> Score:
    area, share = auc.mean(axis=0), accuracy.mean(axis=0)
    return Score(
        float(area[0]),
        *percentiles(area[1:]),
        float(share[0]),
        *percentiles(share[1:]),
        tuple(float(value) for value in auc[:, 0]),
    )
