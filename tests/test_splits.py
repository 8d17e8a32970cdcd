"""The split rule: totals, strata, stability, and the guard."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from monai_vqbrain.cohorts import SPLITS, Participant, assign_splits, check_splits
from monai_vqbrain.cohorts.splits import QUOTAS
from monai_vqbrain.errors import VQBrainError

SIZES = [0, 1, 2, 3, 4, 5, 7, 10, 13, 20, 48, 100, 333]


def crowd(count: int, seed: int = 0) -> list[Participant]:
    """Participants with every mixture of diagnosis, sex and age, unknown ones too."""
    rng = np.random.default_rng(seed)
    return [
        Participant(
            participant_id=f"sub-{seed}-{i}",
            diagnosis=str(rng.choice(["CN", "MCI", "AD", ""])),
            sex=str(rng.choice(["M", "F", ""])),
            age=None if rng.random() < 0.1 else float(rng.uniform(20, 95)),
        )
        for i in range(count)
    ]


@pytest.mark.parametrize("count", SIZES)
def test_everybody_has_one_split_and_the_totals_hold(count: int) -> None:
    splits = assign_splits(crowd(count))
    assert set(splits) == {person.participant_id for person in crowd(count)}
    counts = Counter(splits.values())
    for split, quota in QUOTAS.items():
        assert abs(counts[split] - quota * count / 100) < 1.2
    if count >= 3:
        assert all(counts[split] for split in SPLITS)


def test_48_people_are_34_7_7_whatever_the_seed() -> None:
    for seed in range(20):
        counts = Counter(assign_splits(crowd(48, seed), seed).values())
        assert [counts[split] for split in SPLITS] == [34, 7, 7]


def test_each_diagnosis_is_shared_out_like_the_whole() -> None:
    people = crowd(400)
    splits = assign_splits(people)
    for diagnosis in ("CN", "MCI", "AD", ""):
        group = [splits[p.participant_id] for p in people if p.diagnosis == diagnosis]
        for split, quota in QUOTAS.items():
            assert abs(group.count(split) - quota * len(group) / 100) <= 2


def test_the_order_in_which_people_are_given_does_not_matter() -> None:
    people = crowd(50)
    assert assign_splits(people) == assign_splits(people[::-1])


def test_another_seed_gives_another_split() -> None:
    assert assign_splits(crowd(50), seed=0) != assign_splits(crowd(50), seed=1)


@pytest.mark.parametrize("added", [1, 2, 10, 100])
def test_people_added_later_move_nobody_and_the_totals_hold(added: int) -> None:
    first = assign_splits(crowd(20))
    later = assign_splits(crowd(20) + crowd(added, seed=1), previous=first)
    assert {name: later[name] for name in first} == first
    counts = Counter(later.values())
    assert all(abs(counts[s] - QUOTAS[s] * (20 + added) / 100) < 1.2 for s in SPLITS)


def test_who_is_added_fills_the_split_furthest_below_its_quota() -> None:
    previous = {f"sub-{i}": "training" for i in range(8)} | {"sub-v": "validation"}
    later = assign_splits([Participant("new")], previous=previous)
    assert later["new"] == "test"


def test_who_was_taken_away_keeps_the_place_and_counts() -> None:
    first = assign_splits(crowd(20))
    assert assign_splits(crowd(5), previous=first) == first


def test_another_cohort_beside_those_of_before_has_every_split() -> None:
    before = assign_splits(crowd(3))
    now = crowd(3, seed=1)
    splits = assign_splits(now, previous=before)
    assert {splits[person.participant_id] for person in now} == set(SPLITS)


def test_the_same_participant_twice_is_refused() -> None:
    with pytest.raises(VQBrainError, match="participants are repeated: sub-1"):
        assign_splits([Participant("sub-1"), Participant("sub-2"), Participant("sub-1")])


def test_an_unknown_split_of_before_is_refused() -> None:
    with pytest.raises(
        VQBrainError, match="unknown split 'dev': the splits are training, validation"
    ):
        assign_splits([Participant("sub-1")], previous={"sub-2": "dev"})


def test_the_guard_names_whoever_is_in_two_splits() -> None:
    check_splits([("a", "training"), ("a", "training"), ("b", "test")])
    with pytest.raises(
        VQBrainError, match=r"in two splits: a \(test, training\)\. Test figures would"
    ):
        check_splits([("a", "training"), ("b", "test"), ("a", "test")])


def test_a_group_has_one_split_and_counts_as_many_as_it_has() -> None:
    people = crowd(60)
    names = [person.participant_id for person in people]
    groups = [names[:2], names[10:15], ["unknown", names[20]]]
    splits = assign_splits(people, groups=groups)
    assert splits.keys() == set(names)
    for group in groups[:2]:
        assert len({splits[name] for name in group}) == 1
    assert splits == assign_splits(people[::-1], groups=groups)


def test_who_joins_a_group_later_goes_where_it_is() -> None:
    people = crowd(40)
    before = assign_splits(people[:30])
    new, old = people[35].participant_id, people[3].participant_id
    splits = assign_splits(people, previous=before, groups=[(new, old)])
    assert splits[new] == splits[old] == before[old]
    assert {name: splits[name] for name in before} == before


def test_a_group_in_two_given_splits_is_held_out() -> None:
    people = [Participant("a"), Participant("b"), Participant("c")]
    given = {"a": "training", "b": "test", "c": "training"}
    splits = assign_splits(people, given=given, groups=[("a", "b")])
    assert (splits["a"], splits["b"]) == ("test", "test")


def test_a_group_in_two_splits_of_before_is_refused() -> None:
    people, before = [Participant("a"), Participant("b")], {"a": "training", "b": "test"}
    words = r"a and b share an image and are in two splits \(test, training\): exclude one of them"
    with pytest.raises(VQBrainError, match=words):
        assign_splits(people, previous=before, groups=[("a", "b")])
