"""Predictors without a network: the bars that a reconstruction has to clear."""

from __future__ import annotations

import numpy as np

from monai_vqbrain.metrics.images import ImageArray

CHUNK = 256  # slices held as float32 at once


def black(test: np.ndarray) -> np.ndarray:
    """An all-black image for each slice.

    Args:
        test: (N, W, H).

    Returns:
        (N, W, H) float32 zeros.
    """
    return np.zeros(test.shape, dtype=np.float32)


def position_mean(
    test_index: np.ndarray, training: ImageArray, training_index: np.ndarray
) -> np.ndarray:
    """The mean training slice at each test slice's own index (at the closest index that occurs).

    Args:
        test_index: (N,) index of each test slice within its volume.
        training: (M, W, H).
        training_index: (M,) likewise.

    Returns:
        (N, W, H) float32, in the units of `training`.

    Raises:
        ValueError: if there are no training slices.
    """
    indices, means = position_means(training, training_index)
    closest = np.abs(np.asarray(test_index)[:, None] - indices).argmin(axis=1)
    return np.asarray(means[closest])


def position_means(
    training: ImageArray, training_index: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The mean training slice at each index within a volume.

    Args:
        training: (M, W, H).
        training_index: (M,).

    Returns:
        (I,) the indices that occur, ascending; (I, W, H) float32, in the units of `training`.

    Raises:
        ValueError: if there are no training slices.
    """
    _need(training)
    indices, where = np.unique(training_index, return_inverse=True)
    means = [_mean(training, np.flatnonzero(where == i)) for i in range(len(indices))]
    return indices, np.stack(means).astype(np.float32)


def _mean(images: ImageArray, chosen: np.ndarray) -> np.ndarray:
    """The mean of some of (M, W, H) images, (W, H) float64, a chunk of them at a time."""
    parts = [chosen[start : start + CHUNK] for start in range(0, len(chosen), CHUNK)]
    total = sum(images[part].sum(axis=0, dtype=np.float64) for part in parts)
    return np.asarray(total / len(chosen))


def nearest(test: ImageArray, training: ImageArray) -> tuple[np.ndarray, np.ndarray]:
    """For each slice the training slice at the least Euclidean distance.

    Args:
        test: (N, W, H).
        training: (M, W, H), in the same units; may be 8-bit, so that many fit into memory.

    Returns:
        (N,) int64 index into `training`, ties to the first; (N,) float32 root mean square of the
        difference.

    Raises:
        ValueError: if there are no training slices.
    """
    _need(training)
    parts = [_nearest(test[i : i + CHUNK], training) for i in range(0, len(test), CHUNK)]
    parts = parts or [(np.empty(0, np.int64), np.empty(0, np.float32))]
    found, distance = (np.concatenate(column) for column in zip(*parts, strict=True))
    return found, distance


def _nearest(test: np.ndarray, training: ImageArray) -> tuple[np.ndarray, np.ndarray]:
    wanted = test.reshape(len(test), -1).astype(np.float32)
    best = np.full(len(wanted), np.inf, dtype=np.float32)
    found = np.zeros(len(wanted), dtype=np.int64)
    for start in range(0, len(training), CHUNK):
        chunk = training[start : start + CHUNK].reshape(-1, wanted.shape[1]).astype(np.float32)
        # |t - c|^2 without |t|^2, which is the same for every candidate.
        distance = (chunk**2).sum(axis=1) - 2 * (wanted @ chunk.T)
        candidate = distance.argmin(axis=1)
        value = distance[np.arange(len(wanted)), candidate]
        closer = value < best
        best[closer], found[closer] = value[closer], start + candidate[closer]
    pairs = zip(test, training[found], strict=True)
    squared = [((a.astype(np.float32) - b.astype(np.float32)) ** 2).mean() for a, b in pairs]
    return found, np.sqrt(np.array(squared, dtype=np.float32))


def pooling(slices: np.ndarray, factor: int) -> np.ndarray:
    """Each slice as its factor x factor means, enlarged again by cubic splines.

    It keeps as many numbers as a code grid of that factor has codes, each with full precision. The
    enlargement is scipy's default, which stretches the outermost cells to the image's border; one
    that keeps cells in place scores a little higher (docs/protocol.md).

    Args:
        slices: (N, W, H); sides that the factor does not divide are padded and cropped back.
        factor: pixels along each side of a cell, 1 or more.

    Returns:
        (N, W, H) float32.

    Raises:
        ValueError: if the factor is below 1.
    """
    from scipy.ndimage import zoom

    if factor < 1:
        raise ValueError(f"the pooling factor must be 1 or more, not {factor}")
    count, width, height = slices.shape
    padding = ((0, 0), (0, -width % factor), (0, -height % factor))
    padded = np.pad(slices.astype(np.float32), padding, mode="edge")
    cells = padded.reshape(
        count, padded.shape[1] // factor, factor, padded.shape[2] // factor, factor
    ).mean(axis=(2, 4))
    large = [zoom(c, factor, order=3) for c in cells]
    return np.stack(large)[:, :width, :height] if large else np.empty_like(padded)


def _need(training: ImageArray) -> None:
    if len(training) == 0:
        raise ValueError("there are no training slices to predict from")
