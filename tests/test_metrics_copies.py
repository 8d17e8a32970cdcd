"""The search for copies: against brute force, on planted copies, and where it must stay silent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from largest_tensor import LargestTensor
from scipy.ndimage import gaussian_filter, shift, uniform_filter

from monai_vqbrain.metrics import nearest
from monai_vqbrain.metrics.copies import (
    BLOCK,
    CopySearch,
    Halving,
    Matches,
    audit_copies,
    brighter_copies,
    copy_threshold,
    found_share,
    halved_thresholds,
    planted_copies,
    shifted_copies,
)

SIDE, SLICES = 64, 3


def brains(participants: int, seed: int, slices: int = SLICES) -> np.ndarray:
    """Discs with folds: all have the outline, each participant's slices share half their folds."""
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(*[np.arange(SIDE) - (SIDE - 1) / 2] * 2, indexing="ij")
    disc = gaussian_filter((np.hypot(x / 20, y / 25) < 1).astype(float), 1)

    def folds() -> np.ndarray:
        noise = gaussian_filter(rng.normal(size=(SIDE, SIDE)), 1.5)
        return noise / noise.std()

    common = folds()
    images = []
    for _ in range(participants):
        own = folds()
        images += [disc * (0.5 + 0.1 * (common + own + folds()) / 1.7) for _ in range(slices)]
    return np.clip(np.stack(images), 0, 1).astype(np.float32)


def names(count: int, prefix: str = "p", slices: int = SLICES) -> list[str]:
    return [f"{prefix}{i // slices:03d}" for i in range(count)]


def blurred(images: np.ndarray) -> np.ndarray:
    return gaussian_filter(images, (0, 0.8, 0.8))


@pytest.fixture(scope="module")
def training() -> np.ndarray:
    return brains(30, seed=0)


@pytest.fixture(scope="module")
def search(training: np.ndarray) -> CopySearch:
    return CopySearch(training, names(len(training)))


@pytest.fixture(scope="module")
def held_out(search: CopySearch) -> Matches:
    return search.match(blurred(brains(40, seed=1)))


def test_it_finds_what_brute_force_finds(training: np.ndarray, search: CopySearch) -> None:
    rng = np.random.default_rng(2)
    order = rng.permutation(len(training))[:20]
    images = training[order] + rng.normal(0, 0.02, (20, SIDE, SIDE)).astype(np.float32)
    found = search.match(images)
    np.testing.assert_array_equal(found.nearest, nearest(images, training)[0])
    assert not found.mirrored.any()
    assert not found.shift.any()


def test_the_distance_is_that_of_local_detail_over_all_shifts() -> None:
    training, images = brains(9, seed=3, slices=1), brains(2, seed=4, slices=1)
    search = CopySearch(training, names(9, slices=1), max_shift=1, mirror=False)
    found = search.match(images)
    steps = np.arange(-1.5, 1.6, 0.5)
    shifts = [(a, b) for a in steps for b in steps]
    for i, image in enumerate(images):
        fits = [[(detail(image) * moved(detail(k), by)).sum() for by in shifts] for k in training]
        distances = np.sqrt(1 - np.max(fits, axis=1))
        nearest_one = int(distances.argmin())
        assert found.nearest[i] == nearest_one
        assert tuple(found.shift[i]) == shifts[int(np.argmax(fits[nearest_one]))]
        assert found.distance[i] == pytest.approx(distances.min(), abs=2e-3)
        others = np.median(np.sort(distances)[1:6])
        assert found.ratio[i] == pytest.approx(distances.min() / others, abs=2e-3)


def detail(image: np.ndarray) -> np.ndarray:
    smooth = image
    for _ in range(2):
        smooth = uniform_filter(smooth, 5, mode="constant")
    return (image - smooth) / np.linalg.norm(image - smooth)


def moved(image: np.ndarray, by: tuple[float, float]) -> np.ndarray:
    waves = [np.fft.fftfreq(SIDE)[:, None], np.fft.fftfreq(SIDE)[None]]
    phase = np.exp(-2j * np.pi * (by[0] * waves[0] + by[1] * waves[1]))
    return np.fft.ifft2(np.fft.fft2(image) * phase).real


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("by", [(0, 0), (3, -2), (-0.5, 1.5), (2.5, 3)])
def test_view_and_shift_are_those_of_the_copy(
    training: np.ndarray, search: CopySearch, mirror: bool, by: tuple[float, float]
) -> None:
    view = training[:8, ::-1] if mirror else training[:8]
    copies = np.stack([shift(image, by, order=3) for image in view]) * 0.9
    found = search.match(copies)
    np.testing.assert_array_equal(found.nearest, np.arange(8))
    assert (found.mirrored == mirror).all()
    np.testing.assert_array_equal(found.shift, np.tile(np.float32(by), (8, 1)))
    assert found.ratio.max() < 0.5


def test_brightness_contrast_and_units_do_not_change_the_distance(
    training: np.ndarray, search: CopySearch
) -> None:
    images = blurred(brains(3, seed=5))
    plain, bright = search.match(images), search.match(images * 200)
    np.testing.assert_allclose(bright.distance, plain.distance, atol=1e-3)
    eight_bit = CopySearch((training * 255).round().astype(np.uint8), names(len(training)))
    np.testing.assert_allclose(eight_bit.match(images).distance, plain.distance, atol=0.02)


def test_every_kind_of_planted_copy_is_found_at_one_percent_of_false_alarms(
    training: np.ndarray, search: CopySearch, held_out: Matches
) -> None:
    halvings = halved_thresholds(held_out.ratio, names(len(held_out), "h"))
    assert np.mean([h.false_alarms for h in halvings]) <= 0.03  # 60 slices set the threshold
    planted = planted_copies(training, reconstruct=blurred, redraw=damaged)
    assert list(planted) == [
        "exact", "shifted", "brighter", "mirrored", "reconstructed", "redrawn",
    ]  # fmt: skip
    for kind, copies in planted.items():
        found = search.match(copies)
        assert found_share(found.ratio, halvings) >= 0.95, kind
        assert (found.nearest == np.arange(len(training))).mean() >= 0.95, kind


def damaged(images: np.ndarray) -> np.ndarray:
    """A tenth of 4 x 4 blocks taken from another slice."""
    cells = np.random.default_rng(0).random((len(images), SIDE // 4, SIDE // 4)) < 0.1
    blocks = cells.repeat(4, axis=1).repeat(4, axis=2)
    return np.where(blocks, np.roll(images, SLICES, axis=0), images)


def test_one_copy_among_a_hundred_shows_here_and_not_in_the_median(
    training: np.ndarray, search: CopySearch, held_out: Matches
) -> None:
    samples = blurred(brains(100, seed=6, slices=1))
    spoiled = samples.copy()
    spoiled[41] = blurred(shift(training[17], (1.5, -2), order=1)[None, ::-1])[0]

    def median(images: np.ndarray) -> float:  # what was reported before
        return float(np.median(nearest(images, training)[1]))

    assert median(spoiled) == pytest.approx(median(samples), rel=0.01)
    found = audit_copies(
        search.match(spoiled),
        held_out,
        training_participants=names(len(training)),
        held_out_participants=names(len(held_out), "h"),
    )
    assert found.closest[0] == 41
    assert found.ratio[0] < 0.6 < found.held_out_ratio[0]
    assert "p005" in found.per_participant  # slice 17 of 3 per participant
    clean = search.match(samples)
    assert clean.ratio.min() > found.ratio[0] + 0.2


def test_a_participant_under_two_names_is_no_way_out(training: np.ndarray) -> None:
    twice = np.concatenate([training, blurred(training)])
    search = CopySearch(twice, names(len(training)) + names(len(training), "again"))
    assert search.match(blurred(training[:9])).ratio.max() < 0.5


def test_held_out_slices_are_near_to_no_one(held_out: Matches) -> None:
    assert held_out.ratio.min() > 0.6
    assert (held_out.ratio <= 1).all()


def test_blocks_do_not_change_the_matches(training: np.ndarray) -> None:
    many = np.concatenate([training] * 3)[: BLOCK + 9]
    whose = names(len(many))
    whole, parts = CopySearch(many, whose).match(many), CopySearch(many, whose)
    again = [parts.match(many[i : i + 100]) for i in range(0, len(many), 100)]
    for name in ("distance", "ratio"):
        joined = np.concatenate([getattr(m, name) for m in again])
        np.testing.assert_allclose(joined, getattr(whole, name), atol=5e-3)


def test_the_order_of_training_slices_does_not_matter(
    training: np.ndarray, search: CopySearch
) -> None:
    order = np.random.default_rng(0).permutation(len(training))
    other = CopySearch(training[order], [names(len(training))[i] for i in order])
    images = training[:10]
    np.testing.assert_array_equal(order[other.match(images).nearest], np.arange(10))


def test_without_mirrored_views_a_mirrored_copy_is_none(
    training: np.ndarray, search: CopySearch
) -> None:
    plain = CopySearch(training, names(len(training)), mirror=False)
    found = plain.match(training[:9, ::-1])
    assert not found.mirrored.any()
    assert found.ratio.min() > 0.6
    assert search.match(training[:9, ::-1]).ratio.max() < 0.1


@pytest.mark.parametrize("size", [(40, 72), (128, 100), (33, 65)])
def test_any_size_and_side(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    training = gaussian_filter(rng.random((12, *size)), (0, 2, 2))
    search = CopySearch(training, names(12, slices=1), candidates=50)
    np.testing.assert_array_equal(search.match(training[:, ::-1]).nearest, np.arange(12))


def test_blank_images_and_no_images_are_no_copies(search: CopySearch) -> None:
    blank = search.match(np.zeros((2, SIDE, SIDE)))
    np.testing.assert_allclose(blank.ratio, 1)
    nothing = search.match(np.zeros((0, SIDE, SIDE)))
    assert len(nothing) == 0
    assert nothing.shift.shape == (0, 2)


def test_memory_does_not_grow_with_the_product() -> None:
    images = np.random.default_rng(0).random((600, 16, 16), dtype=np.float32)
    search = CopySearch(images, names(600))
    with LargestTensor() as largest:
        search.match(np.concatenate([images] * 4))
    assert largest.bytes <= BLOCK * 600 * 4  # a block against all, never all against all


@pytest.mark.parametrize(("count", "rank"), [(10, 1), (99, 1), (198, 1), (199, 2), (1000, 10)])
def test_the_threshold_is_an_order_statistic(count: int, rank: int) -> None:
    values = np.random.default_rng(0).permutation(count)
    assert copy_threshold(values) == rank - 1


def test_the_threshold_keeps_its_promise_on_new_slices() -> None:
    rng = np.random.default_rng(0)
    rates = [(rng.normal(size=500) < copy_threshold(rng.normal(size=250))).mean()
             for _ in range(400)]  # fmt: skip
    assert np.mean(rates) == pytest.approx(2 / 251, abs=0.001)


def test_halvings_divide_participants_not_slices() -> None:
    whose = names(40, slices=10)  # four participants
    values = np.repeat([0.0, 1.0, 2.0, 3.0], 10)
    halvings = halved_thresholds(values, whose, halvings=5)
    assert len(halvings) == 10
    assert {h.false_alarms for h in halvings} <= {0.0, 0.5, 1.0}  # whole participants
    assert halvings == halved_thresholds(values, whose, halvings=5)
    assert halvings != halved_thresholds(values, whose, halvings=5, seed=1)


def test_the_share_found_is_the_mean_over_halvings() -> None:
    assert found_share([0.1, 0.3], [Halving(0.2, 0.0), Halving(0.4, 0.0)]) == 0.75


def made(ratios: np.ndarray, whom: np.ndarray) -> Matches:
    flags = np.zeros(len(ratios), dtype=bool)
    return Matches(whom, flags, np.zeros((len(ratios), 2)), ratios / 2, ratios)


def test_the_audit_counts_samples_below_the_first_percentile() -> None:
    held = made(np.linspace(0.8, 1, 201), np.zeros(201, dtype=int))
    ratios = np.array([0.5, 0.9, 0.802, 0.1, 0.95])
    found = audit_copies(
        made(ratios, np.array([0, 1, 1, 2, 3])),
        held,
        training_participants=["a", "a", "b", "c"],
        held_out_participants=names(201, slices=10),
        closest=2,
    )
    assert found.threshold == pytest.approx(np.percentile(held.ratio, 1))
    assert found.share == pytest.approx(2 / 5)
    assert found.per_participant == {"a": 1, "b": 1}
    assert found.closest == (3, 0)
    assert found.ratio == pytest.approx(tuple(np.percentile(ratios, [0, 1, 5])))
    assert found.distance == pytest.approx(tuple(np.percentile(ratios / 2, [0, 1, 5])))
    assert (found.samples, found.held_out_slices, found.held_out_participants) == (5, 201, 21)
    assert 0 <= found.low < found.share < found.high <= 1


def test_the_interval_holds_one_percent_when_samples_are_as_held_out_slices_are() -> None:
    rng = np.random.default_rng(0)
    covered = []
    for seed in range(30):
        held = made(rng.normal(1, 0.1, 400), np.zeros(400, dtype=int))
        samples = made(rng.normal(1, 0.1, 300), np.zeros(300, dtype=int))
        audit = audit_copies(
            samples, held, training_participants=["a"],
            held_out_participants=names(400, slices=10), resamples=200, seed=seed,
        )  # fmt: skip
        covered.append(audit.low <= 0.01 <= audit.high)
    assert np.mean(covered) >= 0.85


def test_shifted_copies_move_by_half_pixels_and_never_by_nothing() -> None:
    image = np.zeros((200, 9, 9), dtype=np.float32)
    image[:, 4, 4] = 1
    moved = shifted_copies(image)
    x = (moved.sum(axis=2) @ np.arange(9)) - 4
    y = (moved.sum(axis=1) @ np.arange(9)) - 4
    assert set(np.unique(np.round(x, 5))) == set(np.arange(-2, 2.1, 0.5))
    assert not ((np.abs(x) < 0.1) & (np.abs(y) < 0.1)).any()


def test_brighter_copies_stay_within_the_range() -> None:
    image = np.full((500, 2, 2), 0.5, dtype=np.float32)
    factors = brighter_copies(image)[:, 0, 0] / 0.5
    assert 0.85 <= factors.min() < 0.87
    assert 1.13 < factors.max() <= 1.15
    assert brighter_copies(image * 2).max() == 1


def test_planted_copies_are_in_unit_range_and_repeat() -> None:
    images = (brains(2, seed=0) * 255).astype(np.uint8)
    planted, again = planted_copies(images, seed=3), planted_copies(images, seed=3)
    assert list(planted) == ["exact", "shifted", "brighter", "mirrored"]
    for kind, copies in planted.items():
        assert copies.dtype == np.float32
        assert 0 <= copies.min() <= copies.max() <= 1
        np.testing.assert_array_equal(copies, again[kind])
    np.testing.assert_array_equal(planted["mirrored"][:, ::-1], planted["exact"])


Call = Callable[[], Any]
SOME = np.zeros((4, 16, 16))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: CopySearch(SOME, ["a"] * 3), r"not 3 for \(4, 16, 16\)"),
        (lambda: CopySearch(SOME[0], ["a"] * 16), r"\(M, W, H\) training slices, not 16"),
        (lambda: CopySearch(SOME, ["a"] * 4), "slices of at least 2, not 1"),
        (lambda: CopySearch(SOME, list("abcd"), max_shift=-1), "not -1 and 20"),
        (lambda: CopySearch(SOME, list("abcd"), candidates=1), "2 candidates, not 3 and 1"),
        (lambda: CopySearch(SOME, list("abcd")).match(SOME[:, :8]), r"must be \(N, 16, 16\)"),
        (lambda: copy_threshold([]), "not 0 ratios and 0.01"),
        (lambda: copy_threshold([1.0], 1), "not 1 ratios and 1"),
        (lambda: halved_thresholds([1.0, 2.0], ["a", "a"]), "at least 2 participants, not 1"),
        (lambda: halved_thresholds([1.0], ["a", "b"]), r"not 2 for ratios of shape \(1,\)"),
        (lambda: found_share([], [Halving(0, 0)]), "not 0 and 1"),
        (lambda: found_share([1.0], []), "not 1 and 0"),
        (lambda: shifted_copies(SOME, most=0.4), "0.5 pixels or more, not 0.4"),
        (lambda: brighter_copies(SOME, most=1), r"in \[0, 1\), not 1"),
        (
            lambda: audit_copies(
                made(np.ones(1), np.zeros(1, dtype=int)),
                made(np.ones(2), np.zeros(2, dtype=int)),
                training_participants=["a"],
                held_out_participants=["b"],
            ),
            "not 1 samples, 2 slices and 1 participants",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_searched_is_refused(call: Call, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()
