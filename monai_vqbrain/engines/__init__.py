"""Ignite trainers and evaluators for both networks."""

from monai_vqbrain.engines.muon import MuonAdamW
from monai_vqbrain.engines.prior import (
    CodeBitsLoss,
    PriorBatch,
    PriorEvaluator,
    PriorTrainer,
    SamplingEngine,
)
from monai_vqbrain.engines.shares import ShareOfBatch
from monai_vqbrain.engines.vqvae import VQVAEEvaluator, VQVAETrainer

__all__ = [
    "CodeBitsLoss",
    "MuonAdamW",
    "PriorBatch",
    "PriorEvaluator",
    "PriorTrainer",
    "SamplingEngine",
    "ShareOfBatch",
    "VQVAEEvaluator",
    "VQVAETrainer",
]
