"""The MNI152 template packaged with nilearn: version 2009a, skull-stripped, RAS."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from monai_vqbrain.transforms.extent import Extent, brain_extent
from monai_vqbrain.transforms.grid import read_at

SPACE = "MNI152NLin2009aSym"


@lru_cache(1)
def template_image() -> tuple[np.ndarray, np.ndarray]:
    """The template: (X, Y, Z) float32 at 1 mm, 0 outside the brain, and its affine."""
    from nilearn import datasets  # a second to import

    image = datasets.load_mni152_template(resolution=1)
    return np.asarray(image.dataobj, dtype=np.float32), np.asarray(image.affine, dtype=np.float64)


@lru_cache(1)
def template_brain() -> tuple[np.ndarray, np.ndarray]:
    """The template's brain mask: (X, Y, Z) bool at 1 mm, and its affine."""
    from nilearn import datasets

    mask = datasets.load_mni152_brain_mask(resolution=1)
    return np.asarray(mask.dataobj) > 0, np.asarray(mask.affine, dtype=np.float64)


def template_tissues(affine: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """The probabilities of the tissues on a grid in template space.

    Args:
        affine: (4, 4) of the grid, voxel -> MNI, mm.
        shape: (X, Y, Z) of the grid.

    Returns:
        (X, Y, Z, 3) float32: CSF, grey and white matter. CSF is what is neither within the brain
        mask; outside it all are 0.
    """
    from nilearn import datasets

    grey, white = datasets.load_mni152_gm_template(1), datasets.load_mni152_wm_template(1)
    maps = [
        read_at(
            np.asarray(image.dataobj, dtype=np.float32), np.linalg.inv(image.affine) @ affine, shape
        )
        for image in (grey, white)
    ]
    brain = brain_in_template_space(affine, shape)
    fluid = np.where(brain, 1 - maps[0] - maps[1], 0).clip(0, 1)
    return np.stack([fluid, *(np.where(brain, part, 0) for part in maps)], axis=-1)


@lru_cache(1)
def template_extent() -> Extent:
    """The lowest and the highest x, y, z of the template's brain, mm."""
    return brain_extent(*template_brain())


def brain_in_template_space(affine: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """The template's brain mask on the grid of a volume in its space.

    Args:
        affine: (4, 4) of the volume, voxel -> MNI, mm.
        shape: (X, Y, Z) of the volume.

    Returns:
        (X, Y, Z) bool, of the nearest voxel.
    """
    brain, own = template_brain()
    return read_at(brain, np.linalg.inv(own) @ affine, shape, order=0) > 0
