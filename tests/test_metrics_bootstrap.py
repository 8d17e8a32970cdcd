"""The bootstrap over participants: what it covers, what it pairs, and how images are balanced."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from monai_vqbrain.metrics.bootstrap import (
    Interval,
    balanced,
    bootstrap,
    bootstrap_images,
    bootstrap_mean,
    draws,
    groups,
)


def cohort(
    participants: int, each: int, seed: int = 0, between: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """One value per slice: an effect of the participant (sd `between`) plus noise (sd 1)."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(participants), each)
    return between * rng.normal(size=participants)[labels] + rng.normal(size=len(labels)), labels


def width(interval: Interval) -> float:
    return interval.high - interval.low


def test_the_interval_holds_the_truth_about_19_times_in_20() -> None:
    held = [bootstrap_mean(*cohort(40, 5, seed)) for seed in range(200)]
    share = np.mean([i.low <= 0 <= i.high for i in held])
    assert 0.88 <= share <= 0.98


def test_500_slices_of_17_participants_are_not_500_of_400() -> None:
    values, labels = cohort(400, 30)
    few = np.isin(labels, np.arange(17))
    narrow = balanced(labels, 500)
    wide = np.flatnonzero(few)[balanced(labels[few], 500)]
    over_few = bootstrap_mean(values[wide], labels[wide])
    over_many = bootstrap_mean(values[narrow], labels[narrow])
    assert (over_few.images, over_few.participants) == (500, 17)
    assert (over_many.images, over_many.participants) == (500, 400)
    assert width(over_few) > 2.5 * width(over_many)


def test_a_paired_difference_is_narrower_than_its_terms() -> None:
    values, labels = cohort(30, 4, between=3.0)
    better = values + 0.5 + np.random.default_rng(1).normal(0, 0.1, len(values))
    paired = bootstrap_mean(better - values, labels)
    assert 0.4 < paired.low < paired.high < 0.6
    assert width(bootstrap_mean(values, labels)) > 10 * width(paired)


def test_sums_per_participant_equal_images_drawn_one_by_one() -> None:
    values, labels = cohort(12, 3)
    fast = bootstrap_mean(values, labels, seed=5)
    slow = bootstrap_images(lambda i: values[i].mean(), labels, seed=5)
    assert fast.as_json() == pytest.approx(slow.as_json())


def test_a_difference_of_statistics_sees_the_same_participants() -> None:
    sums, counts = np.arange(8.0), np.full(8, 2)
    a = lambda drawn: drawn @ sums / (drawn @ counts)  # noqa: E731
    same = bootstrap(lambda drawn: a(drawn) + 1 - a(drawn), counts)
    assert (same.low, same.value, same.high) == pytest.approx((1, 1, 1))


def test_equal_seeds_draw_equal_participants() -> None:
    values, labels = cohort(10, 2)
    assert bootstrap_mean(values, labels, 3) == bootstrap_mean(values, labels, 3)
    assert bootstrap_mean(values, labels, 3) != bootstrap_mean(values, labels, 4)
    assert (draws(10, 0, 7).sum(axis=1) == 10).all()


def test_one_participant_has_no_interval_and_json_holds_none() -> None:
    alone = bootstrap_mean([1.0, 3.0], ["a", "a"])
    assert np.isnan([alone.low, alone.high]).all()
    assert alone.as_json() == {
        "value": 2.0, "low": None, "high": None, "participants": 1, "images": 2,
    }  # fmt: skip


@pytest.mark.parametrize("n", [1, 7, 20, 45, 46])
def test_balanced_takes_as_evenly_as_it_can(n: int) -> None:
    labels = np.repeat(list("abcd"), [30, 10, 4, 2])
    chosen = balanced(labels, n, seed=1)
    assert len(set(chosen.tolist())) == n
    taken = Counter(labels[chosen].tolist())
    most = max(taken.values())
    for label, available in Counter(labels.tolist()).items():
        assert taken[label] >= min(available, most - 1)


def test_balanced_depends_on_its_seed_only() -> None:
    labels = np.repeat(np.arange(20), 10)
    np.testing.assert_array_equal(balanced(labels, 50, 1), balanced(labels, 50, 1))
    assert not np.array_equal(balanced(labels, 50, 1), balanced(labels, 50, 2))


def test_balanced_favours_no_position_within_a_participant() -> None:
    labels = np.repeat(np.arange(500), 10)
    position = np.arange(5000) % 10
    counts = np.bincount(position[balanced(labels, 1000)], minlength=10)
    assert counts.min() > 60
    assert counts.max() < 140


def test_groups_number_participants_in_the_order_of_their_labels() -> None:
    group, images = groups(["b", "a", "b"])
    assert (group.tolist(), images.tolist()) == ([1, 0, 1], [1, 2])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: bootstrap_mean([1.0, 2.0], ["a"]), r"for each of 2 images, not shape \(1,\)"),
        (lambda: bootstrap_images(len, []), "for each of at least one image, not shape"),
        (lambda: bootstrap(lambda d: d[:, 0], []), r"images per participant, not \[\]"),
        (lambda: balanced(["a"], 2), "from 1 to the number of images, 1, not 2"),
        (lambda: balanced(["a"], 0), "from 1 to the number of images, 1, not 0"),
    ],
)
def test_what_cannot_be_resampled_is_named(call: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()  # type: ignore[operator]
