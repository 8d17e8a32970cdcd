"""Codebook use, unigram bits, and means over participants."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from monai_vqbrain.metrics import (
    Unigram,
    code_counts,
    codes_used,
    over_participants,
    perplexity,
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
    bits = Unigram.fit(training, 8).bits(test, concentrations=(1.0, 1.0))
    assert bits.mean() / 4 == pytest.approx(3, abs=0.01)


def test_unigram_knows_grid_positions() -> None:
    codes = np.tile(np.arange(16).reshape(1, 4, 4), (500, 1, 1))
    assert Unigram.fit(codes, 16).bits(codes[:3], concentrations=(1.0, 1.0)).max() < 0.2


def test_unigram_knows_slice_positions() -> None:
    """Two slice positions of other codes each: the grid position alone needs a bit per code."""
    codes = np.concatenate([np.zeros((400, 2, 2), int), np.ones((400, 2, 2), int)])
    slices = np.repeat([0, 1], 400)
    unigram = Unigram.fit(codes, 2, slices)
    assert unigram.bits(codes[:1]) == pytest.approx(4, abs=0.01)
    assert unigram.bits(codes[:1], slices[:1], (1.0, 1.0)) < 0.02
    assert unigram.bits(codes[:1], np.array([7])) == unigram.bits(codes[:1])  # never seen


def test_unigram_is_a_probability_and_never_infinite() -> None:
    training = np.array([[0, 1], [0, 2]])
    every = np.stack(np.meshgrid(np.arange(5), np.arange(5)), axis=-1).reshape(-1, 2)
    unigram = Unigram.fit(training, 5, np.array([0, 1]))
    for slices in (None, np.zeros(25, int), np.full(25, 9)):
        bits = unigram.bits(every, slices, (3.0, 2.0))
        assert np.isfinite(bits).all()
        assert (2.0**-bits).sum() == pytest.approx(1)


def test_concentrations_follow_the_validation_codes() -> None:
    positions = np.tile(np.arange(8), (200, 1))
    rng = np.random.default_rng(0)
    assert Unigram.fit(positions, 8).choose(positions[:20])[0] == 1.0
    noise = Unigram.fit(rng.integers(0, 8, (20, 8)), 8, np.arange(20) % 2)
    others = rng.integers(0, 8, (200, 8))
    assert noise.choose(others)[0] >= 100
    assert min(noise.choose(others, np.arange(200) % 2)) >= 100
    assert noise.choose(others[:0]) == (30.0, 30.0)


def test_grids_that_differ_are_named() -> None:
    with pytest.raises(ValueError, match="the codes have 3 positions, those of training 2"):
        Unigram.fit(np.zeros((5, 2), int), 4).bits(np.zeros((1, 3), int))
    with pytest.raises(ValueError, match="a unigram needs at least one training grid"):
        Unigram.fit(np.zeros((0, 2), int), 4)


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
