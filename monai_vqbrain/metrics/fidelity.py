"""The three scores of a reconstruction."""

from __future__ import annotations

import torch

from monai_vqbrain.metrics.psnr import psnr_brain
from monai_vqbrain.metrics.ssim import ssim_brain, ssim_whole

SCORES = ("ssim_brain", "ssim_whole", "psnr_brain")


def slice_scores(
    prediction: torch.Tensor, target: torch.Tensor, mask: torch.Tensor
) -> dict[str, torch.Tensor]:
    """SSIM in the brain and of the whole image, and PSNR in the brain (dB), of each slice.

    Args:
        prediction: (B, 1, W, H) in [0, 1].
        target: (B, 1, W, H) in [0, 1].
        mask: (B, 1, W, H) bool, the brain in the target.

    Returns:
        A name of `SCORES` -> (B,); the in-brain ones NaN where the mask is empty.
    """
    return {
        "ssim_brain": ssim_brain(prediction, target, mask),
        "ssim_whole": ssim_whole(prediction, target),
        "psnr_brain": psnr_brain(prediction, target, mask),
    }
