"""One scan to its stack of slices on disk."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai_vqbrain.cohorts import Problem, Scan
from monai_vqbrain.errors import UnavailableImageError, UnusableImageError
from monai_vqbrain.runs.stacks import write_scan_stack
from monai_vqbrain.stages.slicing.dicom import converted_volume
from monai_vqbrain.stages.slicing.normalisation import Normalisation, normalise
from monai_vqbrain.stages.slicing.normalisation_cache import NormalisationCache
from monai_vqbrain.stages.slicing.pictures import pictures_to_slices
from monai_vqbrain.transforms import ExtractSlices, SliceStack
from monai_vqbrain.transforms.brain_slices import brain_slices
from monai_vqbrain.transforms.grid import world_axes

NO_POSITION = {"position_mm": None, "position_rel": None}


@dataclass(frozen=True)
class SlicedScan:
    """The result of slicing one scan.

    Args:
        scan: the scan.
        slices: one row per slice: stack, mask_source and position; empty if the scan is unusable.
        problems: what is wrong with it.
        measures: name -> value, for quality control, see `qc.MEASURES`.
        unavailable: it could not be read for a reason that does not lie in its files.
    """

    scan: Scan
    slices: tuple[dict[str, Any], ...] = ()
    problems: tuple[Problem, ...] = ()
    measures: dict[str, float] = field(default_factory=dict)
    unavailable: bool = False


def slice_scan(
    scan: Scan,
    extract: ExtractSlices,
    normalisation: Normalisation,
    folder: Path,
    cache: NormalisationCache,
) -> SlicedScan:
    """Read and slice a scan, and write its stack and mask; problems are returned, not raised.

    Args:
        scan: the scan.
        extract: extracts the slices.
        normalisation: the normalisation of the volume before it is sliced.
        folder: the slices' folder; files go to `stacks/` in it.
        cache: stores the normalisation result; a DICOM series is converted into its folder.
    """
    measures: dict[str, float] = {}
    try:
        if scan.form == "pictures":
            stack, problems = pictures_to_slices(scan, extract.size, extract.spacing)
            mask_source = "pictures"
        else:
            path = converted_volume(scan, cache.folder) if scan.form == "dicom" else scan.path
            brain = normalise(path, normalisation, scan.mask_path, scan.space, cache)
            mask_source = brain.mask_source
            stack = brain_slices(brain.volume.array, brain.volume.affine, brain.inside, extract)
            problems = [Problem(scan.source, *remark) for remark in brain.volume.remarks]
            measures |= brain.measures | _extent_measures(stack, extract)
    except UnusableImageError as error:
        problem = Problem(scan.source, error.problem, error.advice)
        unavailable = isinstance(error, UnavailableImageError)
        return SlicedScan(scan, problems=(problem,), unavailable=unavailable)
    except ValueError as error:  # of the transforms, about this volume's numbers
        return SlicedScan(scan, problems=(Problem(scan.source, str(error), "look at the image"),))
    rows = write_scan_stack(stack, scan.name, mask_source, folder)
    if scan.form == "pictures":
        rows = tuple(row | NO_POSITION for row in rows)
    inside = stack.image[stack.mask]
    measures["area_percent"] = float(100 * stack.brain_fraction.mean())
    if inside.size:
        measures |= {"brightness": float(inside.mean()), "contrast": float(inside.std())}
    return SlicedScan(scan, rows, tuple(problems), measures)


def _extent_measures(stack: SliceStack, extract: ExtractSlices) -> dict[str, float]:
    """Extent of the brain across the slices and offset from the template's brain, mm."""
    grid = stack.grid
    measures = {"height_mm": grid.high - grid.low}
    if extract.frame is not None:
        along = world_axes(grid.axis)[2]
        middle = sum(end[along] for end in extract.frame) / 2
        measures["shift_mm"] = float((grid.low + grid.high) / 2 - middle)
    return measures
