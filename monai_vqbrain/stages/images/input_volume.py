"""A volume as a network's input: all slices of its brain, and their inverse to its voxels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import nibabel as nib
import numpy as np

from monai_vqbrain.cohorts import Scan, read_cohort
from monai_vqbrain.cohorts.names import parse_name, stem
from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.stages.slicing.normalisation import Brain, Normalisation, normalise
from monai_vqbrain.stages.slicing.volume import open_volume
from monai_vqbrain.transforms import ExtractSlices, SliceGrid
from monai_vqbrain.transforms.brain_extraction import BY_TEMPLATE
from monai_vqbrain.transforms.brain_slices import brain_limits
from monai_vqbrain.transforms.extent import brain_box, brain_extent
from monai_vqbrain.transforms.grid import at_indices, put_back, world_axes
from monai_vqbrain.transforms.input_image import InputImage
from monai_vqbrain.transforms.intensity import to_unit
from monai_vqbrain.transforms.registration import KINDS
from monai_vqbrain.transforms.template import template_extent


@dataclass(frozen=True)
class SliceFrame:
    """How a run slices volumes; `reconstruct` and `score` store it in their provenance.

    Args:
        axis: "axial", "coronal" or "sagittal".
        size: (W, H) pixels.
        spacing: size of a pixel, mm.
        how: the normalisation of a volume before it is sliced.
        space: the template space of the slices; empty for each image's own space.
    """

    OPTIONS: ClassVar = ("axis", "size", "spacing", "align", "bias")  # those that it needs

    axis: str
    size: tuple[int, int]
    spacing: float
    how: Normalisation = field(default_factory=Normalisation)
    space: str = ""

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> SliceFrame:
        """The frame for the options in the provenance of `prepare`."""
        height, width = options["size"]
        align = options["align"] if options["align"] in KINDS else "none"
        normalisation = Normalisation(
            align,
            options["bias"],
            options.get("affine", "auto"),
            tuple(options.get("brain", BY_TEMPLATE)),
        )
        space = options.get("space", "")
        spacing = float(options["spacing"])
        return cls(options["axis"], (width, height), spacing, normalisation, space)


def read_input_volume(path: Path, frame: SliceFrame) -> InputImage:
    """Read a volume and slice all of its brain at its own slice distance, scaled as by `prepare`.

    Args:
        path: any 3D file that nibabel reads; `brain_mask_of` finds its brain mask.
        frame: how the run slices volumes.

    Raises:
        UnusableImageError: as `normalise`.
        ValueError: if the brain is empty or has no positive value.
    """
    image, mask_path = open_volume(path), brain_mask_of(path)
    normalised = normalise(path, frame.how, mask_path, space_of(path))
    volume, brain = normalised.volume, normalised.inside
    box = brain_box(brain)
    low, high = brain_limits(volume.array[box], brain[box])
    array = np.where(brain, volume.array - np.float32(low), np.float32(0)) if low else volume.array
    positions = own_positions(brain, volume.affine, frame.axis)
    extract = ExtractSlices(
        frame.axis,
        frame.size,
        frame.spacing,
        positions=positions,
        frame=template_extent() if frame.space else None,
    )
    stack = extract.stack(array[None], volume.affine, brain)
    unit = _stored_unit(image)
    return InputImage(
        slices=to_unit(stack.image[0], 0.0, high - low),
        mask=stack.mask[0],
        places=tuple(stack.place(index) for index in range(len(positions))),
        unit=to_unit(array, 0.0, high - low),
        brain=brain,
        limits=(low * unit, high * unit),
        back=lambda s: put_back(s, stack.grid.affine, volume.affine, brain.shape),
        like=image,
        mask_path=mask_path,
        notes=tuple(_remarks(normalised, share_outside(brain, volume.affine, stack.grid))),
    )


def space_of(path: Path) -> str:
    """The template space in a file's name (`space-MNI...`); empty if none.

    Example:
        >>> space_of(Path("sub-01_ses-M00_space-MNI152NLin2009cSym_res-1x1x1_T1w.nii.gz"))
        'MNI152NLin2009cSym'
    """
    match = re.search(r"space-(MNI[^_.]*)", path.name)
    return match.group(1) if match else ""


def own_positions(brain: np.ndarray, affine: np.ndarray, axis: str) -> np.ndarray:
    """Positions of the volume's own slices along an axis of world space, over the whole brain.

    Args:
        brain: (X, Y, Z) bool.
        affine: (4, 4), voxel -> world, mm, RAS.
        axis: "axial", "coronal" or "sagittal".

    Returns:
        (S,) mm, ascending, evenly spaced; the brain lies between the first and the last.

    Example:
        >>> brain = np.zeros((5, 5, 9), dtype=bool)
        >>> brain[1:4, 1:4, 2:6] = True
        >>> own_positions(brain, np.diag([1.0, 1.0, 1.5, 1.0]), "axial").tolist()
        [3.0, 4.5, 6.0, 7.5]
    """
    along = world_axes(axis)[2]
    extent = brain_extent(brain, affine)
    first, second = at_indices([0, 1], extent, axis, (affine, brain.shape))
    step = abs(second - first)
    low, high = ((end[along] - first) / step for end in extent)
    return np.asarray(first + step * np.arange(np.floor(low + 1e-6), np.ceil(high - 1e-6) + 1))


def share_outside(brain: np.ndarray, affine: np.ndarray, grid: SliceGrid) -> float:
    """Share of a brain's voxels outside the frame of a grid of slices, in [0, 1].

    Args:
        brain: (X, Y, Z) bool.
        affine: (4, 4), voxel -> world, mm, RAS.
        grid: the grid of the slices.
    """
    to_grid = np.linalg.inv(grid.affine) @ affine
    pixels = np.argwhere(brain) @ to_grid[:2, :3].T + to_grid[:2, 3]
    inside = (pixels >= -0.5) & (pixels <= np.array(grid.shape[:2]) - 0.5)
    return 1 - float(inside.all(axis=1).mean())


def brain_mask_of(path: Path) -> Path | None:
    """The brain mask of a volume, found as `prepare` would.

    It is `NAME_desc-brain_mask.nii[.gz]` beside the image, or the mask in `derivatives/` of its
    BIDS dataset; None if there is neither.
    """
    for name in dict.fromkeys((stem(path).removesuffix("_T1w"), stem(path))):
        for ending in (".nii.gz", ".nii"):
            beside = path.with_name(f"{name}_desc-brain_mask{ending}")
            if beside.is_file():
                return beside
    name_in_bids = parse_name(path)
    folders = {parent.name: parent for parent in path.absolute().parents}
    participant = folders.get(name_in_bids.participant_id) if name_in_bids else None
    return _masks_of_dataset(participant.parent).get(path.absolute()) if participant else None


@lru_cache(maxsize=4)
def _masks_of_dataset(root: Path) -> dict[Path, Path]:
    try:
        scans: tuple[Scan, ...] = read_cohort(root, "bids").scans
    except VQBrainError:
        return {}
    return {scan.path: scan.mask_path for scan in scans if scan.mask_path is not None}


def _stored_unit(image: Any) -> float:
    """The value of 1 in `read_volume`'s array in the file's units; integers are kept as stored."""
    proxy = image.dataobj
    if not isinstance(proxy, nib.arrayproxy.ArrayProxy) or proxy.inter or proxy.slope <= 0:
        return 1.0
    return float(proxy.slope)


def _remarks(normalised: Brain, outside: float) -> list[str]:
    notes = []
    if normalised.corrected:
        notes.append("the bias field was corrected; the reconstruction does not contain it")
    notes += [f"{problem}: {advice}" for problem, advice in normalised.volume.remarks]
    if outside > 0:
        share = f"{outside:.1%}" if outside >= 1e-3 else "under 0.1%"
        notes.append(f"{share} of the brain lies outside the run's frame and is not reconstructed")
    return notes
