"""Reading and checking one volume."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from monai_vqbrain.errors import UnusableImageError
from monai_vqbrain.stages.slicing.geometry import Remark, affine_of_header
from monai_vqbrain.transforms.input_image import unreadable
from monai_vqbrain.transforms.voxels import open_image, read_stored

DUST = 1e-3  # of the mean magnitude: smaller values are traces of an interpolation, and count as 0


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
        image: Any = open_image(path)
    except ValueError as error:
        raise unreadable(error, "cannot be opened") from error
    shape = _spatial_shape(getattr(image, "shape", ()))
    if min(shape) < 2:
        raise UnusableImageError(f"one slice of shape {shape}", "give whole 3D volumes")
    if image.get_data_dtype().kind not in "iuf":
        raise UnusableImageError(
            f"voxels of type {image.get_data_dtype()}", "give one number per voxel"
        )
    return image


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
        raw = read_stored(image)
    except ValueError as error:
        raise unreadable(error, "is damaged") from error
    slope, inter = _scaling(image)
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


def _scaling(image: Any) -> tuple[float, float]:
    """Slope and intercept that the stored values have yet to be scaled by."""
    proxy = image.dataobj
    if not isinstance(proxy, nib.arrayproxy.ArrayProxy):
        return 1.0, 0.0
    return float(proxy.slope), float(proxy.inter)


def strip(volume: Volume, inside: np.ndarray) -> Volume:
    """Set voxels outside the brain mask to 0."""
    return replace(volume, array=np.where(inside, volume.array, volume.array.dtype.type(0)))
