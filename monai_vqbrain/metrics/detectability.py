"""Detectability of synthetic slices: a classifier two-sample test.

A small network is trained to distinguish real slices of training participants from one half of the
samples. It is tested on real slices of held-out participants and the other half. An AUC of 0.5
means that it cannot distinguish them. Steps, sizes and learning rates are fixed, so that values can
be compared between runs: more steps would give a higher AUC.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_vqbrain.metrics.bootstrap import Interval, bootstrap, groups
from monai_vqbrain.metrics.concurrency import run_concurrently, seeded_network
from monai_vqbrain.metrics.features import Images, batches

SEEDS = (0, 1, 2)
SAMPLE_GROUPS = 50  # synthetic images are independent: blocks of them are resampled
Labels = Sequence[str] | np.ndarray


@dataclass(frozen=True)
class DetectorProtocol:
    """What is fixed, so that values can be compared.

    Trained on 16 real participants and scored on 8 others (ds002748, one seed), these values tell
    slices that are blurred by 1 pixel, have a hole of radius 12 pixels, another contrast (gamma
    1.4) or only 8 modes at AUC 1.00, 0.95, 0.97 and 0.98; 250 steps reach 0.98 or more in all, at
    twice the cost.

    Attributes:
        pooling: side in pixels of the squares over which images are first averaged; 2 makes a
            step four times as cheap.
        steps: of training.
        batch: real and as many synthetic slices per step.
        learning_rate: the highest of the one-cycle schedule of AdamW.
        weight_decay: of AdamW.
        shift: pixels of the original image, up to which slices are shifted at random.
        brightness: slices are multiplied by 1 - brightness to 1 + brightness.
    """

    pooling: int = 2
    steps: int = 150
    batch: int = 24
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    shift: int = 4
    brightness: float = 0.1


PROTOCOL = DetectorProtocol()


@dataclass(frozen=True)
class Detectability:
    """How well a network distinguishes synthetic from real slices.

    Attributes:
        auc: mean over seeds, with its 95 % interval over the participants of the real slices,
            blocks of synthetic slices (participants in the control) and seeds.
        by_seed: the AUC of each seed.
        samples: synthetic slices that each AUC was scored on.
    """

    auc: Interval
    by_seed: tuple[float, ...]
    samples: int


def detectability(
    training: Images,
    held_out: Images,
    held_out_participants: Labels,
    synthetic: Images,
    seeds: Sequence[int] = SEEDS,
    protocol: DetectorProtocol = PROTOCOL,
) -> Detectability:
    """The AUC of distinguishing synthetic slices from real slices of held-out participants.

    Args:
        training: (N, W, H) in [0, 1] or uint8, real slices of training participants. Slices of a
            VQ-VAE's prior are compared with real ones that went through the same VQ-VAE.
        held_out: (M, W, H), real slices of other participants.
        held_out_participants: (M,) whose slice each is.
        synthetic: (S, W, H), at least two; each seed halves them at random.
        seeds: one network each.
        protocol: steps and sizes.

    Returns:
        The AUC and its interval.

    Raises:
        ValueError: if there are fewer than two synthetic slices, or no seed.
    """
    if len(synthetic) < 2 or not seeds:
        raise ValueError(
            "detectability needs at least two synthetic slices and one seed, "
            f"not {len(synthetic)} and {len(seeds)}"
        )
    real, other, fake = (
        PooledImages.of(x, protocol.pooling) for x in (training, held_out, synthetic)
    )
    group, images = groups(held_out_participants, len(other))
    blocks = min(SAMPLE_GROUPS, len(fake))
    block = np.arange(len(fake)) * blocks // len(fake)

    def measured(seed: int) -> _Round:
        first = _half(len(fake), seed)
        detector = train_detector(real, fake.take(first), seed, protocol)
        scores = score(detector, other), score(detector, fake.take(~first))
        return _Round.of(scores, group, block[~first], len(images), blocks)

    rounds = run_concurrently([partial(measured, seed) for seed in seeds])
    return _over_seeds(rounds, seeds[0])


def detectability_control(
    training: Images,
    training_participants: Labels,
    held_out: Images,
    held_out_participants: Labels,
    seeds: Sequence[int] = SEEDS,
    protocol: DetectorProtocol = PROTOCOL,
) -> Detectability:
    """The same test with real held-out participants in the place of the samples.

    Each seed halves the training participants (T1, T2) and the held-out participants (H1, H2). One
    network is trained to distinguish T1 and H1 and scored on T2 against H2, another is trained on
    T2 and H2 and scored on T1 against H1, so that no participant is both learnt and scored, and
    each slice is scored once per seed. What the network has memorised of single participants is
    then of no use, and the AUC is 0.5 in expectation if training and held-out participants are of
    one population. The halves have more influence than the network: over 20 halvings of
    34 and 14 participants (ds002748) one AUC spreads with a standard deviation of 0.05, the mean of
    three with 0.03. Each network's own AUC is averaged: pooled scores of several networks would be
    compared across networks, whose held-out classes are anticorrelated. The halvings do not undo
    the choice of the participants themselves: read the interval too.

    It controls for what differs between the two sets without any generator: an unlucky split, and a
    VQ-VAE that reconstructs its training participants better than others. It does not control for
    samples that resemble training participants; that is what the copy check is for.

    Args:
        training: (N, W, H) in [0, 1] or uint8, real slices of at least two training participants.
        training_participants: (N,) whose slice each is.
        held_out: (M, W, H), real slices of at least two other participants.
        held_out_participants: (M,) whose slice each is.
        seeds: two networks each.
        protocol: steps and sizes.

    Returns:
        The AUC and its interval, over the participants of both sides.

    Raises:
        ValueError: if either side has fewer than two participants, or there is no seed.
    """
    real, other = (PooledImages.of(x, protocol.pooling) for x in (training, held_out))
    group, images = groups(training_participants, len(real))
    other_group, other_images = groups(held_out_participants, len(other))
    if min(len(images), len(other_images)) < 2 or not seeds:
        raise ValueError(
            "the control halves participants and needs at least two on each side and one seed, "
            f"not {len(images)}, {len(other_images)} and {len(seeds)}"
        )

    def measured(seed: int, first: bool) -> _Round:
        learn = _half(len(images), seed)[group] == first
        learn_other = _half(len(other_images), seed + 1)[other_group] == first
        detector = train_detector(real.take(learn), other.take(learn_other), seed, protocol)
        scores = score(detector, real.take(~learn)), score(detector, other.take(~learn_other))
        members = group[~learn], other_group[~learn_other]
        return _Round.of(scores, *members, len(images), len(other_images))

    halves = itertools.product(seeds, (True, False))
    rounds = run_concurrently([partial(measured, *half) for half in halves])
    return _over_seeds(rounds, seeds[0])


@dataclass(frozen=True, eq=False)
class PooledImages:
    """Some of a set of images, averaged over squares of pixels as they are taken.

    Only a batch is floating point at once: memory does not grow with the images.

    Attributes:
        images: (N, W, H) in [0, 1] or uint8.
        rows: (n,) which of them.
        factor: pixels along each side of a square.
    """

    images: Images
    rows: np.ndarray
    factor: int

    @classmethod
    def of(cls, images: Images, factor: int) -> PooledImages:
        """All of (N, W, H) images."""
        return cls(images, np.arange(len(images)), factor)

    def __len__(self) -> int:
        """How many images there are."""
        return len(self.rows)

    def __getitem__(self, index: slice | Tensor) -> Tensor:
        """(B, 1, W / factor, H / factor) float32 in [0, 1]."""
        chosen = self.images[self.rows[index]]
        return torch.cat([F.avg_pool2d(x, self.factor) for x in batches(chosen, len(chosen))])

    def take(self, which: np.ndarray) -> PooledImages:
        """Those of a mask, (n,) bool."""
        return PooledImages(self.images, self.rows[which], self.factor)


class Detector(nn.Module):
    """Four strided 3x3 convolutions (32 to 128 channels), pooled to 2x2, and a hidden layer.

    It has 0.4 million parameters.

    Example:
        >>> sum(p.numel() for p in Detector().parameters())
        404289
        >>> Detector()(torch.zeros(3, 1, 64, 64)).shape
        torch.Size([3])
    """

    def __init__(self) -> None:
        super().__init__()
        channels = (1, 32, 48, 80, 128)
        blocks: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(channels):
            blocks += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(
            *blocks,
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(512, 512),
            nn.ReLU(inplace=True),
            nn.Linear(512, 1),
        )
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a fifth faster

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, W, H) in [0, 1] -> (B,) logits, above 0 for synthetic."""
        return self.layers(images * 2 - 1)[:, 0]


def train_detector(
    real: Tensor | PooledImages,
    synthetic: Tensor | PooledImages,
    seed: int,
    protocol: DetectorProtocol = PROTOCOL,
) -> Detector:
    """Train a network for a fixed number of steps; torch's own random state is left alone.

    Args:
        real: (N, 1, W, H) float32 in [0, 1], pooled already.
        synthetic: (M, 1, W, H) likewise.
        seed: of weights, batches and augmentation.
        protocol: steps and sizes.

    Returns:
        The network, in evaluation mode.
    """
    network, generator = seeded_network(Detector, seed)
    labels = torch.cat([torch.zeros(protocol.batch), torch.ones(protocol.batch)])
    optimizer = torch.optim.AdamW(
        network.parameters(), weight_decay=protocol.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, protocol.learning_rate, total_steps=protocol.steps
    )
    for _ in range(protocol.steps):
        drawn = [
            x[torch.randint(len(x), (protocol.batch,), generator=generator)]
            for x in (real, synthetic)
        ]
        logits = network(augment(torch.cat(drawn), generator, protocol))
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(logits, labels).backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def augment(
    images: Tensor, generator: torch.Generator, protocol: DetectorProtocol = PROTOCOL
) -> Tensor:
    """Shift, mirror along the first axis (left-right in axial slices), and change brightness.

    Args:
        images: (B, 1, W, H) float32, pooled already.
        generator: the source of randomness.
        protocol: how far.

    Returns:
        (B, 1, W, H); what is shifted in is 0.
    """
    count, _, width, height = images.shape
    reach = protocol.shift // protocol.pooling
    padded = F.pad(images, (reach,) * 4)
    left, up = torch.randint(2 * reach + 1, (2, count, 1), generator=generator)
    columns = torch.arange(width) + left
    mirrored = torch.rand(count, 1, generator=generator) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    rows = torch.arange(height) + up
    index = torch.arange(count)[:, None, None]
    moved = padded[index, 0, columns[:, :, None], rows[:, None, :]][:, None]
    factor = 1 + protocol.brightness * (2 * torch.rand(count, 1, 1, 1, generator=generator) - 1)
    return moved * factor


def score(network: nn.Module, images: Tensor | PooledImages) -> np.ndarray:
    """Logits of (N, 1, W, H) images, pooled already: (N,) float32, above 0 for synthetic."""
    with torch.inference_mode():
        starts = range(0, len(images), 256)
        return torch.cat([network(images[start : start + 256]) for start in starts]).numpy()


def auc(negative: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve by ranks: how often a positive scores above a negative one.

    Args:
        negative: (N,) scores, N at least 1.
        positive: (M,) scores, M at least 1.

    Returns:
        From 0 to 1; ties count half.

    Raises:
        ValueError: if either side is empty.

    Example:
        >>> auc(np.array([0.1, 0.4]), np.array([0.4, 0.8]))
        0.875
    """
    if len(negative) == 0 or len(positive) == 0:
        raise ValueError(
            f"an AUC needs scores on both sides, not {len(negative)} and {len(positive)}"
        )
    return float(_wins(negative, positive).mean() / len(positive))


@dataclass(frozen=True)
class _Round:
    """How often synthetic scores lie above real ones, summed by group, for one network.

    Attributes:
        wins: (P, G) float64.
        images: (P,) real images of each group that were scored.
        samples: (G,) synthetic ones.
    """

    wins: np.ndarray
    images: np.ndarray
    samples: np.ndarray

    @classmethod
    def of(
        cls,
        scores: tuple[np.ndarray, np.ndarray],
        group: np.ndarray,
        block: np.ndarray,
        participants: int,
        blocks: int,
    ) -> _Round:
        real, synthetic = scores
        wins = np.zeros((participants, blocks))
        for b in np.unique(block):
            np.add.at(wins[:, b], group, _wins(real, synthetic[block == b]))
        images = np.bincount(group, minlength=participants)
        return cls(wins, images, np.bincount(block, minlength=blocks))

    def auc(self, drawn: np.ndarray, drawn_samples: np.ndarray) -> np.ndarray:
        """(R, P) and (R, G) counts -> (R,); NaN where a side was not drawn."""
        won = np.einsum("rp,pg,rg->r", drawn, self.wins, drawn_samples, optimize=True)
        with np.errstate(invalid="ignore"):
            return won / ((drawn @ self.images) * (drawn_samples @ self.samples))


def _over_seeds(rounds: list[_Round], seed: int) -> Detectability:
    """The mean AUC of all networks, and its interval over participants, samples and networks."""
    participants, blocks = rounds[0].wins.shape
    all_participants, all_blocks = np.ones((1, participants)), np.ones((1, blocks))
    by_round = [float(r.auc(all_participants, all_blocks)[0]) for r in rounds]

    def mean(drawn: np.ndarray) -> np.ndarray:
        if len(drawn) == 1:
            return np.array([np.mean(by_round)])
        rng = np.random.default_rng(seed + 1)
        samples = rng.multinomial(blocks, np.full(blocks, 1 / blocks), size=len(drawn))
        networks = rng.multinomial(len(rounds), np.full(len(rounds), 1 / len(rounds)), len(drawn))
        values = np.stack([r.auc(drawn, samples) for r in rounds], axis=1)
        return (values * networks).sum(axis=1) / len(rounds)

    images = np.max([r.images for r in rounds], axis=0)
    interval = bootstrap(mean, images, seed)
    return Detectability(interval, tuple(by_round), int(rounds[0].samples.sum()))


def _wins(negative: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """For each negative score, how many positive ones lie above it; ties count half. (N,)."""
    ordered = np.sort(positive)
    above = len(ordered) - np.searchsorted(ordered, negative, side="right")
    return above + 0.5 * (len(ordered) - above - np.searchsorted(ordered, negative, side="left"))


def _half(count: int, seed: int) -> np.ndarray:
    """A random half of `count` things, (count,) bool."""
    return np.random.default_rng(seed).permutation(count) < count // 2
