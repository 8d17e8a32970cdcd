"""Trivial predictors, each against its plain definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_vqbrain.metrics import black, nearest, pooling, position_mean, ssim_brain
from monai_vqbrain.metrics.trivial import CHUNK


def slices(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 12), dtype=np.uint8)


def test_black_is_black() -> None:
    assert black(slices(3)).shape == (3, 8, 12)
    assert not black(slices(3)).any()


def test_position_mean_takes_the_training_slices_of_the_same_index() -> None:
    training, index = slices(5), np.array([0, 0, 1, 1, 4])
    found = position_mean(np.array([1, 0, 9]), training, index)
    np.testing.assert_allclose(found[0], training[2:4].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found[1], training[:2].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found[2], training[4])  # no participant has index 9: the closest


def test_nearest_equals_the_whole_distance_matrix_across_chunks() -> None:
    training, test = slices(CHUNK + 44), slices(7, seed=1)
    test[3] = training[CHUNK + 20]
    difference = test[:, None].astype(float) - training[None].astype(float)
    distance = np.sqrt((difference**2).mean(axis=(2, 3)))
    index, found = nearest(test, training)
    np.testing.assert_array_equal(index, distance.argmin(axis=1))
    np.testing.assert_allclose(found, distance.min(axis=1), rtol=1e-5)
    assert found[3] == 0


def test_nearest_takes_the_first_of_equals() -> None:
    index, _ = nearest(slices(1), np.concatenate([slices(1)] * 3))
    assert index[0] == 0


def test_pooling_keeps_flat_images_and_the_shape() -> None:
    flat = np.full((2, 10, 13), 0.25, dtype=np.float32)
    np.testing.assert_allclose(pooling(flat, 4), flat, atol=1e-6)


def test_pooling_by_one_changes_nothing() -> None:
    images = slices(2).astype(np.float32)
    np.testing.assert_allclose(pooling(images, 1), images, atol=1e-3)


def test_pooling_forgets_what_is_finer_than_a_cell() -> None:
    stripes = np.tile(np.array([0, 1], dtype=np.float32), (1, 16, 8))
    np.testing.assert_allclose(pooling(stripes, 2), 0.5, atol=1e-6)


def test_a_better_predictor_scores_higher() -> None:
    x = np.linspace(0, 6, 32)
    target = (0.5 + 0.3 * np.outer(np.sin(x), np.cos(1.3 * x)))[None].astype(np.float32)
    mask = torch.ones(1, 1, 32, 32, dtype=torch.bool)
    images = (black(target), pooling(target, 8), pooling(target, 4))
    scores = [
        float(ssim_brain(torch.from_numpy(i)[None], torch.from_numpy(target)[None], mask)[0])
        for i in images
    ]
    assert scores == sorted(scores)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: nearest(slices(1), slices(0)), "no training slices to predict from"),
        (lambda: position_mean(np.zeros(1), slices(0), np.zeros(0)), "no training slices"),
        (lambda: pooling(slices(1), 0), "pooling factor must be 1 or more, not 0"),
    ],
)
def test_what_cannot_be_is_named(call: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()  # type: ignore[operator]
