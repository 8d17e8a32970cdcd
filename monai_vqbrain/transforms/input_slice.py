"""A single greyscale slice as a network's input: a picture, or a NIfTI file with two long axes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from PIL import Image

from monai_vqbrain.errors import REDOWNLOAD, UnusableImageError
from monai_vqbrain.transforms.brain_slices import brain_limits
from monai_vqbrain.transforms.input_image import ZERO_SHARE, InputImage, unreadable
from monai_vqbrain.transforms.intensity import to_unit
from monai_vqbrain.transforms.mask import solid
from monai_vqbrain.transforms.voxels import open_image, read_scaled

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
GREY_MODES = ("1", "L", "I", "F", "I;16", "I;16B", "I;16L")
MAX_PIXELS = 2**26  # of a picture
MAX_PIXEL_RATIO = 1.25  # pixels larger or smaller than the run's by more are reported
NO_MASK = "the background is not 0, so where the brain is stays unknown: no in-brain score"
ROUNDING = 1e-6  # 255 x a header's float32 of 1/255 is a little above 1


def is_picture(path: Path) -> bool:
    """The name ends like that of a PNG, JPEG or TIFF."""
    return path.suffix.lower() in PICTURES


def is_single_slice(path: Path) -> bool:
    """A file that nibabel opens, with two axes longer than 1."""
    try:
        shape = getattr(open_image(path), "shape", ())
    except ValueError:
        return False
    return sum(side > 1 for side in shape[:3]) == 2 and all(side == 1 for side in shape[3:])


def read_picture(path: Path) -> InputImage:
    """Read a greyscale picture; its NIfTI has the identity as affine, (x, y, 0) upwards.

    Pictures of 8 bits are taken as [0, 1] by their type, others as `read_slice_nifti` says.

    Raises:
        UnusableImageError: damaged, coloured, partly transparent, of several pages, or with a side
            of one pixel.
    """
    with open_picture(path) as opened:
        pixels = grey_pixels(opened)
    if 1 in pixels.shape:
        size = "{1} x {0}".format(*pixels.shape)
        raise UnusableImageError(f"has {size} pixels", "give a picture of a whole slice")
    array = np.rot90(pixels, -1)[..., None]  # (W, H, 1), the second axis upwards
    like = nib.Nifti1Image(array.astype(np.float32), np.eye(4))
    return _input_image(like, array, 255.0 if array.dtype == np.uint8 else None, ())


@contextmanager
def open_picture(path: Path) -> Iterator[Image.Image]:
    """Open a picture; pixels are decoded in the block.

    Raises:
        UnusableImageError: if it cannot be opened or decoded, or has too many pixels.
    """
    try:
        with Image.open(path) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                size = f"{opened.width} x {opened.height}"
                raise UnusableImageError(f"has {size} pixels", "give a picture of one slice")
            yield opened
    except UnusableImageError:
        raise
    except Exception as error:  # its type depends on which byte is wrong
        raise unreadable(error, "cannot be opened") from error


def grey_pixels(picture: Any) -> np.ndarray:
    """(rows, columns) of a picture that is grey, whatever its mode."""
    pages = getattr(picture, "n_frames", 1)
    if pages > 1:
        raise UnusableImageError(f"holds {pages} pages", "give one picture per file")
    if picture.mode in GREY_MODES:
        return np.asarray(picture.convert("L") if picture.mode == "1" else picture)
    channels = np.asarray(picture.convert("RGBA"))
    if channels[..., 3].min() < 255:
        raise UnusableImageError("is transparent in places", "give a plain greyscale picture")
    if np.ptp(channels[..., :3], axis=-1).any():
        raise UnusableImageError("is in colour", "give a greyscale picture")
    return channels[..., 0]


def read_slice_nifti(path: Path, spacing: float) -> InputImage:
    """Read a NIfTI file with two long axes, such as a sample, at its own pixels.

    Values that all lie in [0, 1] are taken as they are; others are scaled as prepare does. Pixels
    are turned and mirrored, but not resampled, to lie as in RAS.

    Args:
        path: (W, H), (W, H, 1), or with the short axis elsewhere.
        spacing: mm per pixel of the slices that the network was trained on.

    Raises:
        UnusableImageError: damaged, NaN, without numbers, or no place in space.
        ValueError: without a single positive value.
    """
    try:
        image = open_image(path)
    except ValueError as error:
        raise unreadable(error, "cannot be opened") from error
    if image.get_data_dtype().kind not in "iuf":
        raise UnusableImageError(
            f"voxels of type {image.get_data_dtype()}", "give one number per voxel"
        )
    affine = getattr(image, "affine", None)
    if affine is None or not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise UnusableImageError("the affine places no voxel in space", "make the image again")
    try:
        values = read_scaled(image)
    except ValueError as error:
        raise UnusableImageError(f"is damaged ({error})", REDOWNLOAD) from error
    return _input_image(
        image, values.reshape((*image.shape, 1)[:3]), None, _pixel_size_remark(image, spacing)
    )


def _pixel_size_remark(image: Any, spacing: float) -> tuple[str, ...]:
    zooms = zip(image.header.get_zooms(), image.shape, strict=False)
    sides = [float(zoom) for zoom, count in zooms if count > 1 and zoom > 0]
    if all(1 / MAX_PIXEL_RATIO <= side / spacing <= MAX_PIXEL_RATIO for side in sides):
        return ()
    size = " x ".join(f"{side:.3g}" for side in sides)
    return (f"its pixels have {size} mm, those trained on {spacing:g} mm: expect less",)


def _input_image(
    like: Any, array: np.ndarray, peak: float | None, notes: tuple[str, ...]
) -> InputImage:
    """Of (X, Y, Z) values with one short axis; `peak` becomes 1, by default see `_limits`."""
    wrong = array.size - np.count_nonzero(np.isfinite(array))
    if wrong:
        raise UnusableImageError(
            f"{wrong} pixels are NaN or infinite", "set them to 0 or make the image again"
        )
    known = background_is_zero(array)
    brain = array != 0 if known else np.ones(array.shape, dtype=bool)
    low, high = (0.0, peak) if peak is not None else _limits(array, brain)
    shifted = np.where(brain, array - np.float32(low), np.float32(0)) if low else array
    unit = to_unit(shifted, 0.0, high - low)
    there = io_orientation(like.affine)
    turned = apply_orientation(array, there).shape
    away = io_orientation(inv_ornt_aff(there, array.shape))
    flat = (*(side for side in turned if side > 1), 1)  # (W, H, 1), on the axes of RAS

    def in_ras(values: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(apply_orientation(values, there).reshape(flat))

    mask = solid(in_ras(brain & known), planar=True)
    return InputImage(
        slices=in_ras(unit),
        mask=mask,
        places=({"index": 0, "brain_fraction": float(mask.mean())},),
        unit=unit,
        brain=brain,
        limits=(low, high),
        back=lambda stack: apply_orientation(stack.reshape(turned), away),
        like=like,
        notes=notes if known else (*notes, NO_MASK),
    )


def background_is_zero(array: np.ndarray) -> bool:
    """Prepare's rule, in two dimensions: all corners and a tenth of the pixels are exactly 0."""
    plane = array.reshape([side for side in array.shape if side > 1])
    corners = plane[:: plane.shape[0] - 1, :: plane.shape[1] - 1]
    return not corners.any() and bool(np.mean(plane == 0) >= ZERO_SHARE)


def _limits(array: np.ndarray, brain: np.ndarray) -> tuple[float, float]:
    if array.min() >= 0 and array.max() <= 1 + ROUNDING:
        return 0.0, 1.0
    return brain_limits(array, brain)
