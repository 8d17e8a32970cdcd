"""Slice grids against nibabel: a voxel's world coordinate survives to 0.01 mm."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from nibabel.processing import resample_from_to
from scipy.spatial.transform import Rotation

from monai_vqbrain.transforms.extent import brain_box, brain_extent
from monai_vqbrain.transforms.grid import (
    AXES,
    at_indices,
    from_top,
    sample_onto,
    slice_grid,
    spread,
)


def affine(directions: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """An affine with a brain's usual distances: the volume's middle near the world's origin."""
    result = np.eye(4)
    result[:3, :3] = directions * np.asarray(spacing)
    result[:3, 3] = np.array([3.0, -17.0, 9.0]) - result[:3, :3] @ [19.5, 21.5, 17.5]
    return result


def orientation(codes: str) -> np.ndarray:
    ornt = nib.orientations.axcodes2ornt(codes)
    return np.linalg.inv(nib.orientations.inv_ornt_aff(ornt, (1, 1, 1))[:3, :3])


OBLIQUE = Rotation.from_euler("xyz", [14, -9, 6], degrees=True).as_matrix()
SHAPE = (40, 44, 36)
AFFINES = {
    "RAS": affine(np.eye(3), (2.0, 2.0, 2.0)),
    "LAS": affine(np.diag([-1.0, 1.0, 1.0]), (2.0, 2.0, 2.0)),
    "PSR": affine(orientation("PSR"), (2.0, 2.0, 2.0)),
    "oblique": affine(OBLIQUE @ np.diag([-1.0, 1.0, 1.0]), (2.0, 2.0, 2.0)),
    "anisotropic": affine(np.eye(3), (1.0, 1.2, 4.0)),
    "oblique anisotropic PSR": affine(OBLIQUE @ orientation("PSR"), (1.1, 1.9, 3.0)),
}


def world(shape: tuple[int, ...], to_world: np.ndarray) -> np.ndarray:
    """(3, ...) the world coordinates of every voxel, mm."""
    voxels = np.indices(shape).reshape(3, -1)
    return (to_world[:3, :3] @ voxels + to_world[:3, 3:]).reshape(3, *shape)


def ellipsoid(to_world: np.ndarray) -> np.ndarray:
    """A brain-like mask well inside the volume."""
    radii = 0.36 * np.abs(to_world[:3, :3] @ np.diag(SHAPE)).max(axis=1)
    centre = to_world[:3, :3] @ (np.array(SHAPE) / 2) + to_world[:3, 3]
    offset = world(SHAPE, to_world) - centre[:, None, None, None]
    return ((offset / radii[:, None, None, None]) ** 2).sum(axis=0) < 1


@pytest.fixture(params=AFFINES, name="to_world")
def _to_world(request: pytest.FixtureRequest) -> np.ndarray:
    return AFFINES[request.param]


def test_the_builders_have_the_orientation_they_are_named_after() -> None:
    assert nib.aff2axcodes(AFFINES["LAS"]) == tuple("LAS")
    assert nib.aff2axcodes(AFFINES["PSR"]) == tuple("PSR")


@pytest.mark.parametrize("axis", AXES)
def test_a_voxels_world_coordinate_survives(axis: str, to_world: np.ndarray) -> None:
    mask = ellipsoid(to_world)
    extent = brain_extent(mask, to_world)
    grid = slice_grid(extent, axis, spread(*extent, axis, 5), (12, 10), 1.5)
    expected = world(grid.shape, grid.affine)
    for coordinate, here in zip(world(SHAPE, to_world), expected, strict=True):
        assert np.abs(sample_onto(coordinate, to_world, grid) - here).max() < 0.01


@pytest.mark.parametrize("order", [0, 1])
def test_resampling_agrees_with_nibabel(order: int, to_world: np.ndarray) -> None:
    noise = np.random.default_rng(0).integers(0, 255, SHAPE, dtype=np.uint8)
    extent = brain_extent(ellipsoid(to_world), to_world)
    grid = slice_grid(extent, "coronal", spread(*extent, "coronal", 4), (9, 11), 2.3)
    theirs = resample_from_to(
        nib.Nifti1Image(noise.astype(float), to_world), (grid.shape, grid.affine), order=order
    )
    assert np.abs(sample_onto(noise, to_world, grid, order) - theirs.get_fdata()).max() < 1e-3


def test_a_flip_is_only_a_change_of_storage() -> None:
    """Correlation would not notice a mirrored brain; equality with the canonical image does."""
    image = nib.Nifti1Image(np.random.default_rng(1).random(SHAPE), AFFINES["PSR"])
    canonical = nib.as_closest_canonical(image)
    extent = brain_extent(ellipsoid(AFFINES["PSR"]), AFFINES["PSR"])
    grid = slice_grid(extent, "axial", spread(*extent, "axial", 3), (20, 20), 2.0)
    stored = sample_onto(image.get_fdata(), image.affine, grid)
    assert np.allclose(
        stored, sample_onto(canonical.get_fdata(), canonical.affine, grid), atol=1e-6
    )


def test_a_grid_on_the_volumes_own_voxels_copies_them() -> None:
    volume = np.random.default_rng(2).random((8, 6, 5)).astype(np.float32)
    to_world = np.diag([0.7, 0.7, 0.7, 1.0])
    extent = (np.zeros(3), 0.7 * (np.array(volume.shape) - 1))
    grid = slice_grid(extent, "axial", 0.7 * np.arange(5), (8, 6), 0.7)
    assert np.allclose(grid.affine, to_world)
    assert np.allclose(sample_onto(volume, to_world, grid), volume, atol=1e-5)


def test_the_extent_is_that_of_all_voxels(to_world: np.ndarray) -> None:
    mask = ellipsoid(to_world)
    points = np.argwhere(mask) @ to_world[:3, :3].T + to_world[:3, 3]
    for memory in (mask, np.asfortranarray(mask), np.ascontiguousarray(mask.T).T):
        low, high = brain_extent(memory, to_world)
        assert np.allclose(low, points.min(axis=0))
        assert np.allclose(high, points.max(axis=0))


def test_stray_specks_do_not_count() -> None:
    mask = ellipsoid(AFFINES["RAS"])
    clean = brain_extent(mask, AFFINES["RAS"])
    mask[0, 0, 0] = mask[39, 20, 35] = mask[20, 20, 35] = True
    assert np.array_equal(brain_extent(mask, AFFINES["RAS"]), clean)


def test_a_brain_in_two_halves_stays_whole() -> None:
    mask = ellipsoid(AFFINES["RAS"])
    clean = brain_box(mask)
    mask[:, :, 17:19] = False
    assert brain_box(mask) == clean


def test_positions_below_the_top_and_their_place_in_the_brain() -> None:
    extent = (np.array([-70.0, -100.0, -50.0]), np.array([70.0, 75.0, 80.0]))
    grid = slice_grid(extent, "axial", from_top(*extent, "axial"))
    assert np.allclose(grid.positions_mm, 80 - 36 - 3.6 * np.arange(15, -1, -1))
    assert np.allclose(grid.positions_rel, (grid.positions_mm + 50) / 130)
    middle = np.array([127, 127, 0]) / 2
    assert np.allclose((grid.affine[:3, :3] @ middle + grid.affine[:3, 3])[:2], [0, -12.5])


@pytest.mark.parametrize(("axis", "middle"), [("coronal", -12.5), ("sagittal", 0.0)])
def test_positions_of_the_other_axes_lie_about_the_middle(axis: str, middle: float) -> None:
    low, high = np.array([-70.0, -100.0, -50.0]), np.array([70.0, 75.0, 80.0])
    positions = from_top(low, high, axis)
    assert positions.mean() == pytest.approx(middle)
    assert np.allclose(np.diff(positions), 3.6)


def test_positions_by_index_are_the_volumes_own_planes() -> None:
    extent = brain_extent(ellipsoid(AFFINES["LAS"]), AFFINES["LAS"])
    positions = at_indices([4, 6], extent, "sagittal", (AFFINES["LAS"], SHAPE))
    assert np.allclose(positions, AFFINES["LAS"][0, 3] - 2.0 * np.array([4, 6]))


EXTENT = (np.zeros(3), np.full(3, 100.0))
REFUSED = {
    "axis": (lambda: slice_grid(EXTENT, "oblique", np.arange(3)), "axis must be one of axial, "),
    "size": (
        lambda: slice_grid(EXTENT, "axial", np.arange(3), (0, 4)),
        "size must be two positive",
    ),
    "spacing": (
        lambda: slice_grid(EXTENT, "axial", np.arange(3), (4, 4), 0),
        "spacing must be pos",
    ),
    "uneven": (lambda: slice_grid(EXTENT, "axial", np.array([0, 1, 3])), "gaps of 1 to 2 mm: one"),
    "twice": (lambda: slice_grid(EXTENT, "axial", np.array([1, 1])), "must be evenly spaced"),
    "none": (lambda: slice_grid(EXTENT, "axial", np.array([])), "no slice position is left"),
    "count": (lambda: spread(*EXTENT, "axial", 0), "count must be at least 1, got 0"),
    "index": (
        lambda: at_indices([3, 50], EXTENT, "axial", (np.eye(4), (9, 9, 9))),
        "slices 0 to 8, got index 50",
    ),
    "empty": (lambda: brain_extent(np.zeros((3, 3, 3), dtype=bool), np.eye(4)), "mask is empty"),
    "flat": (lambda: brain_box(np.ones((3, 3), dtype=bool)), "has 3 dimensions here"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_said(case: str) -> None:
    act, words = REFUSED[case]
    with pytest.raises(ValueError, match=words):
        act()
