"""From T1-weighted brain MRI to new brain slices: a VQ-VAE and a PixelCNN prior on MONAI.

The public classes come from here by need (`from monai_vqbrain import BrainVQVAE`), so that neither
`import monai_vqbrain` nor the command line's help waits for torch and MONAI. Functions are imported
from the part that they belong to (`from monai_vqbrain.metrics import ssim_brain`).
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# The classes of `monai_vqbrain.components`, written down because importing it takes seconds.
_CLASSES: dict[str, tuple[str, ...]] = {
    "engines": (
        "CodeBitsLoss",
        "PriorBatch",
        "PriorEvaluator",
        "PriorTrainer",
        "SamplingEngine",
        "VQVAEEvaluator",
        "VQVAETrainer",
    ),
    "handlers": (
        "BitsPerCode",
        "BrainPSNR",
        "BrainSSIM",
        "CodeBits",
        "CodebookPerplexity",
        "CodesRedrawn",
        "CodesUsed",
        "CollectCodes",
        "EngineCallbacks",
        "ImagePanel",
        "MLflowRun",
        "MetricsTable",
        "ParticipantMean",
        "ResumableCheckpoint",
        "SampleFiles",
        "SeedEpochs",
        "SliceScores",
        "StopWithoutProgress",
        "TrainDiscriminator",
        "TrainingBudget",
        "WholeSSIM",
    ),
    "inferers": (
        "AncestralSampler",
        "CachedLogits",
        "CachedTransformer",
        "CachedTransformerInferer",
        "MixedPrecisionInferer",
        "PlainSampler",
        "VolumeSampler",
    ),
    "losses": (
        "FeatureLoss",
        "PatchAdversary",
        "SliceSSIMLoss",
        "VQVAELoss",
    ),
    "networks": (
        "BrainVQVAE",
        "CodebookQuantizer",
        "PixelCNN",
        "ScalarQuantizer",
    ),
    "transforms": (
        "AlignToTemplate",
        "AlignToTemplated",
        "BrainMask",
        "BrainMaskd",
        "CorrectBias",
        "CorrectBiasd",
        "ExtractSlices",
        "ExtractSlicesd",
        "LoadSliced",
        "RandBrainCrop",
        "RandBrainCropd",
        "ScaleBrainIntensity",
        "ScaleBrainIntensityd",
        "SliceGrid",
        "SliceStack",
        "ViewSliced",
    ),
}
_HOME = {name: part for part, names in _CLASSES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME)]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    """The class of this name, its module imported now."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    """What `monai_vqbrain.<tab>` offers."""
    return __all__
