"""The scores of a reconstruction."""

from __future__ import annotations

import torch

from monai_vqbrain.metrics.psnr import psnr_brain
from monai_vqbrain.metrics.ssim import MS_SSIM_SIDE, ms_ssim_whole, ssim_brain, ssim_whole

SCORES = ("ssim_brain", "ssim_whole", "psnr_brain", "psnr_whole")


def slice_scores(
    prediction: torch.Tensor, target: torch.Tensor, mask: torch.Tensor
) -> dict[str, torch.Tensor]:
    """SSIM and PSNR (dB) in the brain and of the whole image, of each slice.

    Args:
        prediction: (B, 1, W, H) in [0, 1].
        target: (B, 1, W, H) in [0, 1].
        mask: (B, 1, W, H) bool, the brain in the target.

    Returns:
        A name of `SCORES` -> (B,); the in-brain ones NaN where the mask is empty. Images of at
        least 176 x 176 pixels also have `ms_ssim_whole`.
    """
    scores = {
        "ssim_brain": ssim_brain(prediction, target, mask),
        "ssim_whole": ssim_whole(prediction, target),
        "psnr_brain": psnr_brain(prediction, target, mask),
        "psnr_whole": psnr_brain(prediction, target, torch.ones_like(mask)),
    }
    if min(target.shape[2:]) >= MS_SSIM_SIDE:
        scores["ms_ssim_whole"] = ms_ssim_whole(prediction, target)
    return scores
