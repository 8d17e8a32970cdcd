"""MONAI transforms: alignment, bias, mask, intensity, slices of volumes and back, crops."""

from monai_vqbrain.transforms.align import AlignToTemplate, AlignToTemplated
from monai_vqbrain.transforms.bias import CorrectBias, CorrectBiasd
from monai_vqbrain.transforms.crop import RandBrainCrop, RandBrainCropd
from monai_vqbrain.transforms.extent import brain_extent
from monai_vqbrain.transforms.grid import SliceGrid, sample_onto, slice_grid
from monai_vqbrain.transforms.intensity import (
    ScaleBrainIntensity,
    ScaleBrainIntensityd,
    brain_percentile,
)
from monai_vqbrain.transforms.load import LoadSliced
from monai_vqbrain.transforms.mask import BrainMask, BrainMaskd, solid
from monai_vqbrain.transforms.slices import ExtractSlices, SliceStack
from monai_vqbrain.transforms.slices_dict import ExtractSlicesd
from monai_vqbrain.transforms.view import ViewSliced

__all__ = [
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
    "brain_extent",
    "brain_percentile",
    "sample_onto",
    "slice_grid",
    "solid",
]
