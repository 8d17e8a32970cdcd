"""Peak signal-to-noise ratio inside the brain."""

from __future__ import annotations

import torch
from torch import Tensor

from monai_vqbrain.metrics.ssim import mean_inside


def psnr_brain(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """The PSNR over each target's brain mask, peak 1.

    Args:
        prediction: (B, 1, W, H), clipped to [0, 1].
        target: (B, 1, W, H), in [0, 1].
        mask: (B, 1, W, H), true inside the brain of the target.

    Returns:
        (B,) float32, dB; infinite where both are equal, NaN where a mask is empty.

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> target = torch.full((1, 1, 8, 8), 0.5)
        >>> psnr_brain(target + 0.1, target, target > 0).round()
        tensor([20.])
    """
    if prediction.shape != target.shape:
        raise ValueError(
            "prediction and target must have the same shape, "
            f"not {tuple(prediction.shape)} and {tuple(target.shape)}"
        )
    squared = (prediction.float().clamp(0, 1) - target.float()) ** 2
    return -10 * torch.log10(mean_inside(squared, mask))
