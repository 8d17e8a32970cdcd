"""Reading and checking one volume, and finding its brain."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from monai_vqbrain.errors import REDOWNLOAD, UnusableImageError
from monai_vqbrain.stages.slicing.geometry import Remark, affine_of_header
from monai_vqbrain.transforms.input_image import UNREADABLE, ZERO_SHARE
from monai_vqbrain.transforms.template import brain_in_template_space

MIN_BRAIN_ML = 200  # less foreground is no brain (a newborn's brain has 350 ml)
MAX_BRAIN_ML = 2500  # more foreground is a whole head (brains with CSF have 900 to 2000 ml)
MAX_BUFFER = 2**28  # bytes; a header may be wrong
GRID_TOLERANCE = 1e-2  # affines that differ by less count as one grid
DUST = 1e-3  # of the mean magnitude: smaller values are traces of an interpolation, and count as 0


class WholeHeadError(UnusableImageError):
    """A whole head without a brain mask: only registration can locate the brain."""


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels and their affine.

    Args:
        array: (X, Y, Z), proportional to the intensities. Integers are kept as stored, so that
            nothing is computed for voxels that no slice needs; 0 is an intensity of 0.
        affine: (4, 4), voxel -> world, mm, RAS.
        remarks: what is odd about its header, see `geometry`.
    """

    array: np.ndarray
    affine: np.ndarray
    remarks: tuple[Remark, ...] = ()


def open_volume(path: Path) -> Any:
    """Open a volume and check its header; no voxel is read.

    Args:
        path: any file that nibabel reads.

    Returns:
        The nibabel image.

    Raises:
        UnusableImageError: if it is no image or not one 3D volume, or if the voxels are no numbers.
    """
    try:
        image: Any = nib.load(path)
    except UNREADABLE as error:
        raise UnusableImageError(f"cannot be opened ({_first_line(error)})", REDOWNLOAD) from error
    shape = _spatial_shape(getattr(image, "shape", ()))
    if min(shape) < 2:
        raise UnusableImageError(f"one slice of shape {shape}", "give whole 3D volumes")
    if image.get_data_dtype().kind not in "iuf":
        raise UnusableImageError(
            f"voxels of type {image.get_data_dtype()}", "give one number per voxel"
        )
    return image


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _spatial_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) < 3:
        raise UnusableImageError(f"shape {shape} is not a volume", "give whole 3D volumes")
    if any(n != 1 for n in shape[3:]):
        several = int(np.prod(shape[3:]))
        raise UnusableImageError(f"holds {several} volumes", "give one T1 volume, or their average")
    return shape[:3]


def read_volume(path: Path, affine: str = "auto") -> Volume:
    """Read a volume's voxels.

    Args:
        path: any file that nibabel reads.
        affine: which affine counts where a header has two, see `affine_of_header`.

    Raises:
        UnusableImageError: as `open_volume` and `affine_of_header`; if it is damaged, or has NaN or
            infinite voxels.
    """
    image = open_volume(path)
    place, remarks = affine_of_header(image, affine)
    try:
        raw, slope, inter = _read_voxels(image)
    except UNREADABLE as error:
        raise UnusableImageError(f"is damaged ({_first_line(error)})", REDOWNLOAD) from error
    array = raw.reshape(raw.shape[:3])
    if array.dtype.kind == "f":
        wrong = array.size - np.count_nonzero(np.isfinite(array))
        if wrong:
            raise UnusableImageError(
                f"{wrong} voxels are NaN or infinite", "set them to 0 or create the image again"
            )
    if inter or slope <= 0:
        exact = array * slope + inter
        exact[np.abs(exact) < 1e-3 * abs(slope)] = 0.0  # rounding must not hide a zero background
        array = exact.astype(np.float32)
    if array.dtype.kind == "f":
        array = without_dust(array)
    return Volume(array, place, tuple(remarks))


def without_dust(array: np.ndarray) -> np.ndarray:
    """Set values of less than a thousandth of the mean magnitude to 0, of an array of floats.

    Example:
        >>> without_dust(np.array([1e-26, 0.0, -1e-9, 50.0, 80.0])).tolist()
        [0.0, 0.0, 0.0, 50.0, 80.0]
    """
    size = np.abs(array)
    return np.where(size < DUST * size.mean(dtype=np.float64), array.dtype.type(0), array)


def _read_voxels(image: Any) -> tuple[np.ndarray, float, float]:
    proxy = image.dataobj
    if not isinstance(proxy, nib.arrayproxy.ArrayProxy):
        return np.asanyarray(proxy), 1.0, 0.0
    raw = _decompress(image)
    if raw is None:
        raw = np.asanyarray(proxy.get_unscaled())
    return raw, float(proxy.slope), float(proxy.inter)


def _decompress(image: Any) -> np.ndarray | None:
    """The voxels of a .gz, decompressed at once in half of nibabel's time; None for other files."""
    proxy, path = image.dataobj, image.file_map["image"].filename
    if not str(path).endswith("gz"):
        return None
    needed = proxy.offset + math.prod(proxy.shape) * proxy.dtype.itemsize
    content = zlib.decompress(Path(path).read_bytes(), wbits=31, bufsize=min(needed, MAX_BUFFER))
    if len(content) < needed:  # several gzip members: nibabel joins them
        return None
    return np.ndarray(proxy.shape, proxy.dtype, content, proxy.offset, order=proxy.order)


def find_brain(
    volume: Volume, mask_path: Path | None, space: str = "", affine: str = "auto"
) -> tuple[Volume, np.ndarray, str]:
    """Find the brain of a volume, without guessing a threshold.

    A mask file is cut at half of its maximum. Without one, the background must be exactly 0, in all
    eight corners and in a tenth of the voxels. Either must have the volume of a brain, 0.2 to 2.5
    litres. For a whole head in MNI space the template's brain mask is used.

    Args:
        volume: the image.
        mask_path: a mask on the image's grid, above half of its maximum in the brain.
        space: the template space of the image, see Scan.
        affine: which affine of the mask's header counts, see `affine_of_header`.

    Returns:
        The volume, 0 outside the brain; the brain mask, (X, Y, Z) bool; the origin of the mask,
        `derivative`, `zero-background` or `template`.

    Raises:
        UnusableImageError: if the mask does not fit the image, or there is no brain.
        WholeHeadError: if there is neither a mask nor a zero background.
    """
    if mask_path is not None:
        inside = _read_mask(volume, mask_path, affine)
        return strip(volume, inside), inside, "derivative"
    brain = volume.array != 0
    litres = _litres(brain, volume.affine)
    reason = _why_not_stripped(brain, litres)
    if reason is None and litres >= MIN_BRAIN_ML / 1000:
        return volume, brain, "zero-background"
    _refuse_constant(volume.array)
    if reason is None:
        raise UnusableImageError(
            f"no brain found: only {1000 * litres:.0f} ml are not 0", "look at the image"
        )
    if space.startswith("MNI"):
        inside = brain_in_template_space(volume.affine, brain.shape)
        return strip(volume, inside), inside, "template"
    raise WholeHeadError(
        f"not skull-stripped ({reason}) and without a brain mask",
        "use --align affine, skull-strip it, or put a mask *_desc-brain_mask.nii.gz into "
        "derivatives",
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


def strip(volume: Volume, inside: np.ndarray) -> Volume:
    """Set voxels outside the brain mask to 0."""
    return replace(volume, array=np.where(inside, volume.array, volume.array.dtype.type(0)))


def _read_mask(volume: Volume, path: Path, affine: str) -> np.ndarray:
    try:
        mask = read_volume(path, affine)
    except UnusableImageError as error:
        raise UnusableImageError(f"its mask {path.name} {error.problem}", error.advice) from error
    same_shape = mask.array.shape == volume.array.shape
    if not same_shape or not np.allclose(mask.affine, volume.affine, atol=GRID_TOLERANCE):
        what = "affine" if same_shape else f"shape {mask.array.shape}"
        raise UnusableImageError(
            f"its mask {path.name} has another {what}", "resample the mask to the image's grid"
        )
    inside = _inside_of_mask(mask.array, path.name)
    litres = _litres(inside, volume.affine)
    if not MIN_BRAIN_ML <= 1000 * litres <= MAX_BRAIN_ML:
        raise UnusableImageError(
            f"its mask {path.name} has {1000 * litres:.0f} ml, but a brain has {MIN_BRAIN_ML} to "
            f"{MAX_BRAIN_ML} ml",
            "create the mask again",
        )
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
