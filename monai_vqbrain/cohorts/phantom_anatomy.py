"""The anatomy that simulated brains are made from: nilearn's MNI152 T1 and its ventricles.

All coordinates: MNI152 2009a as packaged by nilearn, skull-stripped, RAS, mm.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.float32]

ORIGIN = (-98.0, -134.0, -72.0)  # mm, of the template's first voxel
EXTENT = (197.0, 233.0, 189.0)  # mm, of the template's field of view
BRAIN = ((-88.0, 88.0), (-124.0, 90.0), (-72.0, 96.0))  # mm: the largest brain that is drawn
NEAR_VENTRICLES = (
    (-40.0, 40.0),
    (-55.0, 40.0),
    (-6.0, 32.0),
)  # mm: a box with no other large CSF region
REACH = 14.0  # mm from the ventricles over which tissue is displaced
MOST = 6  # mm, the largest stored displacement
STEP = 2  # mm, spacing of the stored displacements


@dataclass(frozen=True)
class Anatomy:
    """The template, prepared once for all simulated brains.

    Args:
        t1: (197, 233, 189) in [0, 1], 1 mm, 0 outside the brain.
        ventricles: the lateral ventricles on the same grid, 0 or 1.
        push: (MOST + 1, 3, *grid) mm: where the tissue at a point of the widened brain was before
            the ventricles were widened by 0, 1, ... MOST mm, as a displacement.
        corner: mm, the first point of the push's grid, which has a spacing of STEP mm.
    """

    t1: Floats
    ventricles: Floats
    push: Floats
    corner: tuple[float, ...]

    def widened_by(self, millimetres: float) -> Floats:
        """The push for any widening in 0..MOST mm: (3, *grid) mm."""
        low = min(int(millimetres), MOST - 1)
        part = np.float32(millimetres - low)
        return (1 - part) * self.push[low] + part * self.push[low + 1]


@functools.cache
def load_anatomy() -> Anatomy:
    """Read nilearn's template and find its ventricles; once per process."""
    from nilearn import datasets  # takes a second to import, only needed here

    t1 = datasets.load_mni152_template(resolution=1).get_fdata(dtype=np.float32)
    grey = datasets.load_mni152_gm_template(resolution=1).get_fdata(dtype=np.float32)
    white = datasets.load_mni152_wm_template(resolution=1).get_fdata(dtype=np.float32)
    ventricles = find_ventricles(t1, grey + white)
    push, corner = _push(ventricles)
    return Anatomy(t1, ventricles.astype(np.float32), push, corner)


def find_ventricles(t1: Floats, tissue: Floats) -> NDArray[np.bool_]:
    """The lateral ventricles of the template.

    Args:
        t1: the template, 1 mm, 0 outside the brain.
        tissue: probability of grey or white matter, [0, 1].

    Returns:
        The largest connected region near the centre in which there is little tissue.
    """
    near = tuple(
        slice(round(low - start), round(high - start))
        for (low, high), start in zip(NEAR_VENTRICLES, ORIGIN, strict=True)
    )
    fluid = np.zeros(t1.shape, bool)
    fluid[near] = (t1[near] > 0) & (tissue[near] < 0.5)
    labels, _ = ndimage.label(fluid)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax())


def _push(ventricles: NDArray[np.bool_]) -> tuple[Floats, tuple[float, ...]]:
    """Integrate a flow away from the ventricles backwards, and store its position after each mm.

    A flow never folds; a displacement along the normals would fold where the two ventricles, or two
    walls of one, are close to each other.
    """
    margin = round(2.2 * REACH)
    where = np.argwhere(ventricles)
    first = where.min(0) - margin
    box = tuple(slice(a, b) for a, b in zip(first, where.max(0) + margin, strict=True))
    inside = ventricles[box]
    distance = ndimage.distance_transform_edt(~inside) - ndimage.distance_transform_edt(inside)
    distance = ndimage.gaussian_filter(distance.astype(np.float32), 1.5)[::STEP, ::STEP, ::STEP]
    fall = np.exp(-np.square(np.maximum(distance, 0) / REACH))  # 1 at the wall, 0 at the box's rim
    flow = np.stack(np.gradient(distance, STEP)).astype(np.float32) * fall / STEP  # voxels per mm

    grid = np.indices(distance.shape, dtype=np.float32)
    steps_per_mm = 2
    here, kept = grid.copy(), [np.zeros_like(grid)]
    for _ in range(MOST):
        for _ in range(steps_per_mm):
            here -= sample(flow, here, mode="nearest") / steps_per_mm
        kept.append((here - grid) * STEP)
    return np.stack(kept), tuple(float(i + o) for i, o in zip(first, ORIGIN, strict=True))


def sample(fields: Floats, at: Floats, mode: str = "constant") -> Floats:
    """Linear interpolation of several fields.

    Args:
        fields: (C, X, Y, Z).
        at: (3, ...) voxels.
        mode: beyond the border, as in scipy.ndimage; 0 by default.

    Returns:
        (C, ...) float32.
    """
    out = np.empty((len(fields), *at.shape[1:]), np.float32)
    for field, target in zip(fields, out, strict=True):
        ndimage.map_coordinates(field, at, output=target, order=1, mode=mode)
    return out
