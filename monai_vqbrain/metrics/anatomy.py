"""Anatomy of slices: areas, tissues, ventricles, symmetry."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from monai_vqbrain.metrics.images import ImageArray
from monai_vqbrain.transforms.mask import solid

Floats = NDArray[np.floating]
Measures = dict[str, Floats]  # name of a measure -> (N,), one value per slice

UNITS = {
    "brain_area": "cm^2",
    "csf_fraction": "share of the brain area",
    "grey_fraction": "share of the brain area",
    "white_fraction": "share of the brain area",
    "ventricle_area": "cm^2, CSF in the central part of the brain",
    "contrast": "(white - grey) / pooled standard deviation",
    "asymmetry": "mean |image - mirrored image| / mean, in the brain",
    "parts": "connected parts of the brain",
    "largest_part": "share of the brain area",
    "intensity_mean": "[0, 1], in the brain",
    "intensity_sd": "[0, 1], in the brain",
}
DARK = 25 / 255  # what is brighter is brain
CENTRE = 0.55  # semi-axes of the central part, as shares of the brain's own
PRIOR_PIXELS = 100.0  # how many pixels per tissue the set counts for in the mixture of one slice
SMALLEST_PART = 0.1  # cm^2; smaller specks are no part
CHUNK = 256  # slices measured at once
LEVELS = np.arange(256, dtype=np.float32) / 255


@dataclass(frozen=True)
class Tissues:
    """A mixture of three normal distributions of intensity: CSF, grey and white matter.

    Attributes:
        means: (3,), in [0, 1], ascending.
        sds: (3,), standard deviations.
        shares: (3,), they sum to 1.
    """

    means: Floats
    sds: Floats
    shares: Floats


def fit_tissues(images: ImageArray, threshold: float = DARK) -> Tissues:
    """Fit the intensities of CSF, grey and white matter to a set of slices.

    Expectation-maximisation on the pooled 8-bit histogram of the brains, started from Otsu's
    thresholds for three classes. Fit it on real training slices, and apply it to all others.

    Args:
        images: (N, W, H) skull-stripped T1 slices, float in [0, 1] or uint8.
        threshold: in [0, 1]; what is brighter is brain.

    Raises:
        ValueError: if the brains do not have three different intensities.
    """
    from skimage.filters import threshold_multiotsu

    pooled = np.zeros(256)
    for chunk in _chunks(images):
        pooled += _histograms(chunk, brain_masks(chunk, threshold)).sum(axis=0)
    if np.count_nonzero(pooled) < 3:
        raise ValueError(
            f"the brains of {len(images)} slices have fewer than three intensities above "
            f"{threshold:.3f}: give skull-stripped slices in [0, 1] or as uint8"
        )
    edges = threshold_multiotsu(hist=(pooled, LEVELS.astype(float)), classes=3)
    start = _of_classes(pooled, np.digitize(LEVELS, edges))
    means, sds, shares = _mixture(pooled[None], start, prior_pixels=0.0, iterations=100)
    return Tissues(means[0], sds[0], shares[0])


def measure_anatomy(
    images: ImageArray,
    spacing_mm: Sequence[float],
    tissues: Tissues,
    axis: str = "axial",
    threshold: float = DARK,
    priors: np.ndarray | None = None,
    position: np.ndarray | None = None,
) -> Measures:
    """Measure every slice.

    The brain is `solid(image > threshold)`. Tissues come from a mixture that is fitted to the
    histogram of each slice, drawn towards `tissues`, so that a slice that is a little brighter as
    a whole has the same tissues. It is no segmentation of single pixels: bias fields within a
    slice remain.

    Args:
        images: (N, W, H) skull-stripped T1 slices, float in [0, 1] or uint8; floats are rounded
            to 8 bits. A memory-mapped array is read in chunks.
        spacing_mm: size of a pixel along W and H, mm.
        tissues: of real training slices, from `fit_tissues`.
        axis: "axial", "coronal" or "sagittal"; sagittal slices have no left-right asymmetry (NaN).
        threshold: in [0, 1]; what is brighter is brain.
        priors: (P, W, H, 3) probability of CSF, grey and white matter at P slice positions, for
            slices in template space; they replace the mixture's shares.
        position: (N,) index into `priors` for each slice.

    Returns:
        (N,) float64 for each name in `UNITS`. A slice without brain has 0 areas and parts; the
        other measures are NaN.

    Raises:
        ValueError: for a wrong shape, spacing or axis, or priors without positions.
    """
    _check(images, spacing_mm, axis, priors, position)
    pixel = spacing_mm[0] * spacing_mm[1] / 100  # cm^2
    found: list[Measures] = []
    for number, chunk in enumerate(_chunks(images)):
        masks = brain_masks(chunk, threshold)
        prior = None
        if priors is not None and position is not None:
            here = np.asarray(position)[number * CHUNK : number * CHUNK + len(chunk)]
            prior = priors[here].astype(np.float32)
        found.append(
            _brain(chunk, masks, pixel)
            | _tissue(chunk, masks, pixel, tissues, prior)
            | _symmetry(chunk, masks, axis)
        )
    return {
        name: np.concatenate([part[name] for part in found]) if found else np.empty(0)
        for name in UNITS
    }


def brain_masks(images: np.ndarray, threshold: float = DARK) -> NDArray[np.bool_]:
    """The filled outlines of slices that have no mask of their own, such as samples.

    Args:
        images: (N, W, H), float in [0, 1] or uint8.
        threshold: in [0, 1]; what is brighter is brain.

    Returns:
        (N, W, H) bool.
    """
    bright = _as_uint8(images) > round(threshold * 255)
    return np.stack([solid(image) for image in bright]) if len(bright) else bright


def _check(
    images: ImageArray,
    spacing_mm: Sequence[float],
    axis: str,
    priors: np.ndarray | None,
    position: np.ndarray | None,
) -> None:
    if images.ndim != 3:
        raise ValueError(f"images must have the shape (N, W, H), not {images.shape}")
    if len(spacing_mm) != 2 or not min(spacing_mm) > 0:
        raise ValueError(f"spacing must be two sizes above 0 mm, not {tuple(spacing_mm)}")
    if axis not in ("axial", "coronal", "sagittal"):
        raise ValueError(f"axis must be axial, coronal or sagittal, not {axis!r}")
    if (priors is None) != (position is None):
        raise ValueError("give priors and the position of each slice among them, or neither")
    if priors is not None and priors.shape[1:] != (*images.shape[1:], 3):
        raise ValueError(
            f"priors must have the shape (P, {images.shape[1]}, {images.shape[2]}, 3), "
            f"not {priors.shape}"
        )
    if position is not None and len(position) != len(images):
        raise ValueError(f"give a position for each of {len(images)} slices, not {len(position)}")


def _chunks(images: ImageArray) -> Iterator[NDArray[np.uint8]]:
    for start in range(0, len(images), CHUNK):
        yield _as_uint8(images[start : start + CHUNK])


def _as_uint8(images: np.ndarray) -> NDArray[np.uint8]:
    if images.dtype == np.uint8:
        return np.asarray(images)
    return np.asarray((np.clip(images, 0, 1) * 255).round().astype(np.uint8))


def _histograms(images: NDArray[np.uint8], masks: NDArray[np.bool_]) -> Floats:
    """(B, 256) pixels of each intensity inside each mask."""
    values = images + 256 * np.arange(len(images), dtype=np.int64)[:, None, None]
    counts = np.bincount(values[masks], minlength=256 * len(images))
    return counts.reshape(len(images), 256).astype(np.float32)


def _brain(images: NDArray[np.uint8], masks: NDArray[np.bool_], pixel: float) -> Measures:
    """What the outline and the intensities tell without tissues."""
    area = masks.sum(axis=(1, 2))
    counts = _histograms(images, masks).astype(np.float64)
    with np.errstate(invalid="ignore"):
        mean = counts @ LEVELS / area
        square = counts @ LEVELS.astype(np.float64) ** 2 / area
        parts = np.array([_parts(mask, pixel) for mask in masks])
        return {
            "brain_area": area * pixel,
            "parts": parts[:, 0],
            "largest_part": parts[:, 1] / area,
            "intensity_mean": mean,
            "intensity_sd": np.sqrt(np.maximum(square - mean**2, 0)),
        }


def _parts(mask: NDArray[np.bool_], pixel: float) -> tuple[float, float]:
    """The number of connected parts, specks left out, and the pixels of the largest."""
    labels, _ = ndimage.label(mask)
    sizes = np.bincount(labels.ravel())[1:]
    return float((sizes * pixel >= SMALLEST_PART).sum()), float(sizes.max(initial=0))


def _tissue(
    images: NDArray[np.uint8],
    masks: NDArray[np.bool_],
    pixel: float,
    tissues: Tissues,
    prior: np.ndarray | None,
) -> Measures:
    counts, central = _histograms(images, masks), masks & central_part(masks)
    means, sds, shares = _mixture(counts, tissues, PRIOR_PIXELS, iterations=20)
    if prior is None:
        table = _membership(means, sds, shares)  # (B, 3, 256)
        sizes = np.einsum("bti,bi->bt", table, counts)
        fluid = np.einsum("bi,bi->b", table[:, 0], _histograms(images, central))
    else:
        member = _member_pixels(images, _membership(means, sds, np.ones_like(shares)), prior)
        sizes = np.einsum("bwht,bwh->bt", member, masks)
        fluid = np.einsum("bwh,bwh->b", member[..., 0], central)
    area = masks.sum(axis=(1, 2))
    with np.errstate(invalid="ignore"):
        fraction = (sizes / area[:, None]).astype(np.float64)
    pooled = np.sqrt((sds[:, 1] ** 2 + sds[:, 2] ** 2) / 2)
    return {
        "csf_fraction": fraction[:, 0],
        "grey_fraction": fraction[:, 1],
        "white_fraction": fraction[:, 2],
        "ventricle_area": fluid.astype(np.float64) * pixel,
        "contrast": np.where(area > 0, (means[:, 2] - means[:, 1]) / pooled, np.nan),
    }


def _member_pixels(images: NDArray[np.uint8], table: Floats, prior: np.ndarray) -> Floats:
    """(B, W, H, 3) probability of each tissue in each pixel, from its intensity and its place."""
    rows = np.arange(len(images))[:, None, None]
    likelihood = np.stack([table[:, tissue][rows, images] for tissue in range(3)], axis=-1)
    return _normalised(likelihood * np.maximum(prior, np.float32(1e-3)), axis=-1)


def _of_classes(counts: Floats, classes: NDArray[np.integer]) -> Tissues:
    """Mean, standard deviation and share of three ranges of intensity."""
    weights = np.stack([np.where(classes == tissue, counts, 0) for tissue in range(3)])
    sizes = np.maximum(weights.sum(axis=1), 1e-9)
    means = weights @ LEVELS / sizes
    variances = (weights * (LEVELS - means[:, None]) ** 2).sum(axis=1) / sizes
    return Tissues(means, np.sqrt(variances + 1e-4), sizes / sizes.sum())


def _mixture(
    counts: Floats, start: Tissues, prior_pixels: float, iterations: int
) -> tuple[Floats, Floats, Floats]:
    """Fit a mixture to each histogram (B, 256); `start` counts as this number of pixels per tissue.

    Returns:
        Means, standard deviations and shares, each (B, 3).
    """
    mean0, sd0, share0 = (x.astype(np.float32) for x in (start.means, start.sds, start.shares))
    means, sds, shares = (np.tile(x, (len(counts), 1)) for x in (mean0, sd0, share0))
    for _ in range(iterations):
        weights = _membership(means, sds, shares) * counts[:, None]  # (B, 3, 256)
        size = weights.sum(axis=2)
        known = np.maximum(size + prior_pixels, 1e-6)
        means = (weights @ LEVELS + prior_pixels * mean0) / known
        spread = (weights * (LEVELS - means[..., None]) ** 2).sum(axis=2)
        sds = np.sqrt((spread + prior_pixels * (sd0**2 + (mean0 - means) ** 2)) / known + 1e-4)
        shares = _normalised(size + 3 * prior_pixels * share0 + 1e-6, axis=1)
    return means, sds, shares


def _membership(means: Floats, sds: Floats, shares: Floats) -> Floats:
    """(B, 3, 256) probability of each tissue given an intensity.

    Below the mean of grey matter is no white matter and above it no CSF: a wide distribution would
    otherwise claim both tails.
    """
    z = (LEVELS - means[..., None]) / sds[..., None]
    log = -0.5 * z**2 + np.log(shares / sds)[..., None]
    below = means[:, 1, None] > LEVELS
    log[:, 2][below] = -np.inf
    log[:, 0][~below] = -np.inf
    return _normalised(np.exp(log - log.max(axis=1, keepdims=True)), axis=1)


def _normalised(values: Floats, axis: int) -> Floats:
    return np.asarray(values / np.maximum(values.sum(axis=axis, keepdims=True), 1e-30))


def central_part(masks: NDArray[np.bool_], size: float = CENTRE) -> NDArray[np.bool_]:
    """An ellipse in the middle of each brain, with the moments of its outline.

    Args:
        masks: (N, W, H) bool.
        size: its semi-axes as shares of the brain's own.

    Returns:
        (N, W, H) bool; it may reach over the outline.
    """
    terms = []
    for axis in (1, 2):
        centre, sd = _moments(masks, axis)
        reach = size * 2 * np.maximum(sd, 1e-3)  # a filled ellipse has semi-axes of 2 sd
        place = np.arange(masks.shape[axis], dtype=np.float64)
        terms.append(((place - centre[:, None]) / reach[:, None]) ** 2)
    return np.asarray(terms[0][:, :, None] + terms[1][:, None] <= 1)


def _moments(masks: NDArray[np.bool_], axis: int) -> tuple[Floats, Floats]:
    """Mean and standard deviation of the places of each mask along an axis, pixels."""
    place = np.arange(masks.shape[axis], dtype=np.float64)
    profile = masks.sum(axis=3 - axis)
    count = np.maximum(profile.sum(axis=1), 1)
    mean = profile @ place / count
    return mean, np.sqrt(np.maximum(profile @ place**2 / count - mean**2, 0))


def _symmetry(images: NDArray[np.uint8], masks: NDArray[np.bool_], axis: str) -> Measures:
    """Differences of the halves about the middle of the brain; W runs from left to right."""
    if axis == "sagittal":
        return {"asymmetry": np.full(len(images), np.nan)}
    centre, _ = _moments(masks, 1)
    inside = np.where(masks, images, 0).astype(np.float32)
    difference = np.abs(inside - _mirrored(inside, centre)).sum(axis=(1, 2))
    with np.errstate(invalid="ignore"):
        return {"asymmetry": (difference / inside.sum(axis=(1, 2))).astype(np.float64)}


def _mirrored(images: Floats, centre: Floats) -> Floats:
    """Each image mirrored along W about its own centre, to the nearest half pixel."""
    width = images.shape[1]
    source = np.rint(2 * centre).astype(int)[:, None] - np.arange(width)  # (B, W)
    taken = images[np.arange(len(images))[:, None], np.clip(source, 0, width - 1)]
    return np.where(((source >= 0) & (source < width))[..., None], taken, 0)
