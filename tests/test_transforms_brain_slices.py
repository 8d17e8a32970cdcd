"""Slices of one brain in [0, 1], compared with nibabel and NumPy."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from nibabel.processing import resample_from_to

from monai_vqbrain.transforms import ExtractSlices
from monai_vqbrain.transforms.brain_slices import FLOOR_PERCENTILE, brain_limits, brain_slices

SHAPE = (30, 34, 32)
EXTRACT = ExtractSlices(size=(24, 20), spacing=1.5, count=5)
AFFINE = nib.affines.from_matvec(
    nib.eulerangles.euler2mat(0.1, -0.15, 0.2) @ np.diag([-1.5, 1.2, 1.8]), [20.0, -31.0, 7.0]
)


def brain() -> np.ndarray:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[4:26, 5:30, 3:29] = True
    return mask


def counts() -> np.ndarray:
    """Positive integers in the brain, 0 outside."""
    values = np.random.default_rng(0).integers(100, 900, SHAPE)
    return np.where(brain(), values, 0).astype(np.int16)


def z_scores() -> np.ndarray:
    values = counts()[brain()]
    scores = np.zeros(SHAPE, dtype=np.float32)
    scores[brain()] = (values - values.mean()) / values.std()
    return scores


def scaled_by_numpy(array: np.ndarray, low: float) -> np.ndarray:
    """The volume itself in [0, 1], 0 outside the brain; not clipped at 1."""
    high = np.percentile(array[brain()], 99.5)
    return np.where(brain(), (array - low) / (high - low), 0.0)


@pytest.mark.parametrize("kind", ["counts", "z-scores"])
def test_slices_are_those_of_nibabel_scaled_by_numpy(kind: str) -> None:
    array = counts() if kind == "counts" else z_scores()
    low = 0.0 if kind == "counts" else np.percentile(array[brain()], FLOOR_PERCENTILE)
    before = array.copy()
    stack = brain_slices(array, AFFINE, brain(), EXTRACT)
    volume = nib.Nifti1Image(scaled_by_numpy(array, float(low)), AFFINE)
    theirs = resample_from_to(volume, (stack.grid.shape, stack.grid.affine), order=1).get_fdata()
    assert np.abs(stack.image[0] - theirs.clip(0, 1)).max() < 1e-4
    assert stack.image.min() == 0
    assert 0.8 < stack.image.max() <= 1
    assert np.array_equal(array, before)


def test_masks_and_grid_are_those_of_the_brain() -> None:
    stack = brain_slices(counts(), AFFINE, brain(), EXTRACT)
    direct = EXTRACT.stack(counts()[None], AFFINE, brain())
    assert np.array_equal(stack.mask, direct.mask)
    assert np.allclose(stack.grid.affine, direct.grid.affine)
    assert np.allclose(stack.grid.positions_mm, direct.grid.positions_mm)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_limits_without_negative_values_are_0_and_a_percentile(dtype: type) -> None:
    array = (counts() // 4).astype(dtype)
    low, high = brain_limits(array, brain())
    assert low == 0
    assert high == pytest.approx(np.percentile(array[brain()], 99.5), rel=1e-6)


@pytest.mark.parametrize(("share", "centred"), [(0.009, False), (0.011, True)])
def test_more_than_1_percent_of_negative_voxels_lowers_the_floor(
    share: float, centred: bool
) -> None:
    array = counts()
    voxels = np.flatnonzero(brain())
    array.flat[voxels[: int(share * len(voxels))]] = -50
    low, high = brain_limits(array, brain())
    assert high == pytest.approx(np.percentile(array[brain()], 99.5))
    expected = np.percentile(array[brain()], FLOOR_PERCENTILE) if centred else 0
    assert low == pytest.approx(expected)


def test_stray_specks_do_not_set_the_scale() -> None:
    array, mask = counts(), brain()
    mask[0, 0, 0], array[0, 0, 0] = True, 30_000
    with_speck = brain_slices(array, AFFINE, mask, EXTRACT)
    without = brain_slices(counts(), AFFINE, brain(), EXTRACT)
    assert np.array_equal(with_speck.image, without.image)


def test_a_brain_without_positive_values_is_refused() -> None:
    with pytest.raises(ValueError, match="the brain mask is empty: not one voxel is set"):
        brain_slices(counts(), AFFINE, np.zeros(SHAPE, dtype=bool), EXTRACT)
    with pytest.raises(ValueError, match="the brain mask is empty: there is nothing to take"):
        brain_limits(counts(), np.zeros(SHAPE, dtype=bool))
    with pytest.raises(ValueError, match=r"99\.5th percentile is 0, not above 0: the image is"):
        brain_slices(np.zeros(SHAPE, dtype=np.uint8), AFFINE, brain(), EXTRACT)
