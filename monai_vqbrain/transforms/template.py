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
