"""Implausible samples: simulated measures with a trend over positions, and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from monai_vqbrain.metrics.plausibility import (
    TESTED,
    Implausible,
    count_implausible,
    fit_ranges,
    outside_ranges,
    wilson,
)


def simulated(count: int, seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Measures whose mean and spread change with the position, and (N,) positions in [0, 1]."""
    rng = np.random.default_rng(seed)
    place = rng.choice(np.linspace(0, 1, 16), count)
    measures = {
        "brain_area": 100 + 60 * place + (3 + 3 * place) * rng.standard_normal(count),
        "parts": 1.0 + (rng.random(count) < 0.3) * (place < 0.1),
        "asymmetry": rng.normal(0.3, 0.05, count),
        "intensity_mean": rng.normal(0.55, 0.02, count),
        "intensity_sd": rng.normal(0.2, 0.01, count),
    }
    return measures, place


def people(count: int) -> list[str]:
    return [f"p{number // 16}" for number in range(count)]


def judged(samples: dict[str, np.ndarray], place: np.ndarray) -> Implausible:
    real, where = simulated(2000)
    held, held_place = simulated(400, seed=1)
    ranges = fit_ranges(real, where)
    return count_implausible(ranges, samples, held, people(400), (place, held_place))


def test_one_per_cent_of_real_slices_lie_outside_each_range() -> None:
    real, place = simulated(2000)
    outside = outside_ranges(fit_ranges(real, place), real, place)
    assert set(outside) == set(TESTED)
    for name in set(TESTED) - {"parts"}:
        assert outside[name].mean() == pytest.approx(0.01, abs=0.002)


def test_held_out_slices_fail_about_as_often_at_every_position() -> None:
    real, place = simulated(2000)
    held, where = simulated(8000, seed=1)
    outside = outside_ranges(fit_ranges(real, place), held, where)["brain_area"]
    shares = [outside[where == there].mean() for there in np.unique(where)]
    assert max(shares) < 0.03
    assert outside.mean() == pytest.approx(0.01, abs=0.006)


def test_few_slices_suffice() -> None:
    real, place = simulated(160)
    held, where = simulated(4000, seed=1)
    outside = outside_ranges(fit_ranges(real, place), held, where)["brain_area"]
    assert outside.mean() < 0.04


def test_real_samples_fail_as_often_as_real_slices() -> None:
    found = judged(*simulated(1000, seed=2))
    assert found.low < found.real_high
    assert found.real_low < found.high
    assert found.real_low <= found.real_share <= found.real_high
    assert 0.02 < found.share < 0.08
    assert (found.images, found.images_real, found.participants) == (1000, 400, 25)


def test_which_measure_failed_is_kept_for_each_sample() -> None:
    samples, place = simulated(100, seed=2)
    clean = judged(samples, place)
    samples["asymmetry"][:20] = 0.9
    found = judged(samples, place)
    assert found.failed["asymmetry"][:20].all()
    for name in set(TESTED) - {"asymmetry"}:
        np.testing.assert_array_equal(found.failed[name], clean.failed[name])
    assert found.by_measure["asymmetry"][0] >= 0.2
    assert found.by_measure["asymmetry"][1] == clean.by_measure["asymmetry"][1]


def test_a_value_of_another_position_is_found_only_where_positions_are_known() -> None:
    real, place = simulated(2000)
    wrong = {name: values[:1] for name, values in real.items()} | {"brain_area": np.array([155.0])}
    low = np.array([0.05])  # where real brains have an area of about 103
    by_position, pooled = fit_ranges(real, place), fit_ranges(real)
    assert by_position.knows_positions
    assert not pooled.knows_positions
    assert outside_ranges(by_position, wrong, low)["brain_area"][0]
    assert not outside_ranges(pooled, wrong)["brain_area"][0]


def test_a_second_part_fails_where_no_real_slice_has_one() -> None:
    samples, place = simulated(2, seed=2)
    samples["parts"], place = np.array([2.0, 2.0]), np.array([0.0, 0.7])
    np.testing.assert_array_equal(judged(samples, place).failed["parts"], [False, True])


def test_a_slice_without_brain_is_outside() -> None:
    samples, place = simulated(1, seed=2)
    samples["intensity_mean"] = np.array([np.nan])
    assert judged(samples, place).share == 1


def test_a_measure_that_is_never_defined_is_not_tested() -> None:
    real, place = simulated(200)
    real["asymmetry"] = np.full(200, np.nan)
    ranges = fit_ranges(real, place)
    assert "asymmetry" not in ranges.names
    assert "asymmetry" not in outside_ranges(ranges, real, place)


@pytest.mark.parametrize(("successes", "trials"), [(0, 64), (3, 64), (64, 64), (1, 1)])
def test_wilsons_interval_equals_scipys(successes: int, trials: int) -> None:
    oracle = stats.binomtest(successes, trials).proportion_ci(method="wilson")
    np.testing.assert_allclose(wilson(successes, trials), oracle, atol=1e-6)


def few() -> dict[str, np.ndarray]:
    return simulated(20)[0]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fit_ranges({"parts": [1]}), "there is no measure 'brain_area', only parts"),
        (lambda: fit_ranges({"parts": []}, names=["parts"]), "no real slices to find ranges from"),
        (lambda: fit_ranges(few(), np.zeros(3)), "a finite position for each of 20 slices, not 3"),
        (lambda: outside_ranges(fit_ranges(few()), few(), np.zeros(20)), "know no positions"),
        (
            lambda: outside_ranges(fit_ranges(*simulated(20)), few()),
            "positions are needed, since the ranges are by position",
        ),
        (
            lambda: count_implausible(fit_ranges(few()), few(), few(), ["p"]),
            "not 20 samples, 20 real slices and 1 participants",
        ),
    ],
)
def test_what_cannot_be_is_named(call: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()  # type: ignore[operator]
