"""Samplers and likelihoods: a trained prior in, codes or bits out."""

from __future__ import annotations

from monai_vqbrain.inferers.cached_logits import CachedLogits
from monai_vqbrain.inferers.likelihood import code_bits
from monai_vqbrain.inferers.pixelcnn import PixelCNNInferer
from monai_vqbrain.inferers.precision import MixedPrecisionInferer, computes_in_bfloat16
from monai_vqbrain.inferers.sampling import AncestralSampler, PlainSampler
from monai_vqbrain.inferers.volume import VolumeSampler
from monai_vqbrain.inferers.vqvae import VQVAEInferer

__all__ = [
    "AncestralSampler",
    "CachedLogits",
    "MixedPrecisionInferer",
    "PixelCNNInferer",
    "PlainSampler",
    "VQVAEInferer",
    "VolumeSampler",
    "code_bits",
    "computes_in_bfloat16",
]
