"""Copies of training slices among samples: a search, its false alarms, and planted copies.

A sample is compared with every training slice, mirrored or not, in two steps. A coarse step finds
the participants with the most similar slices at 32 x 32 pixels. A fine step compares the best slice
of each in detail, over shifts of half pixels. Slices of two participants at the same position are
similar without being copies; a copy is nearer to one participant than to all others. The measure
is therefore the ratio of the distance to the nearest participant and to the next ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional as F

from monai_vqbrain.metrics.images import ImageArray

COARSE = 32  # pixels along a side, of the first step
FINE = 64  # likewise, of the second step
WINDOW = 5  # of the local mean that the fine step removes, in pixels of FINE
STEP = 0.5  # of the shifts, in pixels of the images
OTHERS = 5  # participants, after the nearest, whose median distance the nearest is compared with
BLOCK = 256  # images compared at once
FALSE_ALARMS = 0.01

Images = Callable[[np.ndarray], np.ndarray]  # (N, W, H) float32 in [0, 1], to the same


@dataclass(frozen=True)
class Matches:
    """The nearest training slice of each image, in the view that fits best.

    Args:
        nearest: (N,) int64 index into the training slices.
        mirrored: (N,) bool, whether the training slice has to be mirrored along W.
        shift: (N, 2) float32, by how many pixels it has to be moved then, along W and H.
        distance: (N,) float32, sqrt(1 - r) with the correlation r of local detail: 0 the same,
            1 unrelated. Brightness and contrast do not change it.
        ratio: (N,) float32, `distance` over the median distance to the five next participants:
            0 a copy, near 1 as similar to one participant as to others.
    """

    nearest: np.ndarray
    mirrored: np.ndarray
    shift: np.ndarray
    distance: np.ndarray
    ratio: np.ndarray

    def __len__(self) -> int:
        return len(self.nearest)


class CopySearch:
    """Finds the nearest training slice of images, over all views that a prior was trained on.

    Memory grows with the training slices (12 kB each), not with the images. The same input gives
    the same matches. It does not find a copy of a part of a slice, nor one that is rotated or
    scaled by more than a few per cent.

    Args:
        training: (M, W, H), any units, 8-bit too; background is 0.
        participants: the M participants that the slices belong to. Slices of one participant are
            never compared with each other: where participants are unknown, name each slice.
        max_shift: of the views, in pixels along each axis.
        mirror: whether views are mirrored along W.
        candidates: participants whose best slice is compared in detail.

    Raises:
        ValueError: if there is not one participant for each slice, or only one participant; if the
            shift is below 0 or there are fewer than 2 candidates.

    Example:
        >>> training = np.random.default_rng(0).random((9, 16, 16))
        >>> search = CopySearch(training, [f"p{i}" for i in range(9)])
        >>> int(search.match(training[4:5, ::-1]).nearest[0])
        4
    """

    def __init__(
        self,
        training: ImageArray,
        participants: Sequence[str],
        *,
        max_shift: float = 3,
        mirror: bool = True,
        candidates: int = 20,
    ) -> None:
        _check_training(training, participants)
        if max_shift < 0 or candidates < 2:
            raise ValueError(
                "give a shift of 0 or more pixels and at least 2 candidates, "
                f"not {max_shift} and {candidates}"
            )
        self.size = training.shape[1:]
        self.mirror = mirror
        # Slices in the order of participants, so that the best of each is a maximum over a segment.
        names, participant = np.unique(np.asarray(participants), return_inverse=True)
        self.order = np.argsort(participant, kind="stable")
        self.starts = np.searchsorted(participant[self.order], np.arange(len(names)))
        self.candidates = min(candidates, len(names))
        self.shifts = _shifts(max_shift)
        self.waves = _waves(self.shifts, self.size)
        sides = [[min(most, side) for side in self.size] for most in (COARSE, FINE)]
        self.coarse = torch.empty(len(training), *sides[0])  # (M, 32, 32)
        # Half precision keeps a correlation to 1e-3 and halves what grows with the training set.
        self.detail = torch.empty(len(training), *sides[1], dtype=torch.half)  # (M, 64, 64)
        for block in _blocks(len(training)):
            images = training[self.order[block]]
            self.coarse[block], self.detail[block] = _coarse(images), _detail(images)

    def match(self, images: ImageArray) -> Matches:
        """The nearest training slice of each image.

        Args:
            images: (N, W, H), any units.

        Returns:
            What was found, one entry per image.

        Raises:
            ValueError: if the images are not of the size of the training slices.
        """
        if images.ndim != 3 or images.shape[1:] != self.size:
            raise ValueError(
                f"images must be (N, {self.size[0]}, {self.size[1]}) as the training slices are, "
                f"not {images.shape}"
            )
        found = [self._match(images[b]) for b in _blocks(len(images))] or [self._nothing()]
        return Matches(*(np.concatenate(parts) for parts in zip(*found, strict=True)))

    def _match(self, images: np.ndarray) -> tuple[np.ndarray, ...]:
        slices, mirrored = self._best_slices(self._views(_coarse(images)))
        spectra = torch.stack([_spectrum(v) for v in self._views(_detail(images))])
        rows = torch.arange(len(images))
        best = torch.zeros(slices.shape)
        where = torch.zeros(slices.shape, dtype=torch.long)
        for column in range(slices.shape[1]):
            image = spectra[mirrored[:, column].long(), rows]  # (B, 64, 33)
            training = _spectrum(self.detail[slices[:, column]].float())
            best[:, column], where[:, column] = self._correlate(image, training)
        return self._judge(slices, mirrored, best, where)

    def _views(self, images: Tensor) -> list[Tensor]:
        # Both steps treat left and right equally: mirroring afterwards gives the same.
        return [images, images.flip(1)] if self.mirror else [images]

    def _best_slices(self, views: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """(B, candidates) slices of different participants, and whether to mirror them."""
        similarity = [view.flatten(1) @ self.coarse.flatten(1).T for view in views]  # (B, M) each
        array = torch.maximum(similarity[0], similarity[-1]).numpy()
        best = torch.from_numpy(np.maximum.reduceat(array, self.starts, axis=1))
        chosen = best.topk(self.candidates, dim=1).indices.numpy()  # participants
        ends = np.append(self.starts[1:], array.shape[1])
        slices = np.array(
            [
                [self.starts[p] + row[self.starts[p] : ends[p]].argmax() for p in near]
                for row, near in zip(array, chosen, strict=True)
            ]
        ).reshape(chosen.shape)
        index = torch.from_numpy(slices)
        return index, similarity[-1].gather(1, index) > similarity[0].gather(1, index)

    def _correlate(self, image: Tensor, training: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) the highest correlation over all shifts, and the shift's number."""
        product = image * training.conj()  # (B, 64, 33)
        over_shifts = (self.waves[0] @ product @ self.waves[1]).real.flatten(1)
        highest = over_shifts.max(dim=1)
        return highest.values, highest.indices

    def _judge(
        self, slices: Tensor, mirrored: Tensor, best: Tensor, where: Tensor
    ) -> tuple[np.ndarray, ...]:
        distances = (1 - best).clamp(min=0).sqrt()
        ordered, order = distances.sort(dim=1, stable=True)
        others = ordered[:, 1 : 1 + OTHERS].quantile(0.5, dim=1)
        first = order[:, :1]
        flip = mirrored.gather(1, first)[:, 0].numpy()
        number = where.gather(1, first)[:, 0].numpy()
        shift = self.shifts[np.stack(divmod(number, len(self.shifts)), axis=1)]
        # The image was mirrored to find it; here it is the training slice that moves.
        shift[:, 0] = np.where(flip, -shift[:, 0], shift[:, 0])
        nearest = self.order[slices.gather(1, first)[:, 0].numpy()]
        ratio = ordered[:, 0] / others.clamp(min=1e-6)
        return nearest, flip, shift, ordered[:, 0].numpy(), ratio.numpy()

    def _nothing(self) -> tuple[np.ndarray, ...]:
        empty = np.zeros(0, dtype=np.float32)
        shift = np.zeros((0, 2), dtype=np.float32)
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=bool), shift, empty, empty


@dataclass(frozen=True)
class Halving:
    """One half of the held-out participants sets the threshold, the other half tests it.

    Args:
        threshold: a ratio; what is below raises the alarm.
        false_alarms: share of the other half's slices below it, [0, 1].
    """

    threshold: float
    false_alarms: float


def copy_threshold(ratios: ArrayLike, false_alarms: float = FALSE_ALARMS) -> float:
    """The ratio that a slice of a new participant falls below with the given probability.

    Of n ratios it is the k-th smallest, k = floor(false_alarms (n + 1)) and at least 1: a new one
    of the same kind lies below with a probability of k / (n + 1). Where k would be 0 (fewer than 99
    slices at 1 %), the probability is 1 / (n + 1), which is more than was asked for.

    Args:
        ratios: (N,) of slices of held-out participants, through the VQ-VAE as samples are.
        false_alarms: in (0, 1).

    Returns:
        A ratio; `ratio < threshold` raises the alarm.

    Raises:
        ValueError: if there are no ratios, or the share of false alarms is outside (0, 1).

    Example:
        >>> copy_threshold(np.arange(199))
        1.0
    """
    values = np.sort(np.asarray(ratios, dtype=np.float64))
    if len(values) == 0 or not 0 < false_alarms < 1:
        raise ValueError(
            "a threshold needs ratios of held-out slices and a share of false alarms between "
            f"0 and 1, not {len(values)} ratios and {false_alarms}"
        )
    # The small amount keeps 0.01 x 200 from being floored to 1.
    rank = max(int(false_alarms * (len(values) + 1) + 1e-9), 1)
    return float(values[rank - 1])


def halved_thresholds(
    ratios: ArrayLike,
    participants: Sequence[str],
    *,
    false_alarms: float = FALSE_ALARMS,
    halvings: int = 10,
    seed: int = 0,
) -> tuple[Halving, ...]:
    """Thresholds from one half of the held-out participants, tested on the other, and swapped.

    Args:
        ratios: (N,) of held-out slices.
        participants: the N participants that they belong to.
        false_alarms: to aim at, in (0, 1).
        halvings: how many random halvings; each gives two entries.
        seed: of the halvings.

    Returns:
        2 x `halvings` thresholds and their false alarms.

    Raises:
        ValueError: if there is not one participant for each ratio, or fewer than 2 participants.
    """
    values, whose = np.asarray(ratios, dtype=np.float64), np.asarray(participants)
    names = np.unique(whose)
    if values.shape != whose.shape or len(names) < 2:
        raise ValueError(
            "halvings need one participant for each ratio and at least 2 participants, "
            f"not {len(names)} for ratios of shape {values.shape}"
        )
    rng = np.random.default_rng(seed)
    results = []
    for _ in range(halvings):
        half = np.isin(whose, rng.permutation(names)[: len(names) // 2])
        for sets in (half, ~half):
            threshold = copy_threshold(values[sets], false_alarms)
            results.append(Halving(threshold, float((values[~sets] < threshold).mean())))
    return tuple(results)


def found_share(ratios: ArrayLike, halvings: Sequence[Halving]) -> float:
    """The share of planted copies below the threshold, [0, 1], mean over the halvings.

    Args:
        ratios: (N,) of the copies.
        halvings: of `halved_thresholds`.

    Raises:
        ValueError: if there are no copies or no halvings.
    """
    values = np.asarray(ratios, dtype=np.float64)
    if len(values) == 0 or len(halvings) == 0:
        raise ValueError(
            f"the share found needs copies and halvings, not {len(values)} and {len(halvings)}"
        )
    return float(np.mean([(values < halving.threshold).mean() for halving in halvings]))


@dataclass(frozen=True)
class CopyAudit:
    """What the nearest training slices say about a set of samples.

    Args:
        samples: how many samples.
        held_out_slices: how many held-out slices they are compared with.
        held_out_participants: how many participants those belong to.
        threshold: the 1st percentile of the held-out ratios.
        share: of samples below it, [0, 1]; 0.01 is what held-out participants have.
        low: of the 95 % interval of `share`, over samples and held-out participants.
        high: likewise.
        ratio: minimum, 1st and 5th percentile of the samples' ratios.
        distance: likewise, of their distances.
        held_out_ratio: likewise, of the held-out slices' ratios.
        held_out_distance: likewise, of their distances.
        per_participant: how many samples below the threshold lie nearest to each training
            participant, most first; participants without any are left out.
        closest: numbers of the samples with the smallest ratios, smallest first.
    """

    samples: int
    held_out_slices: int
    held_out_participants: int
    threshold: float
    share: float
    low: float
    high: float
    ratio: tuple[float, float, float]
    distance: tuple[float, float, float]
    held_out_ratio: tuple[float, float, float]
    held_out_distance: tuple[float, float, float]
    per_participant: Mapping[str, int]
    closest: tuple[int, ...]


def audit_copies(
    matches: Matches,
    held_out: Matches,
    *,
    training_participants: Sequence[str],
    held_out_participants: Sequence[str],
    closest: int = 8,
    resamples: int = 1000,
    seed: int = 0,
) -> CopyAudit:
    """Compare the matches of samples with those of slices of held-out participants.

    A share near 0.01 does not show that samples are anonymous: it counts copies of whole slices.

    Args:
        matches: of the samples.
        held_out: of held-out slices, passed through the same VQ-VAE: smooth images lie nearer to
            everything.
        training_participants: the participants that the training slices belong to.
        held_out_participants: those that the held-out slices belong to, one per slice.
        closest: how many pairs to name.
        resamples: of the bootstrap for the interval.
        seed: of the bootstrap.

    Returns:
        The audit.

    Raises:
        ValueError: if there are no samples or no held-out slices, or not one participant for each.
    """
    if min(len(matches), len(held_out)) == 0 or len(held_out) != len(held_out_participants):
        raise ValueError(
            "give at least one sample and one participant for each of at least one held-out slice, "
            f"not {len(matches)} samples, {len(held_out)} slices and "
            f"{len(held_out_participants)} participants"
        )
    threshold = float(np.percentile(held_out.ratio, 100 * FALSE_ALARMS))
    below = matches.ratio < threshold
    low, high = _share_interval(
        matches.ratio, held_out.ratio, held_out_participants, resamples, seed
    )
    return CopyAudit(
        samples=len(matches),
        held_out_slices=len(held_out),
        held_out_participants=len(set(held_out_participants)),
        threshold=threshold,
        share=float(below.mean()),
        low=low,
        high=high,
        ratio=_lowest(matches.ratio),
        distance=_lowest(matches.distance),
        held_out_ratio=_lowest(held_out.ratio),
        held_out_distance=_lowest(held_out.distance),
        per_participant=_counts(np.asarray(training_participants)[matches.nearest[below]]),
        closest=tuple(np.argsort(matches.ratio, kind="stable")[:closest].tolist()),
    )


def planted_copies(
    images: np.ndarray,
    *,
    reconstruct: Images | None = None,
    redraw: Images | None = None,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Copies of training slices to test the search with, one set per kind.

    Args:
        images: (N, W, H) training slices, 8-bit or float in [0, 1].
        reconstruct: passes images through the VQ-VAE.
        redraw: passes them through it with a tenth of their codes drawn again.
        seed: of shifts and brightness.

    Returns:
        By kind, (N, W, H) float32 in [0, 1]: "exact", "shifted", "brighter", "mirrored", and
        "reconstructed" and "redrawn" where the functions are given.
    """
    unit = _unit(images)
    kinds = {
        "exact": unit,
        "shifted": shifted_copies(unit, seed=seed),
        "brighter": brighter_copies(unit, seed=seed),
        "mirrored": np.ascontiguousarray(unit[:, ::-1]),
    }
    through = {"reconstructed": reconstruct, "redrawn": redraw}
    return kinds | {name: function(unit) for name, function in through.items() if function}


def shifted_copies(images: np.ndarray, most: float = 2.0, seed: int = 0) -> np.ndarray:
    """Copies moved by random multiples of half a pixel along both axes, never by 0 along both.

    Args:
        images: (N, W, H), 8-bit or float in [0, 1].
        most: pixels, at least 0.5.
        seed: of the shifts.

    Returns:
        (N, W, H) float32 in [0, 1], linearly interpolated; 0 from outside.

    Raises:
        ValueError: if `most` is below half a pixel.
    """
    from scipy.ndimage import shift

    if most < STEP:
        raise ValueError(f"the largest shift must be {STEP} pixels or more, not {most}")
    steps = np.arange(-int(most / STEP), int(most / STEP) + 1) * STEP
    pairs = np.array([(a, b) for a in steps for b in steps if a or b])
    chosen = pairs[np.random.default_rng(seed).integers(len(pairs), size=len(images))]
    unit = _unit(images)
    moved = [shift(image, by, order=1) for image, by in zip(unit, chosen, strict=True)]
    return np.stack(moved) if moved else unit


def brighter_copies(images: np.ndarray, most: float = 0.15, seed: int = 0) -> np.ndarray:
    """Copies times a random factor between 1 - most and 1 + most, clipped to [0, 1].

    Args:
        images: (N, W, H), 8-bit or float in [0, 1].
        most: in [0, 1).
        seed: of the factors.

    Returns:
        (N, W, H) float32 in [0, 1].

    Raises:
        ValueError: if `most` is outside [0, 1).
    """
    if not 0 <= most < 1:
        raise ValueError(f"the largest change of brightness must be in [0, 1), not {most}")
    factors = np.random.default_rng(seed).uniform(1 - most, 1 + most, (len(images), 1, 1))
    return np.clip(_unit(images) * factors.astype(np.float32), 0, 1)


def _check_training(training: ImageArray, participants: Sequence[str]) -> None:
    if training.ndim != 3 or len(training) != len(participants):
        raise ValueError(
            "give one participant for each of the (M, W, H) training slices, "
            f"not {len(participants)} for {training.shape}"
        )
    if len(set(participants)) < 2:
        raise ValueError(
            "the search for copies compares participants and needs slices of at least 2, "
            f"not {len(set(participants))}"
        )


def _blocks(count: int) -> list[slice]:
    return [slice(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK)]


def _coarse(images: np.ndarray) -> Tensor:
    """(B, W, H) -> (B, 32, 32) at most: mean 0, length 1, the centre of mass in the middle."""
    floats = np.ascontiguousarray(images, dtype=np.float32)
    small = _resized(torch.from_numpy(_centred(floats)), COARSE)
    return _of_length_1(small - small.mean(dim=(1, 2), keepdim=True))


def _centred(images: np.ndarray) -> np.ndarray:
    """Rolled by whole pixels, so that shifts of the views do not matter in the coarse step."""
    rows, columns = images.sum(axis=2), images.sum(axis=1)
    moves = np.stack([_to_the_middle(rows), _to_the_middle(columns)], axis=1)
    return np.stack([np.roll(i, move, axis=(0, 1)) for i, move in zip(images, moves, strict=True)])


def _to_the_middle(profiles: np.ndarray) -> np.ndarray:
    size = profiles.shape[1]
    mass = profiles.sum(axis=1)
    centre = (profiles @ np.arange(size)) / np.where(mass > 0, mass, 1)
    return np.where(mass > 0, np.rint((size - 1) / 2 - centre), 0).astype(int)


def _detail(images: np.ndarray) -> Tensor:
    """(B, W, H) -> (B, 64, 64) at most: less the local mean, of length 1.

    Without low frequencies brightness, slow shading and the outline that all brains share weigh
    little, and the folds, which distinguish participants, weigh most.
    """
    small = _resized(torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32)), FINE)
    smooth = small[:, None]
    for _ in range(2):
        smooth = F.avg_pool2d(smooth, WINDOW, stride=1, padding=WINDOW // 2)
    return _of_length_1(small - smooth[:, 0])


def _of_length_1(images: Tensor) -> Tensor:
    return F.normalize(images.flatten(1), dim=1).reshape(images.shape)


def _resized(images: Tensor, side: int) -> Tensor:
    width, height = (min(side, length) for length in images.shape[1:])
    return F.adaptive_avg_pool2d(images[:, None], (width, height))[:, 0]


def _spectrum(detail: Tensor) -> Tensor:
    return torch.fft.rfft2(detail, norm="ortho")


def _shifts(most: float) -> np.ndarray:
    """From -most to most and one step beyond, in pixels of the images."""
    steps = math.ceil(most / STEP) + 1
    return (np.arange(-steps, steps + 1) * STEP).astype(np.float32)


def _waves(shifts: np.ndarray, size: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Two matrices that turn a product of spectra into correlations at all pairs of shifts."""
    width, height = (min(FINE, length) for length in size)
    by = torch.from_numpy(shifts).double()
    along_w = torch.fft.fftfreq(width, 1 / width, dtype=torch.float64) / size[0]
    along_h = torch.arange(height // 2 + 1).double() / size[1]
    # A real image has half of its spectrum twice; only the first and an even last column are once.
    times = torch.full((height // 2 + 1,), 2.0, dtype=torch.float64)
    times[0] = 1
    if height % 2 == 0:
        times[-1] = 1
    rows = torch.exp(2j * math.pi * by[:, None] * along_w)  # (S, 64)
    columns = torch.exp(2j * math.pi * along_h[:, None] * by) * times[:, None]  # (33, S)
    return rows.to(torch.complex64), columns.to(torch.complex64)


def _lowest(values: np.ndarray) -> tuple[float, float, float]:
    minimum, first, fifth = np.percentile(values, [0, 1, 5])
    return float(minimum), float(first), float(fifth)


def _counts(names: np.ndarray) -> dict[str, int]:
    found, counts = np.unique(names, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return {str(found[i]): int(counts[i]) for i in order}


def _share_interval(
    ratios: np.ndarray,
    held_out: np.ndarray,
    participants: Sequence[str],
    resamples: int,
    seed: int,
) -> tuple[float, float]:
    rng = np.random.default_rng(seed)
    _, participant = np.unique(np.asarray(participants), return_inverse=True)
    of_participant = [held_out[participant == p] for p in range(int(participant.max()) + 1)]
    ordered = np.sort(ratios)
    shares = np.empty(resamples)
    for i in range(resamples):
        drawn = rng.integers(len(of_participant), size=len(of_participant))
        threshold = np.percentile(
            np.concatenate([of_participant[p] for p in drawn]), 100 * FALSE_ALARMS
        )
        below = np.searchsorted(ordered, threshold) / len(ordered)
        shares[i] = rng.binomial(len(ordered), below) / len(ordered)  # samples are independent
    low, high = np.percentile(shares, [2.5, 97.5])
    return float(low), float(high)


def _unit(images: np.ndarray) -> np.ndarray:
    """As float32 in [0, 1]: 8-bit values by 255, others as they are."""
    scale = 255 if images.dtype == np.uint8 else 1
    return np.asarray(images, dtype=np.float32) / np.float32(scale)
