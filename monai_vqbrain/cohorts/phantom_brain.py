"""One simulated brain: arrays and random generators in, arrays out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage

from monai_vqbrain.cohorts.phantom_anatomy import (
    BRAIN,
    EXTENT,
    MOST,
    ORIGIN,
    STEP,
    Floats,
    load_anatomy,
    sample,
)

BENDS = ((45.0, 2.5), (16.0, 0.9))  # (distance of knots, size of displacements), mm
TISSUES = (0.0, 0.34, 0.65, 0.87, 1.0)  # the template's air, CSF, grey and white matter, brightest


@dataclass(frozen=True)
class Body:
    """The shape of a participant's brain, the same at every visit.

    Args:
        matrix: (3, 3), from the participant's mm to the template's, about the template's origin.
        bends: for each of BENDS, (3, knots, knots, knots) mm.
    """

    matrix: Floats
    bends: tuple[Floats, ...]


@dataclass(frozen=True)
class Phantom:
    """A simulated T1 volume and its ground truth.

    Args:
        volume: uint8; without skull 0 is the background, and only the background.
        affine: (4, 4), voxels to mm, RAS.
        ventricle_volume_ml: the lateral ventricles' volume.
    """

    volume: NDArray[np.uint8]
    affine: NDArray[np.float64]
    ventricle_volume_ml: float


def draw_body(rng: Generator, size: float = 1.0) -> Body:
    """Draw a participant's global shape (scale, shear) and smooth deformation.

    Args:
        rng: the participant's generator.
        size: mean size of the head along an axis, relative to the template's.
    """
    scale = size * rng.normal(1, 0.02) * rng.normal(1, 0.015, 3)
    shape = np.diag(np.clip(scale, 0.9, 1.08)) + np.triu(rng.normal(0, 0.02, (3, 3)), 1)
    bends = tuple(
        rng.normal(0, size_mm, (3, *_knots(distance))).astype(np.float32)
        for distance, size_mm in BENDS
    )
    return Body(np.linalg.inv(shape).astype(np.float32), bends)


def phantom_brain(
    body: Body, widening_mm: float, rng: Generator, resolution_mm: float = 2.0, skull: bool = False
) -> Phantom:
    """Simulate one scan of a body.

    Args:
        body: of the participant.
        widening_mm: displacement of the walls of the lateral ventricles, outwards, 0..6 mm.
        rng: of this scan: contrast, bias field, noise.
        resolution_mm: edge of a voxel.
        skull: simulate skull and scalp, and noise in the air around.

    Returns:
        The volume, in RAS, its affine, and the true volume of the ventricles.

    Raises:
        ValueError: if widening_mm or resolution_mm is out of range.
    """
    if not 0 <= widening_mm <= MOST:
        raise ValueError(f"widening_mm is {widening_mm}: choose 0 to {MOST}")
    if not 0.5 <= resolution_mm <= 8:
        raise ValueError(f"resolution_mm is {resolution_mm}: choose 0.5 to 8")
    shape = tuple(int(extent // resolution_mm) for extent in EXTENT)
    affine = np.diag([resolution_mm] * 3 + [1.0])
    affine[:3, 3] = ORIGIN

    box = _box(shape, resolution_mm)
    axes = [  # mm along x, y and z
        np.arange(n, dtype=np.float32) * np.float32(resolution_mm) + np.float32(start)
        for n, start in zip(shape, ORIGIN, strict=True)
    ]
    inner = [axis[part] for axis, part in zip(axes, box, strict=True)]
    tissue, ventricles = _look_up(body, widening_mm, inner)
    head = np.zeros(shape, np.float32)
    head[box] = _contrast(tissue, rng)
    brain = head > 0
    if skull:
        _add_skull(head, brain, axes, rng)
    volume = _acquire(head, None if skull else brain, axes, rng)
    return Phantom(volume, affine, float(ventricles.sum()) * resolution_mm**3 / 1000)


def smooth_field(knots: Floats, positions: Sequence[Floats]) -> Floats:
    """A smooth field on a grid from a few knots spread evenly over the template's field of view.

    Args:
        knots: (C, a, b, c).
        positions: mm along x, y and z.

    Returns:
        (C, X, Y, Z) float32.
    """
    field = knots
    for axis, (mm, start, extent) in enumerate(zip(positions, ORIGIN, EXTENT, strict=True), 1):
        count = knots.shape[axis]
        at = (mm - start) / extent * (count - 1)
        weights = np.stack(  # (points, knots): the weight of each knot at each point
            [ndimage.map_coordinates(one, [at], order=3, mode="mirror") for one in np.eye(count)], 1
        ).astype(np.float32)
        field = np.moveaxis(np.tensordot(field, weights, (axis, 1)), -1, axis)
    return np.ascontiguousarray(field)


def _knots(distance_mm: float) -> tuple[int, ...]:
    return tuple(round(extent / distance_mm) + 1 for extent in EXTENT)


def _box(shape: Sequence[int], resolution_mm: float) -> tuple[slice, ...]:
    """The part of the grid that can contain brain, which limits the computation."""
    return tuple(
        slice(
            max(0, int((low - start) / resolution_mm)), min(n, int((high - start) / resolution_mm))
        )
        for n, (low, high), start in zip(shape, BRAIN, ORIGIN, strict=True)
    )


def _look_up(body: Body, widening_mm: float, axes: Sequence[Floats]) -> tuple[Floats, Floats]:
    """The template's T1 and ventricles at the origin of each voxel."""
    anatomy = load_anatomy()
    points = np.stack(np.meshgrid(*axes, indexing="ij"))  # (3, X, Y, Z), the participant's mm
    points = np.tensordot(body.matrix, points, 1)
    for bend in body.bends:
        points += smooth_field(bend, axes)  # the template's mm, ventricles widened

    push = anatomy.widened_by(widening_mm)
    corner = np.reshape(anatomy.corner, (3, 1, 1, 1)).astype(np.float32)
    near = ndimage.find_objects(_within(points, corner, push.shape[1:]))[0]
    part = (slice(None), *near)
    points[part] += sample(push, (points[part] - corner) / STEP)

    points -= np.reshape(ORIGIN, (3, 1, 1, 1)).astype(np.float32)  # the template's voxels, 1 mm
    tissue = sample(anatomy.t1[None], points)[0]
    return tissue, sample(anatomy.ventricles[None], points[part])[0]


def _within(points: Floats, corner: Floats, grid: Sequence[int]) -> NDArray[np.uint8]:
    size = np.reshape(grid, (3, 1, 1, 1)).astype(np.float32) * STEP
    inside = (points >= corner) & (points <= corner + size)
    return np.asarray(inside.all(0), np.uint8)


def _contrast(tissue: Floats, rng: Generator) -> Floats:
    """Another scanner's T1 contrast: a monotone map that keeps air at 0."""
    fluid, grey, white = rng.uniform([0.14, 0.48, 0.80], [0.24, 0.58, 0.88])
    mapped = np.interp(tissue, TISSUES, (0, fluid, grey, white, white + 0.1)).astype(np.float32)
    mapped[tissue < 0.15] = 0  # half a voxel of brain at most
    return mapped


def _add_skull(
    head: Floats, brain: NDArray[np.bool_], axes: Sequence[Floats], rng: Generator
) -> None:
    """Layers of roughly even thickness around the brain: fluid, bone, scalp."""
    mm = float(axes[0][1] - axes[0][0])
    depth = ndimage.distance_transform_edt(~brain, sampling=mm).astype(np.float32)  # mm from brain
    depth = ndimage.gaussian_filter(depth, 4 / mm)  # a head is smoother than a brain
    depth *= 1 + 0.08 * smooth_field(rng.normal(0, 1, (1, 6, 6, 6)).astype(np.float32), axes)[0]
    layers = np.interp(depth, (3, 4, 8, 9.5, 13.5, 15), (0.16, 0.05, 0.05, 0.9, 0.75, 0))
    np.copyto(head, layers, where=~brain, casting="same_kind")


def _acquire(
    head: Floats, brain: NDArray[np.bool_] | None, axes: Sequence[Floats], rng: Generator
) -> NDArray[np.uint8]:
    """Bias field, noise, 8 bits; 0 outside a given brain and only there."""
    bias = smooth_field(rng.normal(0, 0.08, (1, 4, 4, 4)).astype(np.float32), axes)[0]
    noise = rng.standard_normal(head.shape, dtype=np.float32)
    noise *= np.float32(rng.uniform(0.012, 0.025))
    signal = np.abs(head * np.exp(bias) + noise) * 220  # a magnitude image has no negative values
    volume = np.clip(np.rint(signal), 0, 255).astype(np.uint8)
    if brain is not None:
        np.maximum(volume, 1, out=volume)
        volume[~brain] = 0
    return volume
