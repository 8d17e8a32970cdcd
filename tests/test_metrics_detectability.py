"""The classifier two-sample test: fakes are distinguished, real slices are not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score

from monai_vqbrain.metrics.detectability import (
    PROTOCOL,
    Detector,
    PooledImages,
    _over_seeds,
    _Round,
    auc,
    augment,
    detectability,
    detectability_control,
    score,
    train_detector,
)

SHORT = replace(PROTOCOL, pooling=1, steps=80, batch=12)


def cohort(participants: int, each: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Ellipses of textured tissue, whose size and brightness are the participant's; and labels."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([f"{seed}-{i}" for i in range(participants)], each)
    x, y = np.meshgrid(np.linspace(-1, 1, 32), np.linspace(-1, 1, 32), indexing="ij")
    found = []
    for _ in range(participants):
        width, height, grey = rng.normal([0.6, 0.75, 0.6], [0.05, 0.05, 0.06])
        for _ in range(each):
            texture = gaussian_filter(rng.normal(size=x.shape), 0.8)
            found.append(((x / width) ** 2 + (y / height) ** 2 < 1) * (grey + 0.3 * texture))
    return np.clip(np.stack(found), 0, 1).astype(np.float32), labels


# --- the area under the curve --------------------------------------------------------------------


@pytest.mark.parametrize("levels", [3, 10_000], ids=["many ties", "few ties"])
def test_auc_equals_scikit_learn(levels: int) -> None:
    rng = np.random.default_rng(0)
    negative, positive = rng.integers(levels, size=80), rng.integers(levels, size=50) + levels // 5
    truth = np.repeat([0, 1], [80, 50])
    expected = roc_auc_score(truth, np.concatenate([negative, positive]))
    assert auc(negative, positive) == pytest.approx(expected)


def test_the_auc_of_drawn_groups_is_that_of_their_images() -> None:
    rng = np.random.default_rng(0)
    real, synthetic = rng.normal(size=30), rng.normal(0.5, 1, 20)
    group, block = np.arange(30) % 3, np.arange(20) % 4
    found = _Round.of((real, synthetic), group, block, 3, 4)
    drawn, blocks = np.array([2, 0, 1]), np.array([1, 1, 2, 0])
    expected = auc(np.repeat(real, drawn[group]), np.repeat(synthetic, blocks[block]))
    assert found.auc(drawn[None], blocks[None])[0] == pytest.approx(expected)


def test_the_interval_is_over_participants_not_over_slices() -> None:
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(10), 50)
    synthetic = rng.normal(size=400)
    widths = []
    for effect in (0.0, 1.0):
        real = effect * rng.normal(size=10)[group] + rng.normal(size=500)
        one = _Round.of((real, synthetic), group, np.arange(400) // 8, 10, 50)
        interval = _over_seeds([one], 0).auc
        assert interval.low < interval.value < interval.high
        assert (interval.participants, interval.images) == (10, 500)
        widths.append(interval.high - interval.low)
    assert widths[1] > 2 * widths[0]


# --- the test ------------------------------------------------------------------------------------


def fakes(kind: str, real: np.ndarray) -> np.ndarray:
    if kind == "blurred":
        return np.stack([gaussian_filter(image, 0.8) for image in real])
    if kind == "missing part":
        return np.where(np.arange(32)[:, None] > 20, 0, real).astype(np.float32)
    if kind == "contrast":
        return real**2
    return np.repeat(real[::48], 48, axis=0)  # mode collapse: two slices


@pytest.mark.parametrize(
    ("kind", "least"),
    [
        ("blurred", 0.9),
        ("missing part", 0.9),
        ("contrast", 0.9),
        ("mode collapse", 0.8),  # some held-out ellipses look like one of the two that remain
    ],
)
def test_fakes_are_told_from_real_slices(kind: str, least: float) -> None:
    training, held_out, source = (cohort(n, seed=s) for s, n in enumerate((16, 8, 12)))
    found = detectability(*training[:1], *held_out, fakes(kind, source[0]), (0,), SHORT)
    assert found.auc.value > least
    assert found.auc.low > 0.6
    assert found.samples == 48


def test_real_slices_of_other_participants_are_not_told_from_real_ones() -> None:
    """In expectation: two cohorts of 12 participants may differ by chance, and then show it."""
    protocol = replace(SHORT, steps=20)
    found = [
        detectability_control(*cohort(12, 4, 2 * s), *cohort(12, 4, 2 * s + 1), (s,), protocol).auc
        for s in range(8)
    ]
    assert 0.4 < np.mean([auc.value for auc in found]) < 0.6
    assert np.mean([auc.low < 0.5 < auc.high for auc in found]) > 0.7


def test_the_control_shows_that_the_two_sets_differ() -> None:
    """As when a VQ-VAE reconstructs its training participants sharper than others."""
    other, labels = cohort(12, seed=1)
    found = detectability_control(*cohort(12), fakes("blurred", other), labels, (0,), SHORT)
    assert found.auc.value > 0.9


def test_equal_seeds_give_equal_figures_and_leave_torchs_state_alone() -> None:
    training, held_out = cohort(4), cohort(3, seed=1)
    call = lambda: detectability(  # noqa: E731
        training[0], *held_out, fakes("blurred", training[0]), (5,), replace(SHORT, steps=5)
    )
    torch.manual_seed(1)
    first, state = call(), torch.get_rng_state()
    torch.manual_seed(2)
    assert call() == first
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)


def test_bytes_and_floats_are_the_same_slices() -> None:
    training, held_out = ((x * 255).astype(np.uint8) for x in (cohort(4)[0], cohort(3, seed=1)[0]))
    labels, short = cohort(3, seed=1)[1], replace(PROTOCOL, steps=5)
    as_bytes = detectability(training, held_out, labels, training, (0,), short)
    floats = [(x / 255).astype(np.float32) for x in (training, held_out)]
    as_floats = detectability(*floats, labels, floats[0], (0,), short)
    assert as_bytes.auc.value == pytest.approx(as_floats.auc.value, abs=0.01)


# --- its parts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", [1, 2])
def test_augmentation_shifts_mirrors_and_changes_brightness(pooling: int) -> None:
    image = torch.zeros(400, 1, 20, 16)
    image[:, 0, 6, 8] = 0.5
    moved = augment(image, torch.Generator().manual_seed(0), replace(PROTOCOL, pooling=pooling))
    _, _, columns, rows = (moved > 0).nonzero(as_tuple=True)
    reach = 4 // pooling
    shifts = set(range(-reach, reach + 1))
    assert set((rows - 8).tolist()) == shifts
    assert set(columns.tolist()) == {6 + s for s in shifts} | {13 + s for s in shifts}
    brightest = moved.amax(dim=(1, 2, 3))
    assert float(brightest.min()) == pytest.approx(0.45, abs=0.005)
    assert float(brightest.max()) == pytest.approx(0.55, abs=0.005)


def test_the_network_takes_any_size_and_scores_batch_after_batch() -> None:
    network = Detector().eval()
    images = torch.rand(300, 1, 20, 17)
    with torch.no_grad():
        np.testing.assert_allclose(score(network, images), network(images), atol=1e-5)


def test_images_are_pooled_as_they_are_taken() -> None:
    images = np.random.default_rng(0).integers(256, size=(9, 6, 8), dtype=np.uint8)
    odd = PooledImages.of(images, 2).take(np.arange(9) % 2 == 1)
    expected = images[1::2].reshape(4, 3, 2, 4, 2).mean(axis=(2, 4)) / 255
    np.testing.assert_allclose(odd[0:4][:, 0], expected, atol=1e-6)
    np.testing.assert_array_equal(odd[torch.tensor([3, 0, 3])], odd[0:4][[3, 0, 3]])
    assert len(odd) == 4


def test_training_takes_the_steps_of_the_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    forward = Detector.forward

    def noted(self: Detector, images: torch.Tensor) -> torch.Tensor:
        seen.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(Detector, "forward", noted)
    real, synthetic = torch.rand(5, 1, 32, 32), torch.rand(9, 1, 32, 32)
    train_detector(real, synthetic, 0, replace(PROTOCOL, steps=3))
    assert seen == [48, 48, 48]


IMAGES = np.zeros((4, 32, 32), dtype=np.uint8)
LABELS = list("aabb")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: auc(np.zeros(0), np.zeros(3)), "scores on both sides, not 0 and 3"),
        (lambda: detectability(IMAGES, IMAGES, LABELS, IMAGES[:1]), "and one seed, not 1 and 3"),
        (lambda: detectability(IMAGES, IMAGES, LABELS, IMAGES, ()), "and one seed, not 4 and 0"),
        (lambda: detectability(IMAGES, IMAGES, LABELS[:3], IMAGES), "each of 4 images, not shape"),
        (
            lambda: detectability_control(IMAGES, LABELS, IMAGES, ["a"] * 4),
            "at least two on each side and one seed, not 2, 1 and 3",
        ),
    ],
)
def test_what_cannot_be_tested_is_named(call: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()  # type: ignore[operator]
