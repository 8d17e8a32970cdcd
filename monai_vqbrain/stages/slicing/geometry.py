"""Where a header places the voxels: sform, qform and units of a NIfTI file."""

from __future__ import annotations

from typing import Any

import nibabel as nib
import numpy as np

from monai_vqbrain.errors import UnusableImageError

AFFINES = ("auto", "sform", "qform")
UNIT_MM = {1: 1000.0, 3: 0.001}  # mm per metre and per micron, by NIfTI's codes; else 1
MIN_VOXEL_MM, MAX_VOXEL_MM = 0.02, 200.0  # sizes beyond, slice distances too, are errors
SAME_SIZE = 0.01  # relative difference of voxel sizes
SAME_PLACE = 0.5  # voxels, at the corners of the volume: sform and qform agree
MAX_DEGREES = 45.0  # sform and qform that differ by more than this name other axes

NO_ORIENTATION = (
    "the header does not say which side is left",
    "taken as nibabel reads it; check left and right, or convert it again from DICOM",
)
Remark = tuple[str, str]  # what is odd about an image that is used, and what to do


def affine_of_header(image: Any, choice: str = "auto") -> tuple[np.ndarray, list[Remark]]:
    """The affine of an image in mm, and remarks on it.

    A NIfTI header may place the voxels twice, by its sform and its qform. Where both have the same
    voxel sizes and axes, the sform counts, as in nibabel. Units of metres and microns become mm.

    Args:
        image: the nibabel image.
        choice: `sform` or `qform`: which one counts where they disagree; `auto`: such an image is
            refused.

    Returns:
        (4, 4), voxel -> world, mm, RAS; remarks, if the header defines no orientation or its sform
        and qform differ in pose.

    Raises:
        UnusableImageError: if the affine is singular or not finite or has implausible voxel sizes,
            or if sform and qform disagree.
    """
    affine, unit = getattr(image, "affine", None), 1.0
    remarks: list[Remark] = []
    if isinstance(image.header, nib.Nifti1Header):
        affine, remarks = _nifti_affine(image, choice)
        unit = UNIT_MM.get(int(image.header["xyzt_units"]) % 8, 1.0)
    if affine is not None:
        affine = np.diag([unit, unit, unit, 1.0]) @ affine
    if affine is None or not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise UnusableImageError(
            "the affine is singular or not finite", "convert it again from DICOM"
        )
    sizes = nib.affines.voxel_sizes(affine)
    if sizes.min() < MIN_VOXEL_MM or sizes.max() > MAX_VOXEL_MM:
        raise UnusableImageError(
            f"voxels of {text_of_sizes(sizes)} mm", "correct the affine or the units in its header"
        )
    return np.asarray(affine, dtype=np.float64), remarks


def text_of_sizes(sizes: np.ndarray) -> str:
    """Three voxel sizes as text, such as `1 x 1 x 1.2`."""
    return " x ".join(f"{size:.3g}" for size in sizes)


def _nifti_affine(image: Any, choice: str) -> tuple[np.ndarray, list[Remark]]:
    header = image.header
    sform = header.get_sform() if header["sform_code"] > 0 else None
    qform = _qform(header)
    if sform is None:
        return image.affine, [NO_ORIENTATION] if qform is None else []
    if not np.isfinite(sform).all() or not np.linalg.det(sform[:3, :3]):
        return sform, []
    sizes = np.abs(header["pixdim"][1:4]).astype(float)  # those of the qform
    difference = _size_difference(nib.affines.voxel_sizes(sform), sizes)
    moved = ""
    if qform is not None and not difference and not _same_place(sform, qform, image.shape):
        difference, moved = _pose_difference(sform, qform)
    if difference and choice == "auto":
        raise UnusableImageError(
            f"has an sform and a qform that disagree: {difference}",
            "look at the image, then give --affine sform or --affine qform, or correct its header",
        )
    if choice == "qform" and (difference or moved):
        if qform is None:
            raise UnusableImageError(
                f"has no qform, but {difference} by its sform and its pixdim",
                "give --affine sform, or correct its header",
            )
        return qform, []
    if choice == "sform" or not moved:
        return sform, []
    problem = f"has an sform and a qform that differ: {moved}"
    return sform, [(problem, "the sform is used; give --affine qform to use the other")]


def _qform(header: Any) -> np.ndarray | None:
    """None if the header has none, or one of impossible numbers."""
    try:
        return np.asarray(header.get_qform()) if header["qform_code"] > 0 else None
    except (nib.spatialimages.HeaderDataError, ValueError):
        return None


def _size_difference(sform: np.ndarray, pixdim: np.ndarray) -> str:
    """Empty if the voxel sizes are the same, or the header has none beside the sform."""
    known = np.isfinite(pixdim).all() and pixdim.min() > 0
    if not known or np.allclose(sform, pixdim, rtol=SAME_SIZE, atol=0):
        return ""
    return f"voxels of {text_of_sizes(sform)} and {text_of_sizes(pixdim)}"


def _same_place(sform: np.ndarray, qform: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Whether both place all corners of the volume within half a voxel of each other."""
    corners = np.stack(np.meshgrid(*([0, n - 1] for n in shape[:3])), axis=-1).reshape(-1, 3)
    apart = nib.affines.apply_affine(np.linalg.solve(qform, sform), corners) - corners
    return bool(np.linalg.norm(apart, axis=1).max() < SAME_PLACE)


def _pose_difference(sform: np.ndarray, qform: np.ndarray) -> tuple[str, str]:
    """How the poses differ: so that they disagree, or only by a rotation and shift."""
    left, _, right = np.linalg.svd(sform[:3, :3] @ np.linalg.inv(qform[:3, :3]))
    turn = left @ right
    if np.linalg.det(turn) < 0:
        return "one is the mirror image of the other", ""
    degrees = np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1)))
    if degrees > MAX_DEGREES:
        return f"turned by {degrees:.0f} degrees", ""
    shift = np.linalg.norm(sform[:3, 3] - qform[:3, 3])
    return "", f"turned by {degrees:.0f} degrees, first voxel {shift:.0f} mm apart"
