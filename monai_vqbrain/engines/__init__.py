"""Ignite trainers and evaluators for both networks."""

from monai_vqbrain.engines.prior import (
    CodeBitsLoss,
    PriorEvaluator,
    PriorTrainer,
    SamplingEngine,
)
from monai_vqbrain.engines.vqvae import VQVAEEvaluator, VQVAELoss, VQVAETrainer

__all__ = [
    "CodeBitsLoss",
    "PriorEvaluator",
    "PriorTrainer",
    "SamplingEngine",
    "VQVAEEvaluator",
    "VQVAELoss",
    "VQVAETrainer",
]
