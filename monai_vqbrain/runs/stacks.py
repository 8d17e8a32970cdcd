"""Stacks of slices on disk: 8-bit NIfTI, each with its brain mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd

from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.transforms import SliceStack
from monai_vqbrain.transforms.voxels import open_image, read_stored


def write_stack(stack: SliceStack, folder: Path, name: str) -> Path:
    """Write a stack and its mask as NIfTI, one byte per voxel.

    Args:
        stack: the slices, in [0, 1].
        folder: the folder to write to; made if needed.
        name: participant and session.

    Returns:
        The stack's path; `mask_path` gives that of the mask.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}_{stack.grid.axis}_T1w.nii"
    _write_nifti(np.rint(stack.image[0] * 255).astype(np.uint8), stack.grid.affine, path, 1 / 255)
    _write_nifti(stack.mask[0].astype(np.uint8), stack.grid.affine, mask_path(path), 1.0)
    return path


def write_scan_stack(
    stack: SliceStack, name: str, mask_source: str, folder: Path
) -> tuple[dict[str, Any], ...]:
    """Write a scan's stack and mask below `folder`; return one row per slice.

    Args:
        stack: the slices, in [0, 1].
        name: participant and session.
        mask_source: the origin of the brain mask.
        folder: `2-slices`; the files go to `stacks/` in it.

    Returns:
        One row per slice: its position, `mask_source`, and `stack`, its file relative to `folder`.
    """
    path = write_stack(stack, folder / "stacks", name).relative_to(folder).as_posix()
    about = {"mask_source": mask_source, "stack": path}
    return tuple(stack.place(index) | about for index in range(stack.grid.shape[2]))


def mask_path(stack: Path) -> Path:
    """The path of a stack's brain mask."""
    return stack.with_name(stack.name.removesuffix("_T1w.nii") + "_desc-brain_mask.nii")


def _write_nifti(values: np.ndarray, affine: np.ndarray, path: Path, slope: float) -> None:
    image = nib.Nifti1Image(values, affine)
    image.header.set_slope_inter(slope, 0)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    nib.save(image, path)


def read_slices(run: RunFolder, rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The images and brain masks of rows of slices.tsv, in the rows' order.

    Args:
        run: the run folder.
        rows: rows of `read_slices_table`.

    Returns:
        (N, W, H) uint8, 255 for an intensity of 1; (N, W, H) bool.
    """
    images: list[np.ndarray] = [np.empty(0)] * len(rows)
    masks: list[np.ndarray] = [np.empty(0)] * len(rows)
    numbers = pd.Series(np.arange(len(rows)), index=rows["stack"].to_numpy())
    for stack, group in numbers.groupby(level=0, sort=False):
        image = _stored(run.slices / str(stack))
        mask = _stored(mask_path(run.slices / str(stack)))
        for number in group:
            index = int(rows["index"].iloc[number])
            if index >= image.shape[2] or image.shape != mask.shape:
                raise VQBrainError(
                    f"{run.slices / str(stack)} has no slice {index}, or its mask has another "
                    "shape: run its stage again"
                )
            images[number], masks[number] = np.array(image[..., index]), mask[..., index] > 0
    if len({image.shape for image in images}) > 1:
        raise VQBrainError(f"{run.slices}: stacks differ in size: run its stage again")
    return np.stack(images), np.stack(masks)


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Intensities as uint8, [0, 1] -> 0..255; others are clipped."""
    return np.asarray((np.clip(images, 0, 1) * 255).round().astype(np.uint8))


def open_stack(path: Path) -> Any:
    """Open a stack or its mask: a nibabel image of 8-bit values, (W, H, S).

    Raises:
        VQBrainError: if it is missing, damaged or something else.
    """
    try:
        image = open_image(path)
        if len(image.shape) != 3 or image.get_data_dtype() != np.uint8:
            raise ValueError(f"{image.get_data_dtype()} of shape {image.shape}")
        if not np.isfinite(image.affine).all():
            raise ValueError("the affine is not finite")
    except ValueError as error:
        raise VQBrainError(f"{path} is damaged ({error}): run its stage again") from error
    return image


def _stored(path: Path) -> np.ndarray:
    """A stack's stored values, (W, H, S)."""
    try:
        return read_stored(open_stack(path))
    except ValueError as error:
        raise VQBrainError(f"{path} is damaged ({error}): run its stage again") from error
