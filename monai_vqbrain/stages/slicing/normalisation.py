"""From a file to a brain in a common space: read, masked, registered to MNI152, bias-corrected."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from monai_vqbrain.cohorts import Scan
from monai_vqbrain.errors import UnusableImageError, UsageError
from monai_vqbrain.stages.slicing.normalisation_cache import NormalisationCache, NormalisationResult
from monai_vqbrain.stages.slicing.volume import (
    Volume,
    WholeHeadError,
    find_brain,
    read_volume,
    strip,
)
from monai_vqbrain.transforms.bias import bias_at, log_bias
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
    """What is done to every volume before it is cut.

    Args:
        align: `none`, `rigid` or `affine`.
        bias: correct the bias field.
    """

    align: str = "none"
    bias: bool = False

    @property
    def does_nothing(self) -> bool:
        """Volumes stay as they are."""
        return self.align == "none" and not self.bias


@dataclass(frozen=True, eq=False)
class Brain:
    """A brain in its place.

    Args:
        volume: 0 outside the brain; its affine leads to the template's mm where it was aligned.
        inside: (X, Y, Z) bool.
        mask_source: where that is from: `derivative`, `zero-background` or `template`.
        measures: what tells an odd one, see `qc.MEASURES`.
        corrected: its bias field was taken away.
    """

    volume: Volume
    inside: np.ndarray
    mask_source: str
    measures: dict[str, float] = field(default_factory=dict)
    corrected: bool = False


def normalise(
    path: Path,
    how: Normalisation,
    mask_path: Path | None = None,
    space: str = "",
    notes: NormalisationCache | None = None,
) -> Brain:
    """Read a volume, find its brain, and do to it what is asked.

    Args:
        path: any file that nibabel reads.
        how: what is done.
        mask_path: a mask on the image's grid.
        space: see Scan.
        notes: where findings are kept.

    Raises:
        UnusableImageError: as `read_volume` and `find_brain`; the alignment fails.
        WholeHeadError: of a whole head that is not to be aligned.
    """
    volume = read_volume(path)
    brain, source = None, "template"
    try:  # a head that is aligned anew has its brain where the new map says
        space = space if how.align == "none" else ""
        volume, brain, source = find_brain(volume, mask_path, space)
    except WholeHeadError:
        if how.align == "none":
            raise
    found = NormalisationResult()
    if not how.does_nothing:
        found = (notes.read() if notes else None) or _cached(_estimate(volume, brain, how), notes)
    return _apply(found, volume, brain, source)


def _cached(found: NormalisationResult, notes: NormalisationCache | None) -> NormalisationResult:
    if notes is not None:
        notes.write(found)
    return found


def _estimate(volume: Volume, brain: np.ndarray | None, how: Normalisation) -> NormalisationResult:
    place = head = bias = None
    with _as_unusable(ALIGN_ADVICE):
        if brain is None:
            head = register(volume.array, volume.affine)
            brain = _template_brain(volume, head)
            volume = strip(volume, brain)
        if how.align == "affine" and head is not None:
            place = head
        elif how.align != "none":
            place = register(volume.array, volume.affine, brain, how.align)
    with _as_unusable(BIAS_ADVICE):
        if how.bias:
            below = np.count_nonzero(volume.array < 0) / np.count_nonzero(brain)
            if below > NEGATIVE_SHARE:
                raise ValueError(f"{below:.0%} of its brain are negative: a bias field multiplies")
            bias = log_bias(volume.array, volume.affine, brain)
    return NormalisationResult(place, head, bias)


@contextmanager
def _as_unusable(advice: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise UnusableImageError(str(error), advice) from error


def _template_brain(volume: Volume, head: Registration) -> np.ndarray:
    return brain_in_template_space(head.into_template(volume.affine), volume.array.shape)


def _apply(
    found: NormalisationResult, volume: Volume, brain: np.ndarray | None, source: str
) -> Brain:
    if brain is None:
        assert found.head is not None  # for the type checker: a whole head was registered
        brain = _template_brain(volume, found.head)
        volume = strip(volume, brain)
    own = volume.affine
    measures = {"brain_ml": float(np.count_nonzero(brain) * abs(np.linalg.det(own[:3, :3])) / 1000)}
    if found.bias is not None:
        flat = volume.array / bias_at(found.bias, own, volume.array.shape)
        volume = replace(volume, array=np.asarray(flat, dtype=np.float32))
    if found.place is not None:
        volume = replace(volume, affine=found.place.into_template(own))
        measures["alignment"] = found.place.correlation
    return Brain(volume, brain, source, measures, corrected=found.bias is not None)


def common_space(align: str, scans: Sequence[Scan]) -> str:
    """The template space that all volumes are in when they are cut; empty if there is none.

    Args:
        align: `none`, `rigid` or `affine`.
        scans: of one cohort.
    """
    if align in KINDS:
        return SPACE
    spaces = {scan.space for scan in scans if scan.form != "pictures"}
    return spaces.pop() if len(spaces) == 1 and all(s.startswith("MNI") for s in spaces) else ""


def require_simpleitk(what: str) -> None:
    """Say in time that SimpleITK is missing.

    Raises:
        UsageError: it is not installed.
    """
    if find_spec("SimpleITK") is None:
        raise UsageError(f"{what}: {MISSING}")
