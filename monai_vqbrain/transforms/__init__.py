"""MONAI transforms: brain mask, intensity, volume -> slices and back, one slice, crops."""

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
    "BrainMask",
    "BrainMaskd",
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
