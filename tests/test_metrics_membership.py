"""Membership inference against scikit-learn and SciPy, and on simulated bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import permutation_test
from sklearn.metrics import roc_auc_score, roc_curve

from monai_vqbrain.metrics.membership import (
    Membership,
    cross_fitted,
    dataset_inference,
    membership,
    participant_folds,
)

Case = tuple[np.ndarray, list[str], np.ndarray]


def cohort(
    members: int = 30, others: int = 20, slices: int = 8, gap: float = 0.0, seed: int = 0
) -> Case:
    """Bits of slices: participants differ by 1, slices of one by 0.5, members are `gap` lower."""
    rng = np.random.default_rng(seed)
    count = members + others
    member = np.repeat(np.arange(count) < members, slices)
    own = np.repeat(rng.normal(size=count), slices)
    bits = own + rng.normal(0, 0.5, len(own)) - gap * member
    return bits, [f"p{i:03d}" for i in range(count) for _ in range(slices)], member


def means(case: Case) -> tuple[np.ndarray, np.ndarray]:
    bits, names, member = case
    found, first, person = np.unique(names, return_index=True, return_inverse=True)
    return np.array([bits[person == i].mean() for i in range(len(found))]), member[first]


@pytest.mark.parametrize("gap", [-1.0, 0.0, 0.7, 10.0])
@pytest.mark.parametrize("decimals", [0, 8])  # with ties, and without
def test_auc_and_true_positives_are_those_of_scikit_learn(gap: float, decimals: int) -> None:
    bits, names, member = cohort(gap=gap)
    bits = bits.round(decimals)
    found = membership(bits, names, member, resamples=10)
    assert found.auc.value == pytest.approx(roc_auc_score(member, -bits), abs=1e-12)
    false, true, _ = roc_curve(member, -bits, drop_intermediate=False)
    for each in found.true_positives:
        assert each.rate is not None
        assert each.rate.value == pytest.approx(true[false <= each.at].max(), abs=1e-12)


def test_of_participants_it_is_the_auc_of_their_means() -> None:
    case = cohort(gap=0.5)
    values, member = means(case)
    found = membership(*case, unit="participant", resamples=10)
    assert found.auc.value == pytest.approx(roc_auc_score(member, -values), abs=1e-12)
    assert (found.members, found.others) == (30, 20)
    assert (found.member_participants, found.other_participants) == (30, 20)


def test_counts_are_of_slices_and_participants() -> None:
    found = membership(*cohort(6, 4, 3), resamples=10)
    assert (found.unit, found.members, found.others) == ("slice", 18, 12)
    assert (found.member_participants, found.other_participants) == (6, 4)


@pytest.mark.parametrize(
    ("others", "slices", "known"),
    [(9, 1, [False, False]), (10, 1, [False, True]), (99, 1, [False, True]), (25, 4, [True, True])],
)
def test_a_rate_needs_enough_non_members(others: int, slices: int, known: list[bool]) -> None:
    rates = membership(*cohort(10, others, slices), resamples=10).true_positives
    assert [each.rate is not None for each in rates] == known
    assert [(each.at, each.least) for each in rates] == [(0.01, 100), (0.1, 10)]


def test_the_interval_is_that_of_drawing_whole_participants() -> None:
    bits, names, member = cohort(12, 9, 4, gap=0.5)
    found = membership(bits, names, member, resamples=4000).auc
    rng, drawn = np.random.default_rng(1), []
    rows = np.arange(len(bits)).reshape(21, 4)
    for _ in range(2000):
        chosen = np.concatenate([rng.integers(12, size=12), 12 + rng.integers(9, size=9)])
        index = rows[chosen].ravel()
        drawn.append(roc_auc_score(member[index], -bits[index]))
    low, high = np.percentile(drawn, [2.5, 97.5])
    assert found.low == pytest.approx(low, abs=0.02)
    assert found.high == pytest.approx(high, abs=0.02)


def test_more_slices_of_the_same_participants_do_not_narrow_the_interval() -> None:
    few, many = (membership(*cohort(20, 20, slices)).auc for slices in (4, 64))
    assert many.high - many.low > 0.8 * (few.high - few.low)


def test_the_interval_covers_chance_when_nothing_leaks() -> None:
    found = [membership(*cohort(20, 20, 3, seed=s), resamples=300).auc for s in range(40)]
    covered = [each.low <= 0.5 <= each.high for each in found]
    assert np.mean(covered) >= 0.85


def test_chunks_do_not_change_the_bootstrap(monkeypatch: pytest.MonkeyPatch) -> None:
    case = cohort(gap=0.5)
    once = membership(*case, resamples=50)
    monkeypatch.setattr("monai_vqbrain.metrics.membership.CHUNK", len(case[0]) * 50)
    assert membership(*case, resamples=50) == once
    monkeypatch.setattr("monai_vqbrain.metrics.membership.CHUNK", len(case[0]) * 7)
    chunked = membership(*case, resamples=50)
    assert (chunked.auc.value, chunked.true_positives[0].at) == (once.auc.value, 0.01)
    assert chunked.auc.low == pytest.approx(once.auc.low, abs=0.05)


def test_the_same_seed_gives_the_same_figures() -> None:
    assert membership(*cohort(), resamples=50) == membership(*cohort(), resamples=50)
    assert dataset_inference(*cohort()) == dataset_inference(*cohort())


def test_a_clear_leak_is_found_and_the_order_of_rows_does_not_matter() -> None:
    bits, names, member = cohort(gap=8)
    found = membership(bits, names, member, unit="participant")
    assert found.auc.low > 0.99
    order = np.random.default_rng(0).permutation(len(bits))
    again = membership(bits[order], [names[i] for i in order], member[order], unit="participant")
    assert again.auc == found.auc


@pytest.mark.parametrize("gap", [0.0, 0.4, -0.4])
def test_the_p_value_is_that_of_scipy(gap: float) -> None:
    case = cohort(gap=gap)
    values, member = means(case)
    scipy = permutation_test(
        (values[member], values[~member]),
        lambda a, b: a.mean() - b.mean(),
        alternative="less",
        n_resamples=9999,
        rng=np.random.default_rng(3),
    )
    assert dataset_inference(*case) == pytest.approx(scipy.pvalue, abs=0.02)


def test_the_p_value_is_exact_where_all_are_alike() -> None:
    bits, names, member = cohort()
    assert dataset_inference(np.full_like(bits, 0.1), names, member) == 1


def test_p_values_are_uniform_when_nothing_leaks() -> None:
    found = [dataset_inference(*cohort(15, 10, 2, seed=s), permutations=199) for s in range(200)]
    assert 0.02 <= np.mean(np.array(found) <= 0.1) <= 0.2


def test_folds_keep_participants_together_and_are_even() -> None:
    names = [f"p{i % 23}" for i in range(230)]
    folds = participant_folds(names, 5)
    assert all(len(set(folds[np.array(names) == name])) == 1 for name in set(names))
    sizes = [len({n for n, f in zip(names, folds, strict=True) if f == k}) for k in range(5)]
    assert sorted(sizes) == [4, 4, 5, 5, 5]
    assert (participant_folds(names, 5) == folds).all()
    assert (participant_folds(names, 5, seed=1) != folds).any()


def change(part: str, value: Any) -> Membership:
    bits, names, member = cohort(3, 3, 2)
    if part == "bits":
        bits[1] = value
    if part == "member":
        member[:] = value
    if part == "one":
        member[1] = value
    return membership(bits, names[: value if part == "names" else None], member)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: change("names", 5), "one participant and one membership for each value, not 5"),
        (lambda: change("bits", np.nan), "bits must be finite: 1 are not"),
        (lambda: change("member", True), "training participants and of others, not 12 and 0"),
        (lambda: change("member", False), "training participants and of others, not 0 and 12"),
        (lambda: change("one", False), "1 participants are members and not members, p000 first"),
        (lambda: participant_folds(["a", "b"], 3), r"as there are participants \(2\), not 3"),
        (lambda: participant_folds(["a", "b"], 1), r"from 2 folds to .* not 1"),
    ],
)
def test_what_cannot_be_answered_is_refused(call: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()


def paired(gap: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Bits of slices under two priors; one that has seen them needs `gap` fewer."""
    unseen, names, _ = cohort(gap=0, seed=seed)
    noise = np.random.default_rng(seed + 1).normal(0, 0.1, len(unseen))
    return unseen - gap + noise, unseen, names


def test_cross_fitting_finds_what_differences_between_participants_hide() -> None:
    found = cross_fitted(*paired(gap=0.3))
    assert found.p_value < 0.001
    assert found.saved.value == pytest.approx(0.3, abs=0.02)
    assert 0.25 < found.saved.low < found.saved.value < found.saved.high < 0.35
    assert 0.5 < found.auc.low < found.auc.value < found.auc.high < 0.8
    assert (found.participants, found.slices) == (50, 400)

    unpaired = [dataset_inference(*cohort(gap=0.3, seed=seed)) for seed in range(5)]
    assert np.median(unpaired) > 0.02  # the same gap among different participants


def test_cross_fitting_finds_nothing_where_there_is_nothing() -> None:
    values = [cross_fitted(*paired(gap=0, seed=seed), resamples=10).p_value for seed in range(8)]
    assert np.mean(values) > 0.2


def test_the_cross_fitted_auc_and_p_value_are_those_of_scikit_learn_and_scipy() -> None:
    seen, unseen, names = paired(gap=0.1)
    found = cross_fitted(seen, unseen, names, resamples=10)
    member = np.repeat([1, 0], len(seen))
    expected = roc_auc_score(member, -np.concatenate([seen, unseen]))
    assert found.auc.value == pytest.approx(expected, abs=1e-12)
    saved = (unseen - seen).reshape(50, 8).mean(axis=1)
    test = permutation_test(
        (saved,), np.mean, permutation_type="samples", alternative="greater", rng=0
    )
    assert found.p_value == pytest.approx(test.pvalue, abs=0.02)


@pytest.mark.parametrize(
    ("seen", "names", "words"),
    [
        ([1.0], ["a", "b"], r"not 2 for bits of shapes \(1,\) and \(2,\)"),
        ([1.0, np.nan], ["a", "b"], "bits must be finite: 1 are not"),
    ],
)
def test_unpaired_bits_are_refused(seen: list[float], names: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        cross_fitted(seen, [1.0, 2.0], names)
