"""Normalisation of one volume: brain extraction, registration to MNI152, bias correction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from monai_vqbrain.cohorts import Scan
from monai_vqbrain.errors import UnusableImageError, UsageError
from monai_vqbrain.stages.slicing.brain import (
    MASK_ADVICE,
    WholeHeadError,
    check_brain_volume,
    find_brain,
    require_deepbet,
)
from monai_vqbrain.stages.slicing.normalisation_cache import NormalisationCache, NormalisationResult
from monai_vqbrain.stages.slicing.volume import Volume, read_volume, strip
from monai_vqbrain.transforms.bias import bias_at, log_bias
from monai_vqbrain.transforms.brain_extraction import BY_TEMPLATE, extract_brain
from monai_vqbrain.transforms.brain_slices import NEGATIVE_SHARE
from monai_vqbrain.transforms.registration import KINDS, Registration, register
from monai_vqbrain.transforms.simpleitk import MISSING
from monai_vqbrain.transforms.template import SPACE, brain_in_template_space

ALIGN_ADVICE = (
    "look at the image; align it yourself and use --align none, or leave it out with --exclude"
)
BIAS_ADVICE = "leave out --bias, or this image with --exclude"


@dataclass(frozen=True)
class Normalisation:
    """The normalisation of every volume before it is sliced.

    Args:
        align: registration to MNI152: `none`, `rigid` or `affine`.
        bias: correct the bias field (N4).
        affine: `sform` or `qform` counts where they disagree; `auto`: such an image is refused.
        brain: how to find the brain, see `brain_methods`.
    """

    align: str = "none"
    bias: bool = False
    affine: str = "auto"
    brain: tuple[str, ...] = BY_TEMPLATE

    @property
    def does_nothing(self) -> bool:
        """Whether volumes are left unchanged."""
        return self.align == "none" and not self.bias


@dataclass(frozen=True, eq=False)
class Brain:
    """A normalised brain.

    Args:
        volume: 0 outside the brain; its affine leads to the template's space if it was registered.
        inside: the brain mask, (X, Y, Z) bool.
        mask_source: origin of the mask: `derivative`, `zero-background`, `deepbet` or `template`.
        measures: measures for quality control, see `qc.MEASURES`.
        corrected: its bias field was corrected.
    """

    volume: Volume
    inside: np.ndarray
    mask_source: str
    measures: dict[str, float] = field(default_factory=dict)
    corrected: bool = False


def normalise(
    path: Path,
    normalisation: Normalisation,
    mask_path: Path | None = None,
    space: str = "",
    cache: NormalisationCache | None = None,
) -> Brain:
    """Read a volume, find its brain, register it and correct its bias field.

    Args:
        path: any file that nibabel reads.
        normalisation: which of these steps to do.
        mask_path: a brain mask on the image's grid.
        space: the template space of the image, see Scan.
        cache: stores the estimates, which take long to compute.

    Raises:
        UnusableImageError: as `read_volume` and `find_brain`, or if an estimate fails.
        UsageError: if deepbet is to extract the brain and is not installed.
    """
    volume = read_volume(path, normalisation.affine)
    brain, source = None, normalisation.brain[-1]
    try:
        volume, brain, source = find_brain(
            volume, mask_path, normalisation.affine, normalisation.brain
        )
    except WholeHeadError:  # if a head is registered again, the new registration locates its brain
        if source == "template" and normalisation.align == "none" and space.startswith("MNI"):
            brain = brain_in_template_space(volume.affine, volume.array.shape)
            volume = strip(volume, brain)
    result = NormalisationResult()
    if brain is None or not normalisation.does_nothing:
        result = _estimate_or_read(volume, brain, normalisation, cache)
    return _apply(result, volume, brain, source)


def _estimate_or_read(
    volume: Volume,
    brain: np.ndarray | None,
    normalisation: Normalisation,
    cache: NormalisationCache | None,
) -> NormalisationResult:
    result = cache.read() if cache else None
    if result is None:
        result = _estimate(volume, brain, normalisation)
        if cache is not None:
            cache.write(result, volume.affine)
    return result


def _estimate(
    volume: Volume, brain: np.ndarray | None, normalisation: Normalisation
) -> NormalisationResult:
    place = head = bias = extracted = None
    if brain is None and normalisation.brain[-1] == "deepbet":
        extracted = brain = _extracted_brain(volume)
        volume = strip(volume, brain)
    with _as_unusable(ALIGN_ADVICE):
        if brain is None:
            head = _register_head(volume)
            brain = _template_brain(volume, head)
            volume = strip(volume, brain)
        if normalisation.align == "affine" and head is not None:
            place = head
        elif normalisation.align != "none":
            place = register(volume.array, volume.affine, brain, normalisation.align)
    with _as_unusable(BIAS_ADVICE):
        if normalisation.bias:
            negative = np.count_nonzero(volume.array < 0) / np.count_nonzero(brain)
            if negative > NEGATIVE_SHARE:
                raise ValueError(
                    f"{negative:.0%} of the brain voxels are negative, but bias correction divides"
                )
            bias = log_bias(volume.array, volume.affine, brain)
    return NormalisationResult(place, head, bias, extracted)


def _extracted_brain(volume: Volume) -> np.ndarray:
    require_deepbet("this run finds the brains of whole heads by deepbet")
    with _as_unusable(f"look at the image; {MASK_ADVICE}, or leave it out with --exclude"):
        inside = extract_brain(volume.array, volume.affine)
    check_brain_volume(inside, volume.affine, "the brain that deepbet finds")
    return inside


def _register_head(volume: Volume) -> Registration:
    if find_spec("SimpleITK") is None:
        raise UnusableImageError(
            "a whole head whose brain would be found by registration, which needs SimpleITK",
            "pip install 'monai-vqbrain[strip]' to find it by deepbet, or 'monai-vqbrain[align]'",
        )
    return register(volume.array, volume.affine)


@contextmanager
def _as_unusable(advice: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise UnusableImageError(str(error), advice) from error


def _template_brain(volume: Volume, head: Registration) -> np.ndarray:
    return brain_in_template_space(head.into_template(volume.affine), volume.array.shape)


def _apply(
    result: NormalisationResult, volume: Volume, brain: np.ndarray | None, source: str
) -> Brain:
    if brain is None:
        brain = _brain_of_head(result, volume)
        volume = strip(volume, brain)
    affine = volume.affine
    voxel_mm3 = abs(np.linalg.det(affine[:3, :3]))
    measures = {"brain_ml": float(np.count_nonzero(brain) * voxel_mm3 / 1000)}
    if result.bias is not None:
        flat = volume.array / bias_at(result.bias, affine, volume.array.shape)
        volume = replace(volume, array=np.asarray(flat, dtype=np.float32))
    if result.place is not None:
        volume = replace(volume, affine=result.place.into_template(affine))
        measures["alignment"] = result.place.correlation
    return Brain(volume, brain, source, measures, corrected=result.bias is not None)


def _brain_of_head(result: NormalisationResult, volume: Volume) -> np.ndarray:
    if result.brain is not None:
        return result.brain
    assert result.head is not None  # for the type checker: a whole head was registered
    return _template_brain(volume, result.head)


def common_space(align: str, scans: Sequence[Scan]) -> str:
    """The template space of all volumes when they are sliced; empty if there is none.

    Args:
        align: `none`, `rigid` or `affine`.
        scans: the scans of one cohort.
    """
    if align in KINDS:
        return SPACE
    spaces = {scan.space for scan in scans if scan.form != "pictures"}
    return spaces.pop() if len(spaces) == 1 and all(s.startswith("MNI") for s in spaces) else ""


def require_simpleitk(what: str) -> None:
    """Check that SimpleITK is installed before any work is done.

    Args:
        what: what needs it, for the message.

    Raises:
        UsageError: if it is not installed.
    """
    if find_spec("SimpleITK") is None:
        raise UsageError(f"{what}: {MISSING}")
