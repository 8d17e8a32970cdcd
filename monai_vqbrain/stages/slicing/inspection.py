"""Inspection of scans: headers, and for some scans whether the voxels show a whole head."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from nibabel.affines import voxel_sizes

from monai_vqbrain.cohorts import Problem, Scan
from monai_vqbrain.errors import UnusableImageError
from monai_vqbrain.progress import progress
from monai_vqbrain.stages.slicing.brain import WholeHeadError, find_brain
from monai_vqbrain.stages.slicing.geometry import affine_of_header, text_of_sizes
from monai_vqbrain.stages.slicing.normalisation import Normalisation
from monai_vqbrain.stages.slicing.volume import open_volume, read_volume

VOLUMES_INSPECTED = 5  # their voxels decide what `--align auto` means for all volumes


@dataclass(frozen=True)
class Inspection:
    """What is known about a scan before it is sliced.

    Args:
        geometry: a description of its voxels; empty if the header cannot be read.
        whole_head: it is not skull-stripped, has no brain mask, and is not in MNI space.
        counts: its voxels were read and contain a brain or a head, or it is assumed to be a head.
        problem: what is wrong with it.
    """

    geometry: str = ""
    whole_head: bool = False
    counts: bool = False
    problem: Problem | None = None


def inspect_scans(scans: Sequence[Scan], how: Normalisation) -> list[Inspection]:
    """Inspect all scans; read the voxels of those that decide on the alignment.

    Args:
        scans: the scans.
        how: how they are read, and their brains found.
    """
    inspections: list[Inspection] = []
    for scan in progress(scans, "reading headers", unit="volume"):
        counted = sum(inspection.counts for inspection in inspections)
        inspections.append(inspect_scan(scan, how, voxels=counted < VOLUMES_INSPECTED))
    return inspections


def inspect_first(scans: Iterable[Scan], how: Normalisation) -> list[Inspection]:
    """As `inspect_scans`, voxels included, until there are enough to decide on the alignment."""
    inspections: list[Inspection] = []
    for scan in scans:
        if sum(inspection.counts for inspection in inspections) >= VOLUMES_INSPECTED:
            break
        inspections.append(inspect_scan(scan, how, voxels=True))
    return inspections


def is_whole_head_cohort(inspections: Iterable[Inspection]) -> bool:
    """Whether most of the first volumes that count (`Inspection`) are whole heads."""
    first = [one.whole_head for one in inspections if one.counts][:VOLUMES_INSPECTED]
    return sum(first) > len(first) / 2


def inspect_scan(scan: Scan, how: Normalisation, voxels: bool) -> Inspection:
    """Read a scan's header and, on request, its voxels.

    A DICOM series is assumed to be a whole head; it is not converted.
    """
    if scan.form == "pictures":
        return Inspection(f"{len(scan.files)} pictures of slices")
    if scan.form == "dicom":
        geometry = f"{len(scan.files)} DICOM files, to be converted"
        return Inspection(geometry, whole_head=True, counts=True)
    inspection = Inspection()
    try:
        inspection = _read_header(scan, how.affine)
        if voxels:
            find_brain(read_volume(scan.path, how.affine), scan.mask_path, how.affine, how.brain)
    except WholeHeadError:  # in MNI space it need not be registered
        return replace(inspection, whole_head=not scan.space.startswith("MNI"), counts=True)
    except UnusableImageError as error:
        return Inspection(problem=Problem(scan.source, error.problem, error.advice))
    return replace(inspection, counts=voxels)


def _read_header(scan: Scan, affine: str) -> Inspection:
    image = open_volume(scan.path)
    if scan.mask_path is not None:
        affine_of_header(open_volume(scan.mask_path), affine)
    place, remarks = affine_of_header(image, affine)
    problem = next((Problem(scan.source, *remark) for remark in remarks), None)
    shape = " x ".join(map(str, image.shape[:3]))
    return Inspection(f"{shape} voxels of {text_of_sizes(voxel_sizes(place))} mm", problem=problem)
