"""Ignite handlers and metrics for training, evaluation and encoding."""

from monai_vqbrain.handlers.adversary import TrainDiscriminator
from monai_vqbrain.handlers.bits import BitsPerCode
from monai_vqbrain.handlers.budget import TrainingBudget
from monai_vqbrain.handlers.callbacks import EngineCallbacks
from monai_vqbrain.handlers.checkpoint import ResumableCheckpoint, SeedEpochs, StopWithoutProgress
from monai_vqbrain.handlers.codebook import CodebookPerplexity, CodesRedrawn, CodesUsed
from monai_vqbrain.handlers.engine_progress import EngineProgress
from monai_vqbrain.handlers.late_parts import LateParts
from monai_vqbrain.handlers.late_strength import LateStrength
from monai_vqbrain.handlers.metrics_table import MetricsTable, loss_values
from monai_vqbrain.handlers.outputs import CodeBits, CollectCodes, ImagePanel, SliceScores
from monai_vqbrain.handlers.samples import SampleFiles
from monai_vqbrain.handlers.signals import StopOnSignal
from monai_vqbrain.handlers.ssim import BrainPSNR, BrainSSIM, ParticipantMean, WholeSSIM
from monai_vqbrain.handlers.track import MLflowRun

__all__ = [
    "BitsPerCode",
    "BrainPSNR",
    "BrainSSIM",
    "CodeBits",
    "CodebookPerplexity",
    "CodesRedrawn",
    "CodesUsed",
    "CollectCodes",
    "EngineCallbacks",
    "EngineProgress",
    "ImagePanel",
    "LateParts",
    "LateStrength",
    "MLflowRun",
    "MetricsTable",
    "ParticipantMean",
    "ResumableCheckpoint",
    "SampleFiles",
    "SeedEpochs",
    "SliceScores",
    "StopOnSignal",
    "StopWithoutProgress",
    "TrainDiscriminator",
    "TrainingBudget",
    "WholeSSIM",
    "loss_values",
]
