"""Structural similarity: inside the brain, and over the whole image."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

SIGMA = 1.5  # pixels
RADIUS = 5  # 11 pixels wide, as scipy truncates 3.5 sigma
C1 = 0.01**2  # data range 1
C2 = 0.03**2
MS_SSIM_SIDE = 176  # pixels: an 11-pixel window must fit into the coarsest of MONAI's five scales


def ssim_map(prediction: Tensor, target: Tensor) -> Tensor:
    """The SSIM of every pixel: Gaussian window, population covariance, data range 1.

    At the border the image is mirrored, the edge pixel included, so that the map has the image's
    size. Computed in float32, also under autocast; in float64 for images in float64.

    Args:
        prediction: (B, 1, W, H), clipped to [0, 1].
        target: (B, 1, W, H), in [0, 1].

    Returns:
        (B, 1, W, H), at most 1.

    Raises:
        ValueError: if the shapes differ or are not (B, 1, W, H).

    Source:
        Wang et al., Image quality assessment: from error visibility to structural similarity, 2004.
        Equal to scikit-image's `structural_similarity(gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, data_range=1, full=True)`.

    Example:
        >>> ssim_map(torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 16, 16)).mean()
        tensor(1.)
    """
    with torch.no_grad():
        return similarity(prediction.clamp(0, 1), target)


def similarity(x: Tensor, y: Tensor, stride: int = 1) -> Tensor:
    """The SSIM of every `stride`-th pixel in both directions, with gradients; see ssim_map.

    Args:
        x: (B, 1, W, H), not clipped.
        y: (B, 1, W, H), in [0, 1].
        stride: distance of the pixels whose SSIM is made.

    Returns:
        (B, 1, ceil(W / stride), ceil(H / stride)), at most 1, in float64 for images in float64,
        else in float32.

    Raises:
        ValueError: if the shapes differ or are not (B, 1, W, H).
    """
    _check(x, y)
    with torch.autocast(y.device.type, enabled=False):
        x, y = (t if t.dtype == torch.float64 else t.float() for t in (x, y))
        mean_y = _blur(y, stride)  # apart, for a target needs no gradient
        sums = _blur(torch.cat([x, x * x + y * y, x * y], 1), stride)
        mean_x, squares, product = sums.split(1, 1)
        mean_xy, mean_squares = mean_x * mean_y, mean_x**2 + mean_y**2
        above = (2 * mean_xy + C1) * (2 * (product - mean_xy) + C2)
        below = (mean_squares + C1) * (squares - mean_squares + C2)
        return above / below


def ssim_brain(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """The mean SSIM over each target's brain mask.

    Args:
        prediction: (B, 1, W, H), clipped to [0, 1].
        target: (B, 1, W, H), in [0, 1].
        mask: (B, 1, W, H), true inside the brain of the target, never of the prediction.

    Returns:
        (B,) float32; NaN where a mask is empty.

    Raises:
        ValueError: if the shapes differ or are not (B, 1, W, H).

    Example:
        >>> image = torch.full((1, 1, 16, 16), 0.5)
        >>> ssim_brain(image, image, image > 0)
        tensor([1.])
    """
    return mean_inside(ssim_map(prediction, target), mask)


def ssim_whole(prediction: Tensor, target: Tensor) -> Tensor:
    """The mean SSIM over each whole image, the background and the border included.

    Background inflates it (an all-black image scores about 0.6 on skull-stripped slices): report it
    only together with `ssim_brain`.

    Args:
        prediction: (B, 1, W, H), clipped to [0, 1].
        target: (B, 1, W, H), in [0, 1].

    Returns:
        (B,) float32.

    Raises:
        ValueError: if the shapes differ or are not (B, 1, W, H).
    """
    return ssim_map(prediction, target).mean(dim=(1, 2, 3))


def ms_ssim_whole(prediction: Tensor, target: Tensor) -> Tensor:
    """Multi-scale SSIM over each whole image, at five scales, by MONAI.

    Args:
        prediction: (B, 1, W, H), clipped to [0, 1].
        target: (B, 1, W, H), in [0, 1]; both sides at least `MS_SSIM_SIDE` pixels.

    Returns:
        (B,) float32.

    Raises:
        ValueError: if the shapes differ or are not (B, 1, W, H), or the images are too small.

    Source:
        Wang et al., Multiscale structural similarity for image quality assessment, 2003.
    """
    from monai.metrics.regression import compute_ms_ssim  # seconds to import

    _check(prediction, target)
    values = compute_ms_ssim(prediction.float().clamp(0, 1), target.float(), 2, data_range=1.0)
    return values.flatten()


def mean_inside(values: Tensor, mask: Tensor) -> Tensor:
    """The mean of (B, 1, W, H) values over each mask, (B,); NaN for an empty mask."""
    if mask.shape != values.shape:
        raise ValueError(
            f"the mask must have the images' shape {tuple(values.shape)}, not {tuple(mask.shape)}"
        )
    inside = mask.to(values.dtype)
    return (values * inside).sum(dim=(1, 2, 3)) / inside.sum(dim=(1, 2, 3))


def _check(prediction: Tensor, target: Tensor) -> None:
    if prediction.shape != target.shape or target.ndim != 4 or target.shape[1] != 1:
        raise ValueError(
            "prediction and target must both be (B, 1, W, H), "
            f"not {tuple(prediction.shape)} and {tuple(target.shape)}"
        )


def _blur(images: Tensor, stride: int) -> Tensor:
    """Gaussian mean around every `stride`-th pixel of (B, C, W, H).

    Two small dense products beat a one-channel convolution at the sizes of brain slices, and hold
    the mirrored border as well.
    """
    width, height = images.shape[2:]
    rows = _blur_matrix(width, images.device)[::stride].to(images.dtype)
    columns = _blur_matrix(height, images.device)[::stride].to(images.dtype)
    return rows @ images @ columns.T


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # a cached one must serve gradients too
def _blur_matrix(size: int, device: torch.device) -> Tensor:
    """(size, size) float32: row i holds the Gaussian's weights around pixel i, mirrored inside."""
    offsets = torch.arange(-RADIUS, RADIUS + 1)
    weights = torch.exp(-0.5 * (offsets.double() / SIGMA) ** 2)
    weights /= weights.sum()
    centres = torch.arange(size).unsqueeze(1)
    mirrored = (centres + offsets) % (2 * size)
    columns = torch.minimum(mirrored, 2 * size - 1 - mirrored)
    matrix = torch.zeros(size, size, dtype=torch.float64)
    matrix.scatter_add_(1, columns, weights.expand(size, -1).clone())
    return matrix.float().to(device)
