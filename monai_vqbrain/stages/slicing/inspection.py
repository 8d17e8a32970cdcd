"""What a scan's header says, and for some scans whether its voxels show a whole head."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from monai_vqbrain.cohorts import Problem, Scan
from monai_vqbrain.errors import UnusableImageError
from monai_vqbrain.progress import progress
from monai_vqbrain.stages.slicing.scan_slices import orientation_problem
from monai_vqbrain.stages.slicing.volume import (
    WholeHeadError,
    find_brain,
    is_oriented,
    open_volume,
    read_volume,
)

VOLUMES_INSPECTED = 5  # whose voxels decide what `auto` means: all volumes are treated alike


@dataclass(frozen=True)
class Inspection:
    """What was seen of a scan before it is sliced.

    Args:
        geometry: in words; empty where there is none.
        whole_head: it has a skull and no brain mask, as what comes from a scanner.
        counts: its voxels were read and hold a brain or a head, or it is taken for a head.
        problem: what is wrong with it.
        unaligned: what is wrong with it if it is not aligned.
    """

    geometry: str = ""
    whole_head: bool = False
    counts: bool = False
    problem: Problem | None = None
    unaligned: Problem | None = None


def inspect_scans(scans: Sequence[Scan]) -> list[Inspection]:
    """Inspect all scans, those that decide about the alignment with their voxels."""
    found: list[Inspection] = []
    for scan in progress(scans, "reading headers", len(scans)):
        counted = sum(one.counts for one in found)
        found.append(inspect_scan(scan, voxels=counted < VOLUMES_INSPECTED))
    return found


def inspect_first(scans: Iterable[Scan]) -> list[Inspection]:
    """Inspect scans with their voxels until enough are seen to decide about the alignment."""
    found: list[Inspection] = []
    for scan in scans:
        if sum(one.counts for one in found) >= VOLUMES_INSPECTED:
            break
        found.append(inspect_scan(scan, voxels=True))
    return found


def is_whole_head_cohort(inspections: Iterable[Inspection]) -> bool:
    """Whether most of the first volumes that hold a brain or a head are whole heads."""
    first = [one.whole_head for one in inspections if one.counts][:VOLUMES_INSPECTED]
    return sum(first) > len(first) / 2


def inspect_scan(scan: Scan, voxels: bool) -> Inspection:
    """Read a scan's header, and its voxels if asked.

    A DICOM series is taken for a whole head, as it comes from a scanner; nothing is converted.
    """
    if scan.form == "pictures":
        return Inspection(f"{len(scan.files)} pictures of slices")
    if scan.form == "dicom":
        geometry = f"{len(scan.files)} DICOM files, to be converted"
        return Inspection(geometry, whole_head=True, counts=True)
    seen = Inspection()
    try:
        seen = _read_header(scan)
        if voxels:
            find_brain(read_volume(scan.path), scan.mask_path, scan.space)
    except WholeHeadError as error:
        unaligned = Problem(scan.source, error.problem, error.advice)
        return replace(seen, whole_head=True, counts=True, unaligned=unaligned)
    except UnusableImageError as error:
        return Inspection(problem=Problem(scan.source, error.problem, error.advice))
    return replace(seen, counts=voxels)


def _read_header(scan: Scan) -> Inspection:
    image = open_volume(scan.path)
    if scan.mask_path is not None:
        open_volume(scan.mask_path)
    problem = None if is_oriented(image) else orientation_problem(scan)
    shape = " x ".join(map(str, image.shape[:3]))
    voxel = " x ".join(f"{size:.3g}" for size in image.header.get_zooms()[:3])
    return Inspection(f"{shape} voxels of {voxel} mm", problem=problem)
