"""From one scan to its stack of slices on disk."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from monai_vqbrain.cohorts import Problem, Scan
from monai_vqbrain.stages.convert import converted
from monai_vqbrain.stages.findings import Notes
from monai_vqbrain.stages.normalise import Normalisation, normalise
from monai_vqbrain.stages.pictures import pictures_to_slices
from monai_vqbrain.stages.volume import (
    NEGATIVE_SHARE,
    UnusableVolumeError,
    Volume,
    WholeHeadError,
)
from monai_vqbrain.transforms import ExtractSlices, ScaleBrainIntensity, SliceStack
from monai_vqbrain.transforms.extent import brain_box
from monai_vqbrain.transforms.grid import world_axes
from monai_vqbrain.transforms.intensity import to_unit

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
        whole_head: it is unusable for being a whole head that was not to be aligned.
    """

    scan: Scan
    slices: tuple[dict[str, Any], ...] = ()
    problems: tuple[Problem, ...] = ()
    measures: dict[str, float] = field(default_factory=dict)
    whole_head: bool = False


def cut_scan(
    scan: Scan, extract: ExtractSlices, how: Normalisation, folder: Path, notes: Notes
) -> Cut:
    """Read a scan, cut it, write stack and mask below `folder`; what is wrong with it is returned.

    Args:
        scan: who and where.
        extract: how to cut.
        how: what is done to the volume before.
        folder: the slices' folder; files go to `stacks/` in it.
        notes: where what is found of a volume is kept; a series of DICOM becomes a volume there.
    """
    measures: dict[str, float] = {}
    try:
        if scan.form == "pictures":
            stack, problems = pictures_to_slices(scan, extract.size, extract.spacing)
            mask_source = "pictures"
        else:
            path = converted(scan, notes.folder) if scan.form == "dicom" else scan.path
            brain = normalise(path, how, scan.mask_path, scan.space, notes)
            mask_source = brain.mask_source
            stack = volume_to_slices(brain.volume, brain.inside, extract)
            problems = [] if brain.volume.oriented else [not_oriented(scan)]
            measures |= brain.measures | _place(stack, extract)
    except UnusableVolumeError as error:
        problem = Problem(scan.source, error.problem, error.advice)
        return Cut(scan, problems=(problem,), whole_head=isinstance(error, WholeHeadError))
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


def _place(stack: SliceStack, extract: ExtractSlices) -> dict[str, float]:
    """How long the brain is along the slices' axis, and how far from where it should be."""
    grid = stack.grid
    measures = {"height_mm": grid.high - grid.low}
    if extract.frame is not None:
        along = world_axes(grid.axis)[2]
        middle = sum(end[along] for end in extract.frame) / 2
        measures["shift_mm"] = float((grid.low + grid.high) / 2 - middle)
    return measures


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
        array: (X, Y, Z), 0 outside the brain; prepare gives the brain's box, without specks.
        brain: (X, Y, Z) bool.

    Raises:
        ValueError: for an empty brain, or one without a single positive value.
    """
    voxels = int(np.count_nonzero(brain))
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
