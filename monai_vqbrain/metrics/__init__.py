"""Fidelity, codebook use and likelihood: arrays in, numbers out."""

from monai_vqbrain.metrics.bits import Unigram
from monai_vqbrain.metrics.codebook import code_counts, codes_used, perplexity
from monai_vqbrain.metrics.fidelity import SCORES, slice_scores
from monai_vqbrain.metrics.participants import MeanInterval, over_participants
from monai_vqbrain.metrics.psnr import psnr_brain
from monai_vqbrain.metrics.ssim import mean_inside, ssim_brain, ssim_map, ssim_whole
from monai_vqbrain.metrics.trivial import (
    black,
    nearest,
    pooling,
    position_mean,
    position_means,
)

__all__ = [
    "SCORES",
    "MeanInterval",
    "Unigram",
    "black",
    "code_counts",
    "codes_used",
    "mean_inside",
    "nearest",
    "over_participants",
    "perplexity",
    "pooling",
    "position_mean",
    "position_means",
    "psnr_brain",
    "slice_scores",
    "ssim_brain",
    "ssim_map",
    "ssim_whole",
]
