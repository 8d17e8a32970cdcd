"""Finding the brain of a volume: by a mask file, a zero background, deepbet or the template."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from monai_vqbrain.errors import UnusableImageError, UsageError
from monai_vqbrain.stages.slicing.volume import Volume, read_volume, strip
from monai_vqbrain.transforms.brain_extraction import BY_TEMPLATE, MISSING, is_installed
from monai_vqbrain.transforms.input_image import ZERO_SHARE

LOST = (
    "have the template's brain mask, which cuts off 13 to 16 % of the brain (outer cortex) and in "
    "atrophied brains contains CSF and meninges"
)
MIN_BRAIN_ML = 200  # less foreground is no brain (a newborn's brain has 350 ml)
MAX_BRAIN_ML = 2500  # more foreground is a whole head (brains with CSF have 900 to 2000 ml)
EQUAL_NEIGHBOURS = 0.7  # of the voxels: 0.03 to 0.11 in T1 images, 0.8 to 1 in label maps
GRID_TOLERANCE = 1e-2  # affines that differ by less count as one grid
MASK_ADVICE = "put a mask *_desc-brain_mask.nii.gz into derivatives or beside the image"


class WholeHeadError(UnusableImageError):
    """A whole head without a brain mask: its brain has to be extracted."""


def require_deepbet(what: str) -> None:
    """Check that deepbet is installed.

    Args:
        what: what needs it, for the message.

    Raises:
        UsageError: if it is not installed.
    """
    if not is_installed():
        raise UsageError(f"{what}: {MISSING}")


def find_brain(
    volume: Volume,
    mask_path: Path | None,
    affine: str = "auto",
    methods: Sequence[str] = BY_TEMPLATE,
) -> tuple[Volume, np.ndarray, str]:
    """Find the brain of a volume by a mask file or a zero background, without guessing a threshold.

    A mask file is cut at half of its maximum. Without one, the background must be exactly 0, in all
    eight corners and in a tenth of the voxels. Either must have the volume of a brain, 0.2 to 2.5
    litres.

    Args:
        volume: the image.
        mask_path: a mask on the image's grid, above half of its maximum in the brain.
        affine: which affine of the mask's header counts, see `affine_of_header`.
        methods: those that may be used, see `brain_methods`.

    Returns:
        The volume, 0 outside the brain; the brain mask, (X, Y, Z) bool; the origin of the mask,
        `derivative` or `zero-background`.

    Raises:
        UnusableImageError: if the image is a label map, the mask does not fit the image, there is
            no brain, or no further method is left.
        WholeHeadError: if the brain has to be extracted by a further method.
    """
    if "given" in methods and mask_path is not None:
        _refuse_labels(volume.array)
        inside = _read_mask(volume, mask_path, affine)
        return strip(volume, inside), inside, "derivative"
    if methods[-1] == "given":
        raise UnusableImageError("has no brain mask", f"{MASK_ADVICE}, or use --brain auto")
    if "zero" not in methods:
        _refuse_constant(volume.array)
        _refuse_labels(volume.array)
        raise WholeHeadError("its brain has to be extracted", "use --brain auto")
    brain = volume.array != 0
    litres = _litres(brain, volume.affine)
    reason = _why_not_stripped(brain, litres)
    if reason is None and litres >= MIN_BRAIN_ML / 1000:
        _refuse_labels(volume.array)
        return volume, brain, "zero-background"
    _refuse_constant(volume.array)
    if reason is None:
        raise UnusableImageError(
            f"no brain found: only {1000 * litres:.0f} ml are not 0", "look at the image"
        )
    if methods[-1] == "zero":
        raise UnusableImageError(
            f"not skull-stripped ({reason})", "skull-strip it, or use --brain auto"
        )
    _refuse_labels(volume.array)
    raise WholeHeadError(
        f"not skull-stripped ({reason}) and without a brain mask",
        f"skull-strip it, or {MASK_ADVICE}",
    )


def check_brain_volume(inside: np.ndarray, affine: np.ndarray, what: str) -> None:
    """Refuse a mask that has not the volume of a brain.

    Args:
        inside: (X, Y, Z) bool.
        affine: (4, 4), voxel -> world, mm.
        what: the mask, for the message.

    Raises:
        UnusableImageError: for less than 200 or more than 2,500 ml.
    """
    millilitres = 1000 * _litres(inside, affine)
    if not MIN_BRAIN_ML <= millilitres <= MAX_BRAIN_ML:
        raise UnusableImageError(
            f"{what} has {millilitres:.0f} ml, but a brain has {MIN_BRAIN_ML} to {MAX_BRAIN_ML} ml",
            "look at the image and the mask",
        )


def _why_not_stripped(foreground: np.ndarray, litres: float) -> str | None:
    """Why a foreground (X, Y, Z) bool of that volume is not a brain on 0; None if it may be."""
    zeros = 1 - np.count_nonzero(foreground) / foreground.size
    corners = tuple(slice(None, None, side - 1) for side in foreground.shape)
    if foreground[corners].any():
        return "the background is not 0"
    if zeros < ZERO_SHARE:
        return f"only {zeros:.0%} of the voxels are 0"
    if litres > MAX_BRAIN_ML / 1000:
        return f"{litres:.1f} litres are not 0, more than a brain"
    return None


def _refuse_constant(array: np.ndarray) -> None:
    if array.min() == array.max():
        raise UnusableImageError(f"every voxel is {array.flat[0]:g}", "look at the image")


def _refuse_labels(array: np.ndarray) -> None:
    """Refuse a mask or a label map, in which most voxels are equal to their neighbours."""
    count = array.shape[2]
    planes = array[:, :, count // 4 : count - count // 4 : max(1, count // 32)]
    shares: list[float] = []
    for one, other in ((planes[1:], planes[:-1]), (planes[:, 1:], planes[:, :-1])):
        inside = (one != array[0, 0, 0]) & (other != array[0, 0, 0])
        equal, pairs = int(((one == other) & inside).sum()), int(inside.sum())
        shares.append(equal / max(1, pairs))
    if min(shares) > EQUAL_NEIGHBOURS:
        raise UnusableImageError(
            f"{min(shares):.0%} of its voxels are equal to their neighbours, as in a label map",
            "give the T1 image of this participant, or exclude it",
        )


def _read_mask(volume: Volume, path: Path, affine: str) -> np.ndarray:
    try:
        mask = read_volume(path, affine)
    except UnusableImageError as error:
        raise type(error)(f"its mask {path.name} {error.problem}", error.advice) from error
    same_shape = mask.array.shape == volume.array.shape
    if not same_shape or not np.allclose(mask.affine, volume.affine, atol=GRID_TOLERANCE):
        what = "affine" if same_shape else f"shape {mask.array.shape}"
        raise UnusableImageError(
            f"its mask {path.name} has another {what}", "resample the mask to the image's grid"
        )
    inside = _inside_of_mask(mask.array, path.name)
    check_brain_volume(inside, volume.affine, f"its mask {path.name}")
    return inside


def _inside_of_mask(values: np.ndarray, name: str) -> np.ndarray:
    """Where a mask, which may be a probability or interpolated, exceeds half of its maximum."""
    most = values.max()
    if most <= 0:
        raise UnusableImageError(f"its mask {name} is empty", "create the mask again")
    labels = np.unique(values[values > 0]) if most >= 2 else values[:0]
    if len(labels) > 1 and np.array_equal(labels, np.arange(1, len(labels) + 1)):
        raise UnusableImageError(
            f"its mask {name} has the labels 1 to {len(labels)}, so that the brain is not known",
            "create a mask of 0 and 1",
        )
    return np.asarray(values > most / 2)


def _litres(inside: np.ndarray, affine: np.ndarray) -> float:
    return float(np.count_nonzero(inside) * abs(np.linalg.det(affine[:3, :3])) / 1e6)
