"""Mirrored samples: a side that real slices share is learnt, one that they do not share is not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from sklearn.linear_model import Ridge

from monai_vqbrain.metrics.laterality import RIDGE, _differences, count_mirrored, fit_laterality


def brains(count: int, seed: int = 0, torque: float = 0.06, noise: float = 0.1) -> np.ndarray:
    """Ellipses whose right front and left back reach further by `torque`; (N, 64, 72) in [0, 1]."""
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.linspace(-1, 1, 64), np.linspace(-1, 1, 72), indexing="ij")
    found = []
    for _ in range(count):
        width, height = rng.normal([0.65, 0.8], 0.03)
        reach = width * (1 + rng.normal(torque, 0.02) * np.sign(x * y))
        texture = gaussian_filter(rng.normal(size=x.shape), 2) * 4 * noise
        found.append(((x / reach) ** 2 + (y / height) ** 2 < 1) * (0.6 + texture))
    return np.clip(np.stack(found), 0, 1).astype(np.float32)


def test_the_weights_are_those_of_scikit_learns_ridge_regression() -> None:
    images = brains(60)
    x = _differences(images).astype(float)
    penalty = RIDGE * (x**2).sum() / len(x)
    expected = Ridge(alpha=penalty, fit_intercept=False).fit(x, np.ones(len(x)))
    np.testing.assert_allclose(fit_laterality(images).weights, expected.coef_, atol=1e-8)


@pytest.mark.parametrize("mirrored", [0.0, 0.5, 1.0])
def test_the_share_of_mirrored_samples_is_found(mirrored: float) -> None:
    fitted, samples, held_out = fit_laterality(brains(80)), brains(100, 1), brains(100, 2)
    flipped = int(100 * mirrored)
    samples[:flipped] = samples[:flipped, ::-1]
    found = count_mirrored(fitted, samples, held_out, [str(i // 10) for i in range(100)])
    assert found.share == pytest.approx(mirrored, abs=0.05)
    assert found.low - 1e-9 <= found.share <= found.high + 1e-9
    assert found.real_low <= found.real_share <= found.real_high < 0.1


def test_without_a_side_half_of_real_slices_look_mirrored() -> None:
    fitted = fit_laterality(brains(80, torque=0.0))
    held_out = brains(200, 1, torque=0.0)
    found = count_mirrored(fitted, held_out[:, ::-1], held_out, [str(i) for i in range(200)])
    assert 0.35 < found.real_share < 0.65


def test_a_mirrored_slice_has_the_opposite_score_wherever_the_brain_lies() -> None:
    fitted, images = fit_laterality(brains(40)), brains(10, 1)
    scores = fitted.score(images)
    assert (scores > 0).all()
    np.testing.assert_allclose(fitted.score(images[:, ::-1]), -scores, atol=1e-5)
    np.testing.assert_allclose(fitted.score(np.roll(images, 4, axis=1)), scores, atol=1e-5)


def test_bytes_are_the_same_slices_and_brightness_does_not_change_the_side() -> None:
    fitted, images = fit_laterality(brains(40)), brains(30, 1)
    as_bytes = np.rint(images * 255).astype(np.uint8)
    np.testing.assert_allclose(fitted.score(as_bytes), fitted.score(images), atol=0.01)
    assert (fitted.score(images * 0.7) > 0).all()


def test_a_slice_without_brain_has_no_side() -> None:
    assert fit_laterality(brains(20)).score(np.zeros((2, 64, 72))).tolist() == [0, 0]


def test_symmetric_slices_count_half() -> None:
    half = brains(8)[:, :32]
    symmetric = np.concatenate([half, half[:, ::-1]], axis=1)
    found = count_mirrored(fit_laterality(symmetric), brains(4), symmetric, list("aabbccdd"))
    assert (found.share, found.real_share) == (0.5, 0.5)


def test_a_share_of_no_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one sample, not 0"):
        count_mirrored(fit_laterality(brains(4)), brains(4)[:0], brains(4), list("abcd"))
