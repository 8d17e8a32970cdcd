"""Train on synthetic, test on real: drawn slices of two classes, and scikit-learn."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from monai_vqbrain.metrics import utility
from monai_vqbrain.metrics.utility import Labelled, Utility, class_auc, measure_utility


def drawn(people: int, each: int = 4, effect: float = 0.3, seed: int = 0) -> Labelled:
    """Slices of 64x64 with a square that is brighter by `effect` in class 1."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(people) % 2, each)
    images = rng.uniform(0.3, 0.5, (len(labels), 64, 64)).astype(np.float32)
    images[:, 20:44, 20:44] += effect * labels[:, None, None]
    return Labelled(images, labels, [f"p{number // each}" for number in range(len(labels))])


def shuffled(part: Labelled) -> Labelled:
    return dataclasses.replace(part, labels=np.random.default_rng(9).permutation(part.labels))


def measured(real: Labelled, synthetic: Labelled, held: Labelled, **options: object) -> Utility:
    given = {"steps": 20, "seeds": (0,), "draws": 100} | options
    return measure_utility(real, synthetic, held, **given)  # type: ignore[arg-type]


HELD = drawn(24, seed=5)


def test_samples_as_good_as_real_slices_teach_as_much() -> None:
    found = measured(drawn(12), drawn(12, seed=1), HELD)
    assert found.measurable
    assert found.p_value < 0.025
    assert found.synthetic is not None
    assert found.both is not None
    for score in (found.real, found.synthetic, found.both):
        assert score.auc_low <= score.auc <= score.auc_high
        assert score.auc > 0.9
    assert found.difference == pytest.approx(found.synthetic.auc - found.real.auc)
    assert (found.images, found.participants) == (48, 24)


def test_samples_with_the_wrong_classes_teach_less_and_the_task_stays_measurable() -> None:
    wrong = drawn(12, seed=1)
    found = measured(drawn(12), dataclasses.replace(wrong, labels=1 - wrong.labels), HELD)
    assert found.measurable
    assert found.synthetic is not None
    assert found.synthetic.auc < 0.1
    assert found.difference_high < 0


def test_a_task_at_chance_is_not_measurable() -> None:
    nothing = drawn(24, effect=0, seed=5)
    found = measured(drawn(12, effect=0), drawn(12, seed=1), nothing)
    assert not found.measurable
    assert found.real.auc_low <= 0.5 or found.p_value >= 0.025
    assert found.synthetic is None
    assert found.as_json()["difference"] is None


def test_two_lucky_participants_make_no_task_measurable() -> None:
    found = measured(drawn(12), drawn(12, seed=1), drawn(2, seed=5))
    assert found.real.auc_low == 1
    assert found.p_value > 0.3
    assert not found.measurable


def test_the_same_seeds_give_the_same_figures_and_leave_torchs_own_alone() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    one, other = (measured(drawn(4), drawn(4, seed=1), HELD, steps=3) for _ in range(2))
    assert one == other
    assert torch.equal(before, torch.get_rng_state())


def test_every_seed_is_reported() -> None:
    found = measured(drawn(4), drawn(4, seed=1), HELD, steps=2, seeds=(0, 1, 2))
    assert len(found.real.auc_by_seed) == 3
    assert found.real.auc == pytest.approx(np.mean(found.real.auc_by_seed))


def test_as_many_samples_as_real_slices_are_used() -> None:
    found = measured(drawn(6), drawn(40, seed=1), HELD, steps=2)
    assert found.images == 24


def test_bytes_and_floats_look_alike_to_the_network() -> None:
    images = drawn(2).images
    whole = utility.small((images * 255).round().astype(np.uint8))
    assert whole.shape == (8, 1, 64, 64)
    assert int((whole.int() - utility.small(images).int()).abs().max()) <= 1


def test_batches_hold_equally_many_of_each_class_and_source() -> None:
    pixels = torch.zeros(10, 1, 64, 64, dtype=torch.uint8)
    labels = np.array([0] * 9 + [1])
    _, found = utility._batch([(pixels, labels)] * 2, 2, np.random.default_rng(0))
    assert torch.bincount(found).tolist() == [16, 16]


@pytest.mark.parametrize("classes", [2, 3])
def test_scores_equal_scikit_learns(classes: int) -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(30) % classes
    found = rng.dirichlet(np.ones(classes), (2, 30)).round(2)
    found[..., -1] = 1 - found[..., :-1].sum(axis=-1)
    auc, accuracy = utility._scores(found, truth, np.arange(30)[None])
    for one, area, share in zip(found, auc[:, 0], accuracy[:, 0], strict=True):
        shown = one[:, 1] if classes == 2 else one
        assert area == pytest.approx(roc_auc_score(truth, shown, multi_class="ovr"))
        assert share == pytest.approx(balanced_accuracy_score(truth, one.argmax(axis=1)))


def test_ties_count_as_half() -> None:
    assert class_auc(np.full((6, 2), 0.5), np.arange(6) % 2) == 0.5


def relabelled(labels: object) -> Labelled:
    return dataclasses.replace(HELD, labels=np.asarray(labels))


@pytest.mark.parametrize(
    ("held", "words"),
    [
        (relabelled(HELD.labels[:5]), "one label for each of 96 held-out slices, not 5"),
        (dataclasses.replace(HELD, participants=["p"]), "one participant for each of 96 .* not 1"),
        (relabelled(HELD.labels * 0), "the held-out slices have none of class 1"),
        (shuffled(HELD), "participant p[0-9]+ has slices of more than one class"),
    ],
)
def test_what_cannot_be_is_named(held: Labelled, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        measured(drawn(4), drawn(4, seed=1), held)


@pytest.mark.parametrize(("factor", "shown"), [(2, "0, 2"), (0, "0")])
def test_classes_are_numbered_and_at_least_two(factor: int, shown: str) -> None:
    sets = [dataclasses.replace(s, labels=s.labels * factor) for s in (drawn(4), drawn(4), HELD)]
    with pytest.raises(ValueError, match=rf"0..K-1 of at least two classes, not \[{shown}\]"):
        measured(*sets)
