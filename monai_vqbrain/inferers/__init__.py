"""Samplers and likelihoods: a trained prior in, codes or bits out."""

from __future__ import annotations

from monai_vqbrain.inferers.cached_logits import CachedLogits
from monai_vqbrain.inferers.likelihood import code_bits
from monai_vqbrain.inferers.sampling import AncestralSampler, PlainSampler

__all__ = ["AncestralSampler", "CachedLogits", "PlainSampler", "code_bits"]
