"""From one scan to its stack of slices on disk."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from monai_vqbrain.cohorts import Problem, Scan
from monai_vqbrain.stages.convert import converted
from monai_vqbrain.stages.pictures import pictures_to_slices
from monai_vqbrain.stages.volume import (
    UnusableVolumeError,
    Volume,
    find_brain,
    read_volume,
)
from monai_vqbrain.transforms import ExtractSlices, ScaleBrainIntensity, SliceStack
from monai_vqbrain.transforms.extent import brain_box
from monai_vqbrain.transforms.intensity import to_unit

NEGATIVE_SHARE = 0.01  # of the brain's voxels: above it the image was normalised about its mean
FLOOR = 0.5  # percentile that becomes 0 then
NOWHERE = {"position_mm": None, "position_rel": None}


@dataclass(frozen=True)
class Cut:
    """What became of one scan.

    Args:
        scan: the scan.
        slices: one row a slice: stack, mask_source and where it lies; empty if it was unusable.
        problems: what is wrong with it.
        measures: what tells an odd scan, by name, see `qc.MEASURES`.
    """

    scan: Scan
    slices: tuple[dict[str, Any], ...] = ()
    problems: tuple[Problem, ...] = ()
    measures: dict[str, float] = field(default_factory=dict)


def cut_scan(scan: Scan, extract: ExtractSlices, folder: Path, volumes: Path) -> Cut:
    """Read a scan, cut it, write stack and mask below `folder`; what is wrong with it is returned.

    Args:
        scan: who and where.
        extract: how to cut.
        folder: the slices' folder; files go to `stacks/` in it.
        volumes: where a series of DICOM becomes a volume.
    """
    measures: dict[str, float] = {}
    try:
        if scan.form == "pictures":
            stack, problems = pictures_to_slices(scan, extract.size, extract.spacing)
            mask_source = "pictures"
        else:
            path = converted(scan, volumes) if scan.form == "dicom" else scan.path
            volume, brain, mask_source = find_brain(read_volume(path), scan.mask_path, scan.space)
            stack = volume_to_slices(volume, brain, extract)
            problems = [] if volume.oriented else [not_oriented(scan)]
            voxel = abs(np.linalg.det(volume.affine[:3, :3]))
            measures["brain_ml"] = float(np.count_nonzero(brain) * voxel / 1000)
            measures["height_mm"] = stack.grid.high - stack.grid.low
    except UnusableVolumeError as error:
        return Cut(scan, problems=(Problem(scan.source, error.problem, error.advice),))
    except ValueError as error:  # of the transforms, about this volume's numbers
        return Cut(scan, problems=(Problem(scan.source, str(error), "look at the image"),))
    written = write_stack(stack, folder / "stacks", scan.name).relative_to(folder).as_posix()
    rows = tuple(
        {**stack.place(index), "mask_source": mask_source, "stack": written}
        | (NOWHERE if scan.form == "pictures" else {})
        for index in range(stack.grid.shape[2])
    )
    inside = stack.image[stack.mask]
    measures["area_percent"] = float(100 * stack.brain_fraction.mean())
    if inside.size:
        measures |= {"brightness": float(inside.mean()), "contrast": float(inside.std())}
    return Cut(scan, rows, tuple(problems), measures)


def volume_to_slices(volume: Volume, brain: np.ndarray, extract: ExtractSlices) -> SliceStack:
    """Cut a volume and scale it by its brain's voxels.

    Where over 1 % of the brain is negative (z-scores), the brain's 0.5th percentile becomes 0; else
    0 stays 0.

    Args:
        volume: 0 outside the brain.
        brain: (X, Y, Z) bool.
        extract: how to cut.

    Returns:
        The slices, in [0, 1], with their masks.

    Raises:
        ValueError: for an empty brain, or one without a single positive value.
    """
    box = brain_box(brain)
    array, brain = volume.array[box].copy(order="K"), brain[box].copy(order="K")
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [side.start for side in box]
    low, high = brain_limits(array, brain)
    if low:
        array = np.where(brain, array - np.float32(low), np.float32(0))
    stack = extract.stack(array[None], affine, brain)
    return SliceStack(to_unit(stack.image, 0.0, high - low), stack.mask, stack.grid)


def brain_limits(array: np.ndarray, brain: np.ndarray) -> tuple[float, float]:
    """The intensities that prepare makes 0 and 1.

    Args:
        array: (X, Y, Z), 0 outside the brain.
        brain: (X, Y, Z) bool.

    Raises:
        ValueError: for an empty brain, or one without a single positive value.
    """
    voxels = np.count_nonzero(brain)
    below = 0 if array.dtype.kind == "u" else np.count_nonzero(array < 0)
    if below > NEGATIVE_SHARE * voxels:
        return ScaleBrainIntensity(floor=FLOOR).limits(array[brain])
    return ScaleBrainIntensity().limits(array, voxels)


def write_stack(stack: SliceStack, folder: Path, name: str) -> Path:
    """Write a stack and its mask as NIfTI, one byte a voxel.

    Args:
        stack: the slices, in [0, 1].
        folder: where to.
        name: participant and session.

    Returns:
        The stack's path; the mask lies beside it (`mask_of`).
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}_{stack.grid.axis}_T1w.nii"
    _write(np.rint(stack.image[0] * 255).astype(np.uint8), stack.grid.affine, path, 1 / 255)
    _write(stack.mask[0].astype(np.uint8), stack.grid.affine, mask_of(path), 1.0)
    return path


def mask_of(stack: Path) -> Path:
    """Where the brain mask of a stack lies."""
    return stack.with_name(stack.name.removesuffix("_T1w.nii") + "_desc-brain_mask.nii")


def _write(values: np.ndarray, affine: np.ndarray, path: Path, slope: float) -> None:
    image = nib.Nifti1Image(values, affine)
    image.header.set_slope_inter(slope, 0)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    nib.save(image, path)


def not_oriented(scan: Scan) -> Problem:
    """What to tell about a scan whose header does not say which side is left."""
    advice = "taken as nibabel reads it; check left and right, or convert it again from DICOM"
    return Problem(scan.source, "the header does not say which side is left", advice)
