"""KID, coverage and their like: equal to their oracles, and wary of the traps of this field."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from prdc import compute_prdc
from scipy.linalg import sqrtm
from torchmetrics.image.kid import poly_mmd

from monai_vqbrain.metrics import distribution
from monai_vqbrain.metrics.bootstrap import balanced
from monai_vqbrain.metrics.distribution import (
    blurred_images,
    floor,
    frechet_distance,
    kernel_sums,
    kid,
    kid_interval,
    neighbours,
    noise_images,
    repeated_image,
)


def gaussians(n: int, d: int = 16, seed: int = 0, mean: float = 0.0, sd: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, sd, (n, d)).astype(np.float32)


def cohort(
    participants: int, each: int, seed: int = 0, d: int = 16
) -> tuple[np.ndarray, np.ndarray]:
    """Slices that resemble those of their participant: random effects plus noise; and labels."""
    labels = np.repeat(np.arange(participants), each)
    effects = gaussians(participants, d, seed)
    return effects[labels] + gaussians(len(labels), d, seed + 1, sd=0.3), labels


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks of rows, the last one shorter, at the sizes of tests too."""
    monkeypatch.setattr(distribution, "BLOCK", 70)


# --- oracles -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mean", "sd"), [(0, 1), (0.5, 1), (0, 2)])
def test_kid_equals_torchmetrics(mean: float, sd: float) -> None:
    real, synthetic = gaussians(150), gaussians(150, seed=1, mean=mean, sd=sd)
    expected = poly_mmd(torch.from_numpy(real).double(), torch.from_numpy(synthetic).double())
    assert kid(real, synthetic) == pytest.approx(float(expected), rel=1e-4, abs=1e-6)


def test_kid_of_unequal_numbers_equals_its_definition() -> None:
    x, y = gaussians(90).astype(float), gaussians(40, seed=1, mean=0.3).astype(float)
    kernels = [(a @ b.T / 16 + 1) ** 3 for a, b in ((x, x), (y, y), (x, y))]
    same = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in kernels[:2]]
    assert kid(x, y) == pytest.approx(sum(same) - 2 * kernels[2].mean(), rel=1e-4)


@pytest.mark.parametrize("sd", [0.5, 1.0, 1.5])
@pytest.mark.parametrize("k", [1, 5])
def test_density_coverage_precision_and_recall_equal_prdc(sd: float, k: int) -> None:
    real, synthetic = gaussians(300), gaussians(300, seed=1, sd=sd)
    found = neighbours(real, synthetic, k)
    expected = compute_prdc(real.astype(float), synthetic.astype(float), nearest_k=k)
    assert {name: getattr(found, name) for name in expected} == pytest.approx(expected)


def test_frechet_distance_equals_scipy() -> None:
    x, y = gaussians(200), gaussians(150, seed=1, mean=0.2, sd=1.3)
    first, second = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    shift = ((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum()
    expected = shift + np.trace(first + second - 2 * sqrtm(first @ second).real)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-4)


def test_frechet_distance_of_few_images_is_mostly_bias() -> None:
    few = frechet_distance(gaussians(50), gaussians(50, seed=1))
    many = frechet_distance(gaussians(5000), gaussians(5000, seed=1))
    assert few > 20 * many


# --- the traps -----------------------------------------------------------------------------------


def test_recall_rises_when_diversity_is_removed_and_coverage_falls() -> None:
    """Nearly all samples are the same; a few odd ones have radii that reach everything."""
    real = gaussians(400)
    varied = neighbours(real, gaussians(400, seed=1))
    samples = gaussians(400, seed=2, sd=0.05)
    samples[:20] = gaussians(20, seed=3, sd=3.0)
    collapsed = neighbours(real, samples)
    assert collapsed.recall > varied.recall + 0.1
    assert collapsed.coverage < varied.coverage - 0.3


def test_coverage_would_inflate_with_more_synthetic_images_so_equal_n_is_enforced() -> None:
    real, synthetic = gaussians(200), gaussians(4000, seed=1, sd=1.5)
    equal = neighbours(real, synthetic[:200]).coverage
    inflated = compute_prdc(real.astype(float), synthetic.astype(float), nearest_k=5)["coverage"]
    assert inflated > equal + 0.1
    with pytest.raises(ValueError, match="give equally many, not 200 real and 4000 synthetic ones"):
        neighbours(real, synthetic)


def test_a_floor_from_halves_of_images_is_zero_by_construction() -> None:
    features, labels = cohort(20, 25)
    shuffled = np.random.default_rng(0).permutation(len(features))
    halves_of_images = kid(features[shuffled[::2]], features[shuffled[1::2]])
    by_participants = floor(features, labels)
    assert halves_of_images < 0.01
    assert by_participants.value > 20 * abs(halves_of_images)
    assert by_participants.low > 0


def test_the_floor_is_kid_of_person_disjoint_halves() -> None:
    features, labels = cohort(4, 10)
    pairs = [kid(*(features[np.isin(labels, half)] for half in ([0, b], rest)))
             for b, rest in ((1, [2, 3]), (2, [1, 3]), (3, [1, 2]))]  # fmt: skip
    shuffled = np.random.default_rng(1).permutation(len(labels))
    found = floor(features[shuffled], labels[shuffled])
    assert min(pairs) == pytest.approx(found.low, rel=1e-3)
    assert max(pairs) == pytest.approx(found.high, rel=1e-3)
    assert found.value == pytest.approx(np.median(pairs), rel=1e-3)


def test_500_slices_of_17_participants_are_not_500_slices_of_400() -> None:
    synthetic = cohort(500, 1, seed=7)[0]
    widths, floors = [], []
    for participants, each in ((17, 30), (400, 2)):
        real, labels = cohort(participants, each, seed=3)
        chosen = balanced(labels, 500)
        found = kid_interval(kernel_sums(real[chosen], synthetic, labels[chosen]))
        assert (found.participants, found.images) == (participants, 500)
        assert found.low < found.value < found.high
        widths.append(found.high - found.low)
        floors.append(floor(real[chosen], labels[chosen]).value)
    assert widths[0] > 2 * widths[1]
    assert floors[0] > 5 * abs(floors[1])


def test_a_replicate_does_not_compare_a_participant_with_the_copy() -> None:
    """Otherwise every replicate would be more alike within itself than any real set of images."""
    real, labels = cohort(40, 3)
    found = kid_interval(kernel_sums(real, cohort(120, 1, seed=9)[0], labels))
    assert found.low < found.value < found.high


def test_kid_when_each_is_drawn_once_or_left_out_is_kid_of_those_images() -> None:
    real, labels = cohort(6, 5)
    synthetic = gaussians(30, seed=5)
    sums = kernel_sums(real, synthetic, labels)
    drawn = np.array([[1, 1, 1, 1, 1, 1], [1, 0, 1, 1, 0, 0]])
    kept = real[np.isin(labels, [0, 2, 3])]
    expected = [kid(real, synthetic), kid(kept, synthetic)]
    once = np.ones((2, len(sums.samples)), dtype=int)
    np.testing.assert_allclose(sums.kid(drawn, once), expected, rtol=1e-4)


def test_labels_may_come_in_any_order() -> None:
    real, labels = cohort(6, 5)
    synthetic = gaussians(30, seed=5)
    shuffled = np.random.default_rng(0).permutation(len(labels))
    first = kernel_sums(real, synthetic, labels)
    second = kernel_sums(real[shuffled], synthetic, labels[shuffled].astype(str))
    np.testing.assert_allclose(first.cross, second.cross, rtol=1e-4)


def test_a_paired_comparison_is_narrower_than_two_intervals() -> None:
    real, labels = cohort(20, 20)
    near, far = (kernel_sums(real, gaussians(400, seed=s, mean=m), labels)
                 for s, m in ((5, 0.3), (6, 0.4)))  # fmt: skip
    difference = kid_interval(far, other=near)
    assert difference.value == pytest.approx(float(far.kid()[0] - near.kid()[0]))
    alone = [kid_interval(x) for x in (near, far)]
    assert difference.high - difference.low < sum(x.high - x.low for x in alone)
    assert difference.low > 0


def test_intervals_over_participants_hold_the_value() -> None:
    real, labels = cohort(30, 10)
    found = neighbours(real, cohort(300, 1, seed=5)[0])
    for name in ("coverage", "density", "recall"):
        interval = getattr(found, f"{name}_interval")(labels)
        assert interval.value == pytest.approx(getattr(found, name))
        assert interval.participants == 30
    assert found.precision_interval().value == pytest.approx(found.precision)


def test_copies_and_one_repeated_image_have_defined_values() -> None:
    real = gaussians(100)
    repeated = np.repeat(real[:1], 100, axis=0)
    assert neighbours(real, repeated).coverage < 0.2
    assert neighbours(real, real).coverage == 1


# --- ceilings, cost and errors -------------------------------------------------------------------


def test_ceilings_keep_the_shape_and_the_range() -> None:
    images = np.random.default_rng(0).random((6, 20, 24), dtype=np.float32)
    for made in (noise_images(images), blurred_images(images), repeated_image(images)):
        assert made.shape == images.shape
        assert made.dtype == np.float32
        assert 0 <= made.min() <= made.max() <= 1
    assert blurred_images(images).std() < 0.3 * images.std()
    assert (repeated_image(images) == repeated_image(images)[0]).all()
    assert any(np.array_equal(repeated_image(images)[0], image) for image in images)
    np.testing.assert_array_equal(noise_images(images, 1), noise_images(images, 1))


def test_memory_does_not_grow_with_the_square_of_the_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, synthetic = gaussians(3000), gaussians(3000, seed=1)
    heights = []

    def note(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        heights.append(len(x))
        return x @ y

    monkeypatch.setattr(torch, "mm", note)
    tracemalloc.start()
    kernel_sums(real, synthetic, np.arange(3000) // 30)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert max(heights) == 70
    assert peak < 8e6  # a whole kernel would take 36 MB


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: kid(gaussians(5), gaussians(5, 3)), r"of one D, N at least 2, not \(5, 16\) and"),
        (lambda: kid(gaussians(1), gaussians(5)), r"N at least 2, not \(1, 16\) and \(5, 16\)"),
        (lambda: frechet_distance(gaussians(1), gaussians(5)), r"N at least 2, not \(1, 16\)"),
        (lambda: neighbours(gaussians(5), gaussians(5), 5), "from 1 to 4, one below N, not 5"),
        (lambda: floor(*cohort(3, 5)), "halves of participants need at least 4 of them, not 3"),
        (lambda: kernel_sums(gaussians(5), gaussians(5), ["a"]), r"each of 5 images, not shape"),
        (
            lambda: kid_interval(
                kernel_sums(*([gaussians(6)] * 2), list("aabbcc")),
                other=kernel_sums(*([gaussians(6)] * 2), list("aaabbb")),
            ),
            "the same real images on both sides, not 6 of 3 participants and 6 of 2",
        ),
    ],
)
def test_what_cannot_be_compared_is_named(call: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()  # type: ignore[operator]
