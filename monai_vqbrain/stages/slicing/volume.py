"""One volume from disk, checked: what it holds, where it lies, where the brain is."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from monai_vqbrain.errors import REDOWNLOAD, UnusableImageError
from monai_vqbrain.transforms.input_image import UNREADABLE, ZERO_SHARE
from monai_vqbrain.transforms.template import brain_in_template_space

MIN_BRAIN_ML = 200  # less foreground than this is no brain (a newborn's has 350)
MAX_BRAIN_ML = (
    2500  # more foreground than this is a head, not a brain (brains with CSF: 900 to 2000 ml)
)
MAX_BUFFER = 2**28  # bytes: a header may lie
GRID_TOLERANCE = 1e-2  # affines that differ by less are one grid


class WholeHeadError(UnusableImageError):
    """A whole head without a brain mask: only its alignment says where the brain is."""


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels and their place.

    Args:
        array: (X, Y, Z), proportional to the intensities: integers stay as they are stored, so
            that nothing is computed for voxels that no slice needs. 0 means 0.
        affine: (4, 4), voxel -> world, mm, RAS.
        oriented: the header says which side is left.
    """

    array: np.ndarray
    affine: np.ndarray
    oriented: bool = True


def open_volume(path: Path) -> Any:
    """Open a volume and check its header; no voxel is read.

    Args:
        path: any file that nibabel reads.

    Returns:
        The nibabel image.

    Raises:
        UnusableImageError: not an image, not one 3D volume, no numbers, or no place in space.
    """
    try:
        image: Any = nib.load(path)
    except UNREADABLE as error:
        raise UnusableImageError(f"cannot be opened ({_first_line(error)})", REDOWNLOAD) from error
    shape = _spatial_shape(getattr(image, "shape", ()))
    if min(shape) < 2:
        raise UnusableImageError(f"one slice of shape {shape}", "give whole 3D volumes")
    affine = getattr(image, "affine", None)
    if affine is None or not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise UnusableImageError(
            "the affine places no voxel in space", "convert it again from DICOM"
        )
    if image.get_data_dtype().kind not in "iuf":
        raise UnusableImageError(
            f"voxels of type {image.get_data_dtype()}", "give one number a voxel"
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


def is_oriented(image: Any) -> bool:
    """Whether the header says which side is left: not a NIfTI with sform and qform codes of 0."""
    header = image.header
    return not isinstance(header, nib.Nifti1Header) or bool(
        header["sform_code"] or header["qform_code"]
    )


def read_volume(path: Path) -> Volume:
    """Read a volume's voxels.

    Args:
        path: any file that nibabel reads.

    Raises:
        UnusableImageError: as `open_volume`; damaged, or with NaN or infinite voxels.
    """
    image = open_volume(path)
    try:
        raw, slope, inter = _read_voxels(image)
    except UNREADABLE as error:
        raise UnusableImageError(f"is damaged ({_first_line(error)})", REDOWNLOAD) from error
    array = raw.reshape(raw.shape[:3])
    if array.dtype.kind == "f":
        wrong = array.size - np.count_nonzero(np.isfinite(array))
        if wrong:
            raise UnusableImageError(
                f"{wrong} voxels are NaN or infinite", "set them to 0 or make the image anew"
            )
    if inter or slope <= 0:
        exact = array * slope + inter
        exact[np.abs(exact) < 1e-3 * abs(slope)] = 0.0  # rounding must not hide a zero background
        array = exact.astype(np.float32)
    return Volume(array, np.asarray(image.affine, dtype=np.float64), is_oriented(image))


def _read_voxels(image: Any) -> tuple[np.ndarray, float, float]:
    proxy = image.dataobj
    if not isinstance(proxy, nib.arrayproxy.ArrayProxy):
        return np.asanyarray(proxy), 1.0, 0.0
    raw = _decompress(image)
    if raw is None:
        raw = np.asanyarray(proxy.get_unscaled())
    return raw, float(proxy.slope), float(proxy.inter)


def _decompress(image: Any) -> np.ndarray | None:
    """The voxels of a .gz in one go, in half the time that nibabel takes; None if it is none."""
    proxy, path = image.dataobj, image.file_map["image"].filename
    if not str(path).endswith("gz"):
        return None
    needed = proxy.offset + math.prod(proxy.shape) * proxy.dtype.itemsize
    content = zlib.decompress(Path(path).read_bytes(), wbits=31, bufsize=min(needed, MAX_BUFFER))
    if len(content) < needed:  # of several parts: nibabel joins them
        return None
    return np.ndarray(proxy.shape, proxy.dtype, content, proxy.offset, order=proxy.order)


def find_brain(
    volume: Volume, mask_path: Path | None, space: str = ""
) -> tuple[Volume, np.ndarray, str]:
    """Find where the brain is; no threshold is guessed.

    Without a mask file, the background must be exactly 0: in all eight corners and in a tenth of
    the voxels. The foreground may then not be larger than a brain can be. Of a whole head that was
    brought to MNI space the brain is where the template's is.

    Args:
        volume: the image.
        mask_path: a mask on the image's grid, non-zero in the brain.
        space: see Scan.

    Returns:
        The volume, 0 outside the brain; the brain, (X, Y, Z) bool; `derivative`, `zero-background`
        or `template`.

    Raises:
        UnusableImageError: the mask does not fit, or there is no brain.
        WholeHeadError: there is no mask and no zero background.
    """
    if mask_path is not None:
        inside = _read_mask(volume, mask_path)
        return strip(volume, inside), inside, "derivative"
    array = volume.array
    brain = array != 0
    voxels = np.count_nonzero(brain)
    share = 1 - voxels / brain.size
    litres = voxels * abs(np.linalg.det(volume.affine[:3, :3])) / 1e6
    if brain[:: array.shape[0] - 1, :: array.shape[1] - 1, :: array.shape[2] - 1].any():
        found = "the background is not 0"
    elif share < ZERO_SHARE:
        found = f"only {share:.0%} of the voxels are 0"
    elif litres > MAX_BRAIN_ML / 1000:
        found = f"{litres:.1f} litres are not 0, more than a brain"
    elif litres < MIN_BRAIN_ML / 1000:
        _refuse_constant(array)
        raise UnusableImageError(
            f"no brain found: only {1000 * litres:.0f} ml are not 0", "look at the image"
        )
    else:
        return volume, brain, "zero-background"
    _refuse_constant(array)
    if space.startswith("MNI"):
        inside = brain_in_template_space(volume.affine, array.shape)
        return strip(volume, inside), inside, "template"
    raise WholeHeadError(
        f"not skull-stripped ({found}) and without a brain mask",
        "use --align affine, skull-strip it, or put a mask *_desc-brain_mask.nii.gz into "
        "derivatives",
    )


def _refuse_constant(array: np.ndarray) -> None:
    if array.min() == array.max():
        raise UnusableImageError(f"every voxel is {array.flat[0]:g}", "look at the image")


def strip(volume: Volume, inside: np.ndarray) -> Volume:
    """The volume, 0 outside the brain."""
    return replace(volume, array=np.where(inside, volume.array, volume.array.dtype.type(0)))


def _read_mask(volume: Volume, path: Path) -> np.ndarray:
    try:
        mask = read_volume(path)
    except UnusableImageError as error:
        raise UnusableImageError(f"its mask {path.name} {error.problem}", error.advice) from error
    same_shape = mask.array.shape == volume.array.shape
    if not same_shape or not np.allclose(mask.affine, volume.affine, atol=GRID_TOLERANCE):
        what = "place in space" if same_shape else f"shape {mask.array.shape}"
        raise UnusableImageError(
            f"its mask {path.name} has another {what}", "resample the mask to the image's grid"
        )
    inside = mask.array != 0
    if not inside.any():
        raise UnusableImageError(f"its mask {path.name} is empty", "make the mask anew")
    return inside
