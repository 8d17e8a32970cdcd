"""Feature spaces that need no download: the run's encoder, a random network, named textures."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_vqbrain.metrics.images import ImageArray

# Images are (N, W, H): floating point in [0, 1], or uint8. Features are (N, D) float32.
Images = ImageArray | Tensor
Features = Callable[[Images], np.ndarray]

BATCH = 64  # images that are floating point at once
RANDOM_CHANNELS = (16, 32, 64, 64)
LEVELS = 32  # grey levels of the co-occurrence matrices
DISTANCES = (1, 2, 4)  # pixels
PERCENTILES = (5, 10, 25, 50, 75, 90, 95)
DARKEST = 0.05  # without a mask, what is brighter counts as inside
TEXTURE_NAMES = (
    "area", "mean", "sd", "skewness", "kurtosis",
    *(f"percentile_{p}" for p in PERCENTILES),
    "entropy", "uniformity",
    "gradient_mean", "gradient_sd", "gradient_percentile_90", "laplacian_mean",
    *(f"{name}_{d}" for d in DISTANCES
      for name in ("contrast", "homogeneity", "energy", "correlation")),
)  # fmt: skip


class EncoderFeatures:
    """Mean and standard deviation of an encoder's output in each cell of a coarse grid.

    Args:
        network: a module with `encode`: (B, 1, W, H) -> (B, C, w, h), such as a BrainVQVAE. It is
            used in evaluation mode and left in the mode it was in.
        pool: P, cells along each side of the coarse grid.
        batch_size: images per forward pass; memory depends on it alone.

    Raises:
        ValueError: if the network has no `encode`.

    Example:
        >>> from monai_vqbrain.networks import BrainVQVAE
        >>> EncoderFeatures(BrainVQVAE())(np.zeros((3, 64, 64), dtype=np.uint8)).shape
        (3, 64)
    """

    def __init__(self, network: nn.Module, pool: int = 2, batch_size: int = BATCH) -> None:
        if not callable(getattr(network, "encode", None)):
            raise ValueError(f"the network needs `encode`, which {type(network).__name__} has not")
        self.network, self.pool, self.batch_size = network, pool, batch_size

    def __call__(self, images: Images) -> np.ndarray:
        """(N, W, H) in [0, 1], or uint8 -> (N, 2 C P^2) float32."""
        was_training = self.network.training
        self.network.eval()
        try:
            device = next((p.device for p in self.network.parameters()), torch.device("cpu"))
            return _in_batches(lambda x: self._features(x.to(device)), images, self.batch_size)
        finally:
            self.network.train(was_training)

    def _features(self, images: Tensor) -> Tensor:
        network: Any = self.network
        encodings = network.encode(images).float()
        mean = F.adaptive_avg_pool2d(encodings, self.pool)
        squares = F.adaptive_avg_pool2d(encodings**2, self.pool)
        return torch.cat([mean, (squares - mean**2).clamp(min=0).sqrt()], 1).flatten(1)


class RandomConvFeatures:
    """Features of a convolutional network whose weights were drawn once, and never trained.

    Four 3x3 convolutions of stride 2 with leaky ReLU, pooled to 2x2. Uniform numbers of torch's
    CPU generator are the same on every machine, where normal ones may differ in their last bits.
    Filters keep their mean: without it, edges count more, but contrast and missing parts vanish.

    Args:
        seed: of the weights.
        batch_size: images per forward pass; memory depends on it alone.

    Source: random filters as features, Saxe et al., On Random Weights and Unsupervised Feature
    Learning, ICML 2011.

    Example:
        >>> RandomConvFeatures()(np.zeros((3, 64, 64), dtype=np.uint8)).shape
        (3, 256)
    """

    def __init__(self, seed: int = 0, batch_size: int = BATCH) -> None:
        self.seed, self.batch_size = seed, batch_size
        generator = torch.Generator().manual_seed(seed)
        sides = itertools.pairwise((1, *RANDOM_CHANNELS))
        self.weights = [_random_filters(cin, cout, generator) for cin, cout in sides]

    def __call__(self, images: Images) -> np.ndarray:
        """(N, W, H) in [0, 1], or uint8 -> (N, 256) float32."""
        return _in_batches(self._features, images, self.batch_size)

    def _features(self, images: Tensor) -> Tensor:
        x = images
        for weight in self.weights:
            x = F.leaky_relu(F.conv2d(x, weight, stride=2, padding=1), 0.2)
        return F.adaptive_avg_pool2d(x, 2).flatten(1)


@dataclass(frozen=True)
class Standardiser:
    """Shift and scale each feature to mean 0 and standard deviation 1 on reference images.

    Fit it on the features of real training slices and apply it to all sets, so that no feature
    counts for more because of its unit. A feature that is constant on them is only shifted.

    Attributes:
        mean: (D,) float64.
        scale: (D,) float64, above 0.

    Example:
        >>> Standardiser.fit(np.array([[0.0, 5.0], [2.0, 5.0]]))(np.array([[3.0, 6.0]])).tolist()
        [[2.0, 1.0]]
    """

    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def fit(cls, reference: np.ndarray) -> Standardiser:
        """Learn mean and scale.

        Args:
            reference: (N, D), at least two rows.

        Returns:
            The fitted standardiser.

        Raises:
            ValueError: if there are fewer than two rows.
        """
        if reference.ndim != 2 or len(reference) < 2:
            raise ValueError(f"the reference must be (N, D), N at least 2, not {reference.shape}")
        mean = reference.mean(axis=0, dtype=np.float64)
        scale = reference.std(axis=0, dtype=np.float64)
        constant = scale <= 1e-6 * np.maximum(np.abs(mean), 1e-6)
        return cls(mean, np.where(constant, 1.0, scale))

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """(N, D) -> (N, D) float32."""
        return ((features - self.mean) / self.scale).astype(np.float32)


def texture_features(images: Images, masks: Images | None = None) -> np.ndarray:
    """Thirty named first-order and texture features inside the brain, see `TEXTURE_NAMES`.

    Everything is computed on 8-bit values, in units of the range [0, 1]. `area` is a share of the
    frame; `entropy` is in bits of the 8-bit histogram, `uniformity` the sum of its squared shares.
    Gradients (central differences) and Laplacians take pixels whose four neighbours lie inside.
    Co-occurrences are of 32 grey levels at 1, 2 and 4 pixels, symmetric, horizontal and vertical
    pooled, of pairs that lie inside. All features are invariant to mirroring.

    Args:
        images: (N, W, H) in [0, 1], or uint8.
        masks: (N, W, H), true inside; None takes pixels brighter than 0.05. Real and synthetic
            images must get their masks in the same way.

    Returns:
        (N, 30) float32; zeros for an image without a pixel inside.

    Raises:
        ValueError: if the shapes differ or are not (N, W, H).

    Source: Haralick et al., Textural Features for Image Classification, 1973. Co-occurrences and
    their properties equal scikit-image's `graycomatrix` and `graycoprops` on the pairs inside.

    Example:
        >>> values = texture_features(np.full((1, 32, 32), 0.5))
        >>> round(float(values[0, TEXTURE_NAMES.index("mean")]), 3)
        0.502
    """
    _check(images)
    if masks is not None and masks.shape != images.shape:
        raise ValueError(
            f"masks must have the images' shape {tuple(images.shape)}, not {tuple(masks.shape)}"
        )
    found = np.empty((len(images), len(TEXTURE_NAMES)), dtype=np.float32)
    for start in range(0, len(images), BATCH):
        part = slice(start, start + BATCH)
        pixels = _bytes(np.asarray(images[part]))
        inside = pixels > 255 * DARKEST if masks is None else np.asarray(masks[part]) > 0
        found[part] = _texture(pixels, inside)
    return found


def _texture(pixels: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """(B, W, H) uint8 and bool -> (B, 30)."""
    area = inside.mean(axis=(1, 2))
    pixels, inside = _cropped(pixels, inside)
    histogram = _histograms(pixels, inside)
    columns = [area, *_first_order(histogram), *_gradients(pixels, inside)]
    levels = pixels // (256 // LEVELS)
    for distance in DISTANCES:
        columns += _haralick(co_occurrences(levels, inside, distance))
    return np.nan_to_num(np.stack(columns, axis=1), nan=0.0)


def _cropped(pixels: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Without the outer rows and columns that no image of the batch needs: half of the frame."""
    box = [slice(None)]
    for axis in (1, 2):
        used = np.flatnonzero(inside.any(axis=(0, 3 - axis)))
        box.append(slice(used[0], used[-1] + 1) if len(used) else slice(0, 1))
    return pixels[tuple(box)], inside[tuple(box)]


def _histograms(pixels: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """(B, 256) counts of the 8-bit values inside, exact and cheaper than sorting."""
    image = np.nonzero(inside.reshape(len(pixels), -1))[0]
    joint = image * 256 + pixels[inside]
    return np.bincount(joint, minlength=256 * len(pixels)).reshape(-1, 256)


def _first_order(histogram: np.ndarray) -> list[np.ndarray]:
    with np.errstate(divide="ignore", invalid="ignore"):
        share = histogram / histogram.sum(axis=1, keepdims=True)
        grey = np.arange(256) / 255
        mean = share @ grey
        centred = grey - mean[:, None]
        second, third, fourth = ((share * centred**p).sum(axis=1) for p in (2, 3, 4))
        skewness, kurtosis = third / second**1.5, fourth / second**2 - 3
        bits = -(share * np.log2(np.where(share > 0, share, 1))).sum(axis=1)
    percentiles = [_percentile(histogram, p) / 255 for p in PERCENTILES]
    flat = second < 1e-12  # one grey level has no shape; rounding would give it one
    shape = [np.where(flat, 0, skewness), np.where(flat, 0, kurtosis)]
    return [mean, np.sqrt(second), *shape, *percentiles, bits, (share**2).sum(axis=1)]


def _percentile(histogram: np.ndarray, percent: float) -> np.ndarray:
    """The smallest value that at least this percentage does not exceed, (B,)."""
    below = histogram.cumsum(axis=1)
    return (below < percent / 100 * below[:, -1:]).sum(axis=1)


def _gradients(pixels: np.ndarray, inside: np.ndarray) -> list[np.ndarray]:
    x = pixels.astype(np.float32) / 255
    centre = x[:, 1:-1, 1:-1]
    left, right, up, down = x[:, :-2, 1:-1], x[:, 2:, 1:-1], x[:, 1:-1, :-2], x[:, 1:-1, 2:]
    core = inside[:, 1:-1, 1:-1] & inside[:, :-2, 1:-1] & inside[:, 2:, 1:-1]
    core &= inside[:, 1:-1, :-2] & inside[:, 1:-1, 2:]
    gradient = np.sqrt((right - left) ** 2 + (down - up) ** 2) / 2
    laplacian = np.abs(left + right + up + down - 4 * centre)
    mean, sd = _mean_and_sd(gradient, core)
    steps = np.minimum(gradient * 255, 255).astype(np.uint8)
    steep = _percentile(_histograms(steps, core), 90) / 255
    return [mean, sd, steep, _mean_and_sd(laplacian, core)[0]]


def _mean_and_sd(values: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    count = np.maximum(inside.sum(axis=(1, 2)), 1)
    kept = np.where(inside, values, 0)
    mean = kept.sum(axis=(1, 2), dtype=np.float64) / count
    squares = (kept**2).sum(axis=(1, 2), dtype=np.float64) / count
    return mean, np.sqrt(np.maximum(squares - mean**2, 0))


def co_occurrences(levels: np.ndarray, inside: np.ndarray, distance: int) -> np.ndarray:
    """How often two grey levels lie `distance` pixels apart, along either axis, inside the mask.

    Args:
        levels: (B, W, H) integers 0..31.
        inside: (B, W, H) bool.
        distance: pixels.

    Returns:
        (B, 32, 32) int64, symmetric: each pair is counted in both orders.
    """
    image = np.arange(len(levels), dtype=np.int32)[:, None, None] * LEVELS**2
    row = image + levels * np.int32(LEVELS)
    found = np.zeros(len(levels) * LEVELS**2, dtype=np.int64)
    here, there = slice(None, -distance), slice(distance, None)
    for a, b in (((here,), (there,)), ((slice(None), here), (slice(None), there))):
        first, second = (slice(None), *a), (slice(None), *b)
        both = inside[first] & inside[second]
        joint = (row[first] + levels[second])[both]
        found += np.bincount(joint, minlength=len(found))
    pairs = found.reshape(-1, LEVELS, LEVELS)
    return pairs + pairs.transpose(0, 2, 1)


def _haralick(pairs: np.ndarray) -> list[np.ndarray]:
    """Contrast, homogeneity, energy and correlation of (B, L, L) symmetric counts."""
    share = pairs / np.maximum(pairs.sum(axis=(1, 2), keepdims=True), 1)
    level = np.arange(LEVELS)
    squared = (level[:, None] - level) ** 2
    contrast = (share * squared).sum(axis=(1, 2))
    homogeneity = (share / (1 + squared)).sum(axis=(1, 2))
    energy = np.sqrt((share**2).sum(axis=(1, 2)))
    marginal = share.sum(axis=2)
    variance = marginal @ level**2 - (marginal @ level) ** 2
    # half the contrast is the variance of the difference: symmetric pairs have equal marginals
    correlation = 1 - contrast / 2 / np.where(variance > 1e-12, variance, np.inf)
    return [contrast, homogeneity, energy, np.where(pairs.any(axis=(1, 2)), correlation, 0)]


def _random_filters(inputs: int, outputs: int, generator: torch.Generator) -> Tensor:
    """(outputs, inputs, 3, 3) float32, scaled as by He et al. 2015."""
    weight = torch.rand(outputs, inputs, 3, 3, generator=generator) * 2 - 1
    return weight * math.sqrt(6 / (9 * inputs))


def _in_batches(function: Callable[[Tensor], Tensor], images: Images, size: int) -> np.ndarray:
    _check(images)
    with torch.inference_mode():
        parts = [function(batch).cpu().numpy() for batch in batches(images, size)]
    return np.concatenate(parts)


def batches(images: Images, size: int = BATCH) -> Iterator[Tensor]:
    """Images as network inputs.

    Args:
        images: (N, W, H) in [0, 1], or uint8.
        size: B.

    Yields:
        (B, 1, W, H) float32 in [0, 1]; the last may be shorter.
    """
    for start in range(0, len(images), size):
        part = images[start : start + size]
        if isinstance(part, np.ndarray):
            part = torch.from_numpy(part.copy())  # views may be mirrored or read-only
        scale = 255.0 if part.dtype == torch.uint8 else 1.0
        yield part.to(torch.float32)[:, None] / scale


def _bytes(images: np.ndarray) -> np.ndarray:
    if images.dtype == np.uint8:
        return images
    return (np.clip(images, 0, 1) * 255 + 0.5).astype(np.uint8)


def _check(images: Images | Sequence[Any]) -> None:
    shape = tuple(getattr(images, "shape", ()))
    if len(shape) != 3 or shape[0] == 0:
        raise ValueError(f"images must be (N, W, H), N at least 1, not {shape}")
