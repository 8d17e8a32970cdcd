"""Whether slices of sampled volumes fit together: against scikit-image, and in extreme cases."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from made_run import decode, make_run
from skimage.metrics import structural_similarity

from monai_vqbrain.stages.reporting.coherence import compare_volumes, real_volumes, slice_ssim

SHAPE = (32, 32, 3)


def volume_file(path: Path, volume: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image((volume / 255).astype(np.float32), np.diag([1.8, 1.8, 3.6, 1])), path)
    return path


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, SHAPE, dtype=np.uint8)


def test_neighbours_are_compared_as_scikit_image_does() -> None:
    volume = noise(0)
    expected = [
        structural_similarity(
            volume[..., i], volume[..., i + 1], gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False, data_range=255, full=True,
        )[1].mean()
        for i in range(2)
    ]  # fmt: skip
    inside, whole = slice_ssim(volume, volume)
    assert whole == pytest.approx(np.mean(expected), abs=1e-4)
    assert inside == pytest.approx(whole, abs=0.01)  # noise is bright everywhere
    halves = volume.copy()
    halves[:16] = 0
    inside, whole = slice_ssim(halves, halves)
    assert whole > inside + 0.2  # where both are black they are alike


def test_slices_farther_apart_are_compared_with_each_other() -> None:
    volume = noise(0)
    volume[..., 2] = volume[..., 0]
    assert slice_ssim(volume, volume, distance=2)[1] == pytest.approx(1)
    assert slice_ssim(volume, volume)[1] < 0.5


def test_pairs_with_a_missing_slice_do_not_count() -> None:
    volume = noise(0)
    volume[..., 2] = 0
    there = np.array([True, True, False])
    assert slice_ssim(volume, volume, there)[1] == pytest.approx(
        slice_ssim(volume[..., :2], volume[..., :2])[1]
    )
    assert np.isnan(slice_ssim(volume, volume, ~there)).all()


def test_slices_that_fit_are_told_from_strangers(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", samples=False)
    steady = [np.repeat(noise(seed)[..., :1], 3, axis=2) for seed in range(3)]
    files = [volume_file(tmp_path / f"{i}.nii.gz", volume) for i, volume in enumerate(steady)]
    found = compare_volumes(run, files, decode, tmp_path / "cuts.png")
    assert set(found["distances"]) == {"1", "2"}  # of three slices
    for near in found["distances"].values():
        assert near["sampled"] == pytest.approx(1)
        assert near["strangers"] < 0.1
        assert near["sampled_whole"] == pytest.approx(1)
        assert 0 < near["real"] < 1
    assert found["compared"] == 3
    assert (tmp_path / "cuts.png").is_file()


def test_one_volume_has_no_strangers(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", samples=False)
    found = compare_volumes(
        run, [volume_file(tmp_path / "0.nii.gz", noise(0))], decode, tmp_path / "cuts.png"
    )
    assert found["distances"]["1"]["strangers"] is None


def test_real_volumes_are_whole_stacks_of_test_people(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", samples=False)
    volumes, there = real_volumes(run, decode, 3)
    assert volumes.shape == (3, 32, 32, 3)
    assert there.all()
    volumes, there = real_volumes(run, decode, 4)  # the fourth slice is empty
    assert there.tolist() == [[True, True, True, False]] * 3
    assert volumes[..., :3].any()
    assert not volumes[..., 3].any()
