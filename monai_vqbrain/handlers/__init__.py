"""Ignite handlers and metrics for training, evaluation and encoding."""

from monai_vqbrain.handlers.adversary import TrainDiscriminator
from monai_vqbrain.handlers.average import WeightAverage
from monai_vqbrain.handlers.bits import BitsPerCode
from monai_vqbrain.handlers.budget import BatchBar, TrainingBudget
from monai_vqbrain.handlers.checkpoint import ResumableCheckpoint, SeedEpochs, StopWithoutProgress
from monai_vqbrain.handlers.clip import ClipGradients
from monai_vqbrain.handlers.codebook import CodebookPerplexity, CodesRedrawn, CodesUsed
from monai_vqbrain.handlers.outputs import CodeBits, CollectCodes, ImagePanel, SliceScores
from monai_vqbrain.handlers.record import MetricsTable, RunRecord, loss_values
from monai_vqbrain.handlers.samples import SampleFiles
from monai_vqbrain.handlers.ssim import BrainPSNR, BrainSSIM, ParticipantMean, WholeSSIM
from monai_vqbrain.handlers.track import MLflowRun

__all__ = [
    "BatchBar",
    "BitsPerCode",
    "BrainPSNR",
    "BrainSSIM",
    "ClipGradients",
    "CodeBits",
    "CodebookPerplexity",
    "CodesRedrawn",
    "CodesUsed",
    "CollectCodes",
    "ImagePanel",
    "MLflowRun",
    "MetricsTable",
    "ParticipantMean",
    "ResumableCheckpoint",
    "RunRecord",
    "SampleFiles",
    "SeedEpochs",
    "SliceScores",
    "StopWithoutProgress",
    "TrainDiscriminator",
    "TrainingBudget",
    "WeightAverage",
    "WholeSSIM",
    "loss_values",
]
