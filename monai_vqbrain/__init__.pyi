# The public names: read by type checkers, and by lazy_loader when one is first used.
from .engines import (
    CodeBitsLoss as CodeBitsLoss,
    MuonAdamW as MuonAdamW,
    PriorBatch as PriorBatch,
    PriorEvaluator as PriorEvaluator,
    PriorTrainer as PriorTrainer,
    SamplingEngine as SamplingEngine,
    ShareOfBatch as ShareOfBatch,
    VQVAEEvaluator as VQVAEEvaluator,
    VQVAETrainer as VQVAETrainer,
)
from .handlers import (
    BitsPerCode as BitsPerCode,
    BrainPSNR as BrainPSNR,
    BrainSSIM as BrainSSIM,
    CodeBits as CodeBits,
    CodebookPerplexity as CodebookPerplexity,
    CodesRedrawn as CodesRedrawn,
    CodesUsed as CodesUsed,
    CollectCodes as CollectCodes,
    EngineCallbacks as EngineCallbacks,
    EngineProgress as EngineProgress,
    ImagePanel as ImagePanel,
    LateParts as LateParts,
    LateStrength as LateStrength,
    MetricsTable as MetricsTable,
    MLflowRun as MLflowRun,
    ParticipantMean as ParticipantMean,
    ResumableCheckpoint as ResumableCheckpoint,
    SampleFiles as SampleFiles,
    SeedEpochs as SeedEpochs,
    SliceScores as SliceScores,
    StopOnSignal as StopOnSignal,
    StopWithoutProgress as StopWithoutProgress,
    TrainDiscriminator as TrainDiscriminator,
    TrainingBudget as TrainingBudget,
    WholeSSIM as WholeSSIM,
)
from .inferers import (
    AncestralSampler as AncestralSampler,
    CachedLogits as CachedLogits,
    MixedPrecisionInferer as MixedPrecisionInferer,
    PixelCNNInferer as PixelCNNInferer,
    PlainSampler as PlainSampler,
    VolumeSampler as VolumeSampler,
    VQVAEInferer as VQVAEInferer,
)
from .interop import (
    CachedTransformer as CachedTransformer,
    CachedTransformerInferer as CachedTransformerInferer,
)
from .losses import (
    FeatureLoss as FeatureLoss,
    PatchAdversary as PatchAdversary,
    SliceSSIMLoss as SliceSSIMLoss,
    VQVAELoss as VQVAELoss,
)
from .networks import (
    BrainVQVAE as BrainVQVAE,
    CodebookQuantizer as CodebookQuantizer,
    PixelCNN as PixelCNN,
    ScalarQuantizer as ScalarQuantizer,
)
from .stages.bundle import (
    export_bundle as export_bundle,
    list_bundles as list_bundles,
    verify_bundle as verify_bundle,
)
from .stages.check import check as check
from .stages.config import copy_config as copy_config, list_configs as list_configs
from .stages.demo import demo as demo
from .stages.encode import encode as encode
from .stages.evaluate import evaluate as evaluate, evaluate_images as evaluate_images
from .stages.prepare import prepare as prepare
from .stages.reconstruct import reconstruct as reconstruct
from .stages.report import report as report
from .stages.run import run_pipeline as run_pipeline
from .stages.sample import sample as sample
from .stages.score import score as score
from .stages.train import train_prior as train_prior, train_vqvae as train_vqvae
from .transforms import (
    AlignToTemplate as AlignToTemplate,
    AlignToTemplated as AlignToTemplated,
    BrainMask as BrainMask,
    BrainMaskd as BrainMaskd,
    CorrectBias as CorrectBias,
    CorrectBiasd as CorrectBiasd,
    ExtractSlices as ExtractSlices,
    ExtractSlicesd as ExtractSlicesd,
    LoadSliced as LoadSliced,
    RandBrainCrop as RandBrainCrop,
    RandBrainCropd as RandBrainCropd,
    ScaleBrainIntensity as ScaleBrainIntensity,
    ScaleBrainIntensityd as ScaleBrainIntensityd,
    SliceGrid as SliceGrid,
    SliceStack as SliceStack,
    ViewSliced as ViewSliced,
)

__version__: str
