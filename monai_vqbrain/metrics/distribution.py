"""Distances between the distributions of real and synthetic images, in any feature space.

Everything takes features, (N, D), standardised on real training images (`Standardiser`). Distances
and kernels are computed in blocks, so that memory grows with N, not with its square.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from monai_vqbrain.metrics.bootstrap import (
    LEVEL,
    Interval,
    bootstrap,
    bootstrap_mean,
    groups,
)

BLOCK = 512  # rows of a kernel or distance matrix that exist at once
NEIGHBOURS = 5
SAMPLE_GROUPS = 50  # synthetic images are independent: blocks of them are resampled
HALVINGS = 100

Labels = Sequence[str] | np.ndarray


@dataclass(frozen=True)
class KernelSums:
    """Sums of the cubic kernel over pairs of groups; all that KID and its bootstrap need.

    Groups are the participants of real images, and blocks of synthetic images.

    Attributes:
        real: (P, P) float64, sums over pairs of different real images.
        synthetic: (G, G) likewise.
        cross: (P, G), sums over pairs of a real and a synthetic image.
        images: (P,) real images of each participant.
        samples: (G,) synthetic images of each block.
    """

    real: np.ndarray
    synthetic: np.ndarray
    cross: np.ndarray
    images: np.ndarray
    samples: np.ndarray

    def kid(
        self, drawn: np.ndarray | None = None, drawn_samples: np.ndarray | None = None
    ) -> np.ndarray:
        """KID when each group is drawn so often.

        A participant that is drawn twice counts twice, but is never compared with the copy: an
        image is as similar as can be to itself, which would add to every replicate.

        Args:
            drawn: (R, P) how often each participant is drawn; None for each once.
            drawn_samples: (R, G) likewise.

        Returns:
            (R,) float64.
        """
        w = _once(self.images) if drawn is None else drawn
        v = _once(self.samples) if drawn_samples is None else drawn_samples
        between = np.einsum("rp,pg,rg->r", w, self.cross, v, optimize=True)
        pairs = (w @ self.images) * (v @ self.samples)
        within = _within(w, self.real, self.images) + _within(v, self.synthetic, self.samples)
        return within - 2 * between / pairs


def kid(real: np.ndarray, synthetic: np.ndarray) -> float:
    """Kernel Inception Distance: the unbiased squared MMD with the kernel (x.y / D + 1)^3.

    0 in expectation where both distributions are equal; single values may be below 0.

    Args:
        real: (N, D) features, N at least 2.
        synthetic: (M, D), M at least 2.

    Returns:
        KID.

    Raises:
        ValueError: if the features differ in length or are too few.

    Source: Binkowski et al., Demystifying MMD GANs, 2018. Equal to torchmetrics' `poly_mmd`, which
    needs N = M.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> a, b, c = (rng.normal(mean, 1, (500, 8)) for mean in (0, 0, 1))
        >>> abs(kid(a, b)) < 0.1 < kid(a, c)
        True
    """
    return float(kernel_sums(real, synthetic).kid()[0])


def kernel_sums(
    real: np.ndarray, synthetic: np.ndarray, participants: Labels | None = None
) -> KernelSums:
    """The kernel sums of each pair of groups, at the cost of one KID.

    Args:
        real: (N, D) features, N at least 2.
        synthetic: (M, D), M at least 2.
        participants: (N,) whose image each real one is; None for one participant.

    Returns:
        The sums, for `KernelSums.kid` and `kid_interval`.

    Raises:
        ValueError: if the features differ in length or are too few, or labels are missing.
    """
    _check(real, synthetic, 2)
    labels = np.zeros(len(real), dtype=int) if participants is None else participants
    group, images = groups(labels, len(real))
    order = np.argsort(group, kind="stable")
    blocks = min(SAMPLE_GROUPS, len(synthetic))
    block = np.arange(len(synthetic)) * blocks // len(synthetic)
    samples = np.bincount(block)
    x, y = _tensor(real[order]), _tensor(synthetic)
    return KernelSums(
        _group_sums(x, x, images, images),
        _group_sums(y, y, samples, samples),
        _group_sums(x, y, images, samples),
        images,
        samples,
    )


def kid_interval(sums: KernelSums, seed: int = 0, other: KernelSums | None = None) -> Interval:
    """KID with an interval over participants and samples; or the paired difference of two KIDs.

    Args:
        sums: of one set of synthetic images.
        seed: of the draws.
        other: of another set, compared with the same real images; its KID is subtracted, and each
            replicate draws the same participants for both.

    Returns:
        KID (or KID minus the other's KID) and its interval.

    Raises:
        ValueError: if the other set was compared with other participants.
    """
    if other is None:
        return bootstrap(lambda drawn: _resampled(sums, drawn, seed + 1), sums.images, seed)
    if not np.array_equal(other.images, sums.images):
        raise ValueError(
            "a paired comparison needs the same real images on both sides, not "
            f"{sums.images.sum()} of {len(sums.images)} participants and "
            f"{other.images.sum()} of {len(other.images)}"
        )
    return bootstrap(
        lambda w: _resampled(sums, w, seed + 1) - _resampled(other, w, seed + 2), sums.images, seed
    )


def floor(
    features: np.ndarray, participants: Labels, seed: int = 0, halvings: int = HALVINGS
) -> Interval:
    """KID between participant-disjoint halves of real images: what a perfect generator would reach.

    Halves of images instead of participants would give 0 by construction, since each image then
    has neighbours of its own participant in the other half.

    Args:
        features: (N, D) of real images.
        participants: (N,) whose image each is, at least four participants.
        seed: of the halvings.
        halvings: how many times participants are halved at random.

    Returns:
        The median over halvings and the interval that holds 95 % of them. For training against
        held-out participants, take `kid_interval(kernel_sums(training, held_out, participants))`.

    Raises:
        ValueError: if there are fewer than four participants.
    """
    group, images = groups(participants, len(features))
    if len(images) < 4:
        raise ValueError(f"halves of participants need at least 4 of them, not {len(images)}")
    x = _tensor(features[np.argsort(group, kind="stable")])
    sums = _group_sums(x, x, images, images)
    rng = np.random.default_rng(seed)
    first = rng.permuted(np.tile(np.arange(len(images)) % 2, (halvings, 1)), axis=1)
    values = KernelSums(sums, sums, sums, images, images).kid(first, 1 - first)
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    value = float(np.median(values))
    return Interval(value, float(low), float(high), len(images), len(features))


@dataclass(frozen=True)
class Neighbours:
    """Neighbourhoods of real and synthetic images, for density, coverage, precision and recall.

    A neighbourhood of an image reaches to its k-th nearest neighbour in its own set.

    Attributes:
        hits: (N,) int64, synthetic images in the neighbourhood of each real image.
        precise: (N,) bool, which synthetic images lie in the neighbourhood of a real one.
        recalled: (N,) bool, which real images lie in the neighbourhood of a synthetic one.
        k: neighbours that made the radius.
    """

    hits: np.ndarray
    precise: np.ndarray
    recalled: np.ndarray
    k: int

    @property
    def density(self) -> float:
        """Neighbourhoods around a synthetic image, over k: about 1 for equal distributions."""
        return float(self.hits.mean() / self.k)

    @property
    def coverage(self) -> float:
        """Share of real images with a synthetic one nearby: the figure for diversity.

        1 - 2^-k, about 0.97, for a perfect generator and independent images. It falls when
        diversity falls, which recall does not.
        """
        return float((self.hits > 0).mean())

    @property
    def precision(self) -> float:
        """Share of synthetic images near a real one."""
        return float(self.precise.mean())

    @property
    def recall(self) -> float:
        """Share of real images near a synthetic one; rises as samples spread or get fewer modes.

        The radii are those of the synthetic images, and outliers have large ones. Given for
        completeness only.
        """
        return float(self.recalled.mean())

    def coverage_interval(self, participants: Labels, seed: int = 0) -> Interval:
        """Coverage with its interval over the participants of the real images, (N,) labels."""
        return bootstrap_mean(self.hits > 0, participants, seed)

    def density_interval(self, participants: Labels, seed: int = 0) -> Interval:
        """Density with its interval over the participants of the real images, (N,) labels."""
        return bootstrap_mean(self.hits / self.k, participants, seed)

    def recall_interval(self, participants: Labels, seed: int = 0) -> Interval:
        """Recall with its interval over the participants of the real images, (N,) labels."""
        return bootstrap_mean(self.recalled, participants, seed)

    def precision_interval(self, seed: int = 0) -> Interval:
        """Precision with its interval over the synthetic images, each drawn on its own."""
        return bootstrap_mean(self.precise, np.arange(len(self.precise)), seed)


def neighbours(real: np.ndarray, synthetic: np.ndarray, k: int = NEIGHBOURS) -> Neighbours:
    """Density, coverage, precision and recall of equally many real and synthetic images.

    Args:
        real: (N, D) features.
        synthetic: (N, D).
        k: neighbours that make the radius, below N.

    Returns:
        The neighbourhoods; its properties are the four figures.

    Raises:
        ValueError: if the numbers of images differ (coverage grows with the number of synthetic
            images, so it can only be compared at equal N), or k is not from 1 to N - 1.

    Source: Naeem et al., Reliable Fidelity and Diversity Metrics for Generative Models, 2020;
    Kynkaanniemi et al., Improved Precision and Recall Metric, 2019. Equal to the package `prdc`.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> real, same = rng.normal(size=(2, 500, 8))
        >>> neighbours(real, same).coverage > 0.9
        True
    """
    if len(real) != len(synthetic):
        raise ValueError(
            "coverage grows with the number of synthetic images: give equally many, "
            f"not {len(real)} real and {len(synthetic)} synthetic ones"
        )
    _check(real, synthetic, 2)
    if not 1 <= k < len(real):
        raise ValueError(f"k must be from 1 to {len(real) - 1}, one below N, not {k}")
    centre = real.mean(axis=0, dtype=np.float64)  # small numbers: differences then cancel less
    x, y = _tensor(real - centre), _tensor(synthetic - centre)
    return _neighbours(x, y, k)


def frechet_distance(real: np.ndarray, synthetic: np.ndarray) -> float:
    """Frechet distance of two Gaussians fitted to the features: for appendices only.

    It is biased upwards, the more the fewer the images and the more the features: 200 against 200
    vectors of one 512-dimensional Gaussian give 512, and 4,000 against 4,000 give 33. It cannot be
    compared between numbers of images or feature spaces. Use KID.

    Args:
        real: (N, D) features, N at least 2.
        synthetic: (M, D), M at least 2.

    Returns:
        ||m1 - m2||^2 + tr(C1 + C2 - 2 (C1 C2)^1/2), 0 or more.

    Raises:
        ValueError: if the features differ in length or are too few.

    Source: Heusel et al., GANs Trained by a Two Time-Scale Update Rule, 2017, equation 6.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(100, 4))
        >>> round(frechet_distance(x, x + 1), 6)
        4.0
    """
    _check(real, synthetic, 2)
    x, y = real.astype(np.float64), synthetic.astype(np.float64)
    first, second = (np.atleast_2d(np.cov(z, rowvar=False)) for z in (x, y))
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    # C1 C2 and the symmetric root C2 root have the same eigenvalues
    common = np.sqrt(np.linalg.eigvalsh(root @ second @ root).clip(0)).sum()
    shift = ((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum()
    return float(max(shift + np.trace(first) + np.trace(second) - 2 * common, 0))


def noise_images(images: np.ndarray, seed: int = 0) -> np.ndarray:
    """Ceiling: uniform noise in [0, 1] in the shape of (N, W, H) images, float32."""
    return np.random.default_rng(seed).random(images.shape, dtype=np.float32)


def blurred_images(images: np.ndarray, sigma: float = 2.0) -> np.ndarray:
    """Ceiling: (N, W, H) real images in [0, 1], blurred by `sigma` pixels, float32."""
    from scipy.ndimage import gaussian_filter

    found = np.empty(images.shape, dtype=np.float32)
    for image, blurred in zip(images, found, strict=True):
        gaussian_filter(image.astype(np.float32), sigma, output=blurred)
    return found


def repeated_image(images: np.ndarray, seed: int = 0) -> np.ndarray:
    """Ceiling: one of (N, W, H) real images, N times, as a view without memory of its own."""
    return np.broadcast_to(images[np.random.default_rng(seed).integers(len(images))], images.shape)


def _once(counts: np.ndarray) -> np.ndarray:
    return np.ones((1, len(counts)), dtype=np.int64)


def _within(drawn: np.ndarray, sums: np.ndarray, images: np.ndarray) -> np.ndarray:
    """The mean kernel of pairs of different images within one set, (R,)."""
    same = np.diagonal(sums)
    total = np.einsum("rp,pq,rq->r", drawn, sums, drawn, optimize=True)
    total += drawn @ same - drawn**2 @ same
    pairs = (drawn @ images) ** 2 - drawn**2 @ images**2 + drawn @ (images * (images - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return total / pairs


def _resampled(sums: KernelSums, drawn: np.ndarray, seed: int) -> np.ndarray:
    """KID with blocks of samples drawn beside the participants; one row stands for no draw."""
    if len(drawn) == 1:
        return sums.kid(drawn)
    blocks = len(sums.samples)
    chance = np.full(blocks, 1 / blocks)
    rng = np.random.default_rng(seed)
    return sums.kid(drawn, rng.multinomial(blocks, chance, size=len(drawn)))


def _group_sums(
    x: torch.Tensor, y: torch.Tensor, rows: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    """Kernel sums of consecutive groups, (P, G) float64; pairs of an image with itself left out."""
    starts = np.cumsum(columns) - columns
    found = np.zeros((len(rows), len(columns)))
    row_group = np.repeat(np.arange(len(rows)), rows)
    for start in range(0, len(x), BLOCK):
        kernel = torch.mm(x[start : start + BLOCK], y.T)
        kernel.div_(x.shape[1]).add_(1)
        kernel = kernel.square().mul_(kernel)
        if x is y:
            kernel.diagonal(start).zero_()
        sums = np.add.reduceat(kernel.numpy(), starts, axis=1).astype(np.float64)
        np.add.at(found, row_group[start : start + BLOCK], sums)
    return found


def _neighbours(x: torch.Tensor, y: torch.Tensor, k: int) -> Neighbours:
    real_radius, synthetic_radius = _radii(x, k), _radii(y, k)
    hits, recalled = np.empty(len(x), dtype=np.int64), np.empty(len(x), dtype=bool)
    precise = torch.zeros(len(y), dtype=torch.bool)
    for start, squared in _squared_distances(x, y):
        part = slice(start, start + len(squared))
        inside = squared < real_radius[part, None]
        hits[part] = inside.sum(dim=1).numpy()
        precise |= inside.any(dim=0)
        recalled[part] = (squared < synthetic_radius).any(dim=1).numpy()
    return Neighbours(hits, precise.numpy(), recalled, k)


def _radii(x: torch.Tensor, k: int) -> torch.Tensor:
    """Squared distance of each row to its k-th nearest other row, (N,)."""
    found = torch.empty(len(x))
    for start, squared in _squared_distances(x, x):
        squared.diagonal(start).fill_(torch.inf)
        nearest = np.partition(squared.numpy(), k - 1, axis=1)[:, k - 1]
        found[start : start + len(squared)] = torch.from_numpy(nearest)
    return found


def _squared_distances(x: torch.Tensor, y: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
    """(first row, (B, M) squared distances) of block after block of rows."""
    lengths = (y**2).sum(dim=1)
    for start in range(0, len(x), BLOCK):
        rows = x[start : start + BLOCK]
        squared = torch.addmm(lengths, rows, y.T, alpha=-2)
        squared += (rows**2).sum(dim=1, keepdim=True)
        yield start, squared.clamp_(min=0)


def _tensor(features: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(features, dtype=np.float32))


def _check(real: np.ndarray, synthetic: np.ndarray, least: int) -> None:
    fine = real.ndim == synthetic.ndim == 2 and real.shape[1] == synthetic.shape[1]
    if not fine or min(len(real), len(synthetic)) < least:
        raise ValueError(
            f"real and synthetic features must be (N, D) of one D, N at least {least}, "
            f"not {real.shape} and {synthetic.shape}"
        )
