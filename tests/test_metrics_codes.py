"""Codebook use, unigram bits, and means over participants."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from monai_vqbrain.metrics import (
    choose_concentration,
    code_counts,
    codes_used,
    over_participants,
    perplexity,
    unigram_bits,
)


def test_counts_use_and_perplexity() -> None:
    counts = code_counts(np.array([[[0, 0], [3, 3]]], dtype=np.uint16), 512)
    assert counts.sum() == 4
    assert codes_used(counts) == 2
    assert perplexity(counts) == 2.0
    assert perplexity(np.ones(512)) == pytest.approx(512)
    assert perplexity(np.zeros(512)) == 0.0


@pytest.mark.parametrize(("codes", "reach"), [([0, 4], "from 0 to 4"), ([-1, 2], "from -1 to 2")])
def test_codes_outside_the_codebook_are_named(codes: list[int], reach: str) -> None:
    with pytest.raises(ValueError, match=f"must lie in 0..3, but reach {reach}"):
        code_counts(codes, 4)


def test_unigram_of_random_codes_needs_the_log_of_the_codebook() -> None:
    rng = np.random.default_rng(0)
    training, test = rng.integers(0, 8, (4000, 1, 2, 2)), rng.integers(0, 8, (300, 1, 2, 2))
    assert unigram_bits(training, test, 8, 1.0).mean() / 4 == pytest.approx(3, abs=0.01)


def test_unigram_knows_positions() -> None:
    codes = np.tile(np.arange(16).reshape(1, 4, 4), (500, 1, 1))
    assert unigram_bits(codes, codes[:3], 16, 1.0).max() < 0.2


def test_unigram_is_a_probability_and_never_infinite() -> None:
    training = np.array([[0, 1], [0, 2]])
    every = np.stack(np.meshgrid(np.arange(5), np.arange(5)), axis=-1).reshape(-1, 2)
    bits = unigram_bits(training, every, 5, 3.0)
    assert np.isfinite(bits).all()
    assert (2.0**-bits).sum() == pytest.approx(1)


def test_concentration_follows_the_validation_codes() -> None:
    positions = np.tile(np.arange(8), (200, 1))
    rng = np.random.default_rng(0)
    assert choose_concentration(positions, positions[:20], 8) == 1.0
    noise = rng.integers(0, 8, (20, 8))
    assert choose_concentration(noise, rng.integers(0, 8, (200, 8)), 8) >= 100
    assert choose_concentration(positions, positions[:0], 8) == 30.0


def test_grids_that_differ_are_named() -> None:
    with pytest.raises(ValueError, match=r"must have the same grid.*\(5, 2\) and \(1, 3\)"):
        unigram_bits(np.zeros((5, 2)), np.zeros((1, 3)), 4, 1.0)


def test_people_count_alike_however_many_slices_they_have() -> None:
    found = over_participants([1.0, 1.0, 1.0, 0.0, 0.5], ["a", "a", "a", "b", "c"])
    assert (found.mean, found.participants, found.slices) == (0.5, 3, 5)
    expected = ttest_1samp([1.0, 0.0, 0.5], 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_one_participant_has_no_interval() -> None:
    found = over_participants([0.5, 0.7], ["a", "a"])
    assert math.isnan(found.low)
    assert found.as_json() == {
        "mean": pytest.approx(0.6),
        "low": None,
        "high": None,
        "participants": 1,
        "slices": 2,
    }


@pytest.mark.parametrize(("values", "people"), [([], []), ([1.0], []), ([[1.0]], ["a"])])
def test_values_without_their_participants_are_refused(
    values: list[float], people: list[str]
) -> None:
    with pytest.raises(ValueError, match="one participant for each of at least one value"):
        over_participants(values, people)
