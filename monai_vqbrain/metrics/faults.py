"""Faulty sets of images with a known fault, to test measures of image sets with.

Every function takes (N, W, H) images, float in [0, 1] or uint8, and returns a changed copy of the
same shape and type. `share` of the images, drawn by `seed`, get the fault; the rest are unchanged.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

Change = Callable[[NDArray[np.float32], np.random.Generator], np.ndarray]


def mode_collapse(
    images: np.ndarray, kept: int = 4, seed: int = 0, positions: ArrayLike | None = None
) -> np.ndarray:
    """Few images, repeated: every image becomes one of `kept` images of the set.

    Args:
        images: (N, W, H).
        kept: how many different images are left.
        seed: which ones are.
        positions: (N,) slice positions. The images that are left are then spread over them, and
            each image becomes the one nearest in position, so that anatomy stays where it was.

    Raises:
        ValueError: if `kept` is not 1 to N.
    """
    if not 1 <= kept <= len(images):
        raise ValueError(f"kept must be 1 to {len(images)} images, not {kept}")
    rng = np.random.default_rng(seed)
    if positions is None:
        left = rng.choice(len(images), kept, replace=False)
        return np.asarray(images[left[rng.integers(kept, size=len(images))]])
    place = np.asarray(positions, float)
    order = np.lexsort((rng.random(len(images)), place))  # ties in random order
    left = np.array([rng.choice(group) for group in np.array_split(order, kept)])
    nearest = np.abs(place[:, None] - place[left]).argmin(axis=1)
    return np.asarray(images[left[nearest]])


def copies(
    images: np.ndarray,
    training: np.ndarray,
    share: float = 1.0,
    seed: int = 0,
    positions: tuple[ArrayLike, ArrayLike] | None = None,
) -> np.ndarray:
    """Training images in place of samples.

    Args:
        images: (N, W, H).
        training: (M, W, H), of the same type.
        share: of the images that become copies.
        seed: which ones do, and of what.
        positions: (N,) and (M,) slice positions: a copy is then of a training image at the
            nearest position.

    Raises:
        ValueError: if shapes or types differ.
    """
    if images.shape[1:] != training.shape[1:] or images.dtype != training.dtype:
        raise ValueError(
            "images and training must have the same size and type, "
            f"not {images.shape[1:]} {images.dtype} and {training.shape[1:]} {training.dtype}"
        )
    rng, result = np.random.default_rng(seed), images.copy()
    for number in _chosen(len(images), share, rng):
        candidates = np.arange(len(training))
        if positions is not None:
            distance = np.abs(np.asarray(positions[1], float) - np.asarray(positions[0])[number])
            candidates = np.flatnonzero(distance == distance.min())
        result[number] = training[rng.choice(candidates)]
    return result


def blur(images: np.ndarray, sigma: float = 1.0, share: float = 1.0, seed: int = 0) -> np.ndarray:
    """Smoothed images: a Gaussian of `sigma` pixels."""
    return _change(images, share, seed, lambda image, _: ndimage.gaussian_filter(image, sigma))


def wrong_contrast(
    images: np.ndarray, gamma: float = 0.7, share: float = 1.0, seed: int = 0
) -> np.ndarray:
    """Intensities to the power of `gamma`; 0 and 1 stay."""
    return _change(images, share, seed, lambda image, _: image**gamma)


def missing_parts(
    images: np.ndarray, degrees: float = 40.0, share: float = 1.0, seed: int = 0
) -> np.ndarray:
    """A wedge of `degrees`, from the middle of what is not black to the border, is set to 0."""

    def cut(image: NDArray[np.float32], rng: np.random.Generator) -> np.ndarray:
        centre = np.argwhere(image > 0).mean(axis=0) if image.any() else np.zeros(2)
        w, h = np.indices(image.shape) - centre[:, None, None]
        angle = (np.degrees(np.arctan2(h, w)) - rng.uniform(0, 360)) % 360
        return np.where(angle < degrees, 0, image)

    return _change(images, share, seed, cut)


def flips(images: np.ndarray, share: float = 0.5, seed: int = 0) -> np.ndarray:
    """Images mirrored along W, left to right in axial and coronal slices."""
    return _change(images, share, seed, lambda image, _: image[::-1])


def noise(images: np.ndarray, sd: float = 0.05, share: float = 1.0, seed: int = 0) -> np.ndarray:
    """Normal noise of `sd` (in [0, 1]) where an image is not black, clipped to [0, 1]."""

    def add(image: NDArray[np.float32], rng: np.random.Generator) -> np.ndarray:
        return np.where(image > 0, image + sd * rng.standard_normal(image.shape), 0)

    return _change(images, share, seed, add)


def _change(images: np.ndarray, share: float, seed: int, change: Change) -> np.ndarray:
    rng, result = np.random.default_rng(seed), images.copy()
    scale = 255 if images.dtype == np.uint8 else 1
    for number in _chosen(len(images), share, rng):
        changed = np.clip(change(images[number].astype(np.float32) / scale, rng), 0, 1) * scale
        result[number] = changed.round() if scale == 255 else changed
    return result


def _chosen(count: int, share: float, rng: np.random.Generator) -> NDArray[np.integer]:
    if not 0 <= share <= 1:
        raise ValueError(f"share must be 0 to 1, not {share}")
    return np.sort(rng.choice(count, round(share * count), replace=False))
