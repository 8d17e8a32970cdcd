"""The joint distribution of conditions: shares, what is asked for, and what is stored."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from monai_vqbrain.inferers.joint_conditions import ANY, JointConditions

KNOWN = {
    "diagnosis": ["AD", "CN"],
    "sex": ["F", "M"],
    "age": [55.0, 90.0],
    "position_mm": [-20.0, 60.0],
}


def slices() -> pd.DataFrame:
    """Forty participants of four slices: AD are older, one in four has no known sex."""
    people = np.repeat(np.arange(40), 4)
    sick = people % 2 == 0
    return pd.DataFrame({
        "diagnosis": np.where(sick, "AD", "CN"),
        "sex": np.array(["F", "M", "M", None], dtype=object)[people // 2 % 4],
        "age": np.where(sick, 82.3, 58.1) + people % 5,
        "position_mm": np.tile([-20.0, 0.0, 30.0, 60.0], 40),
    })  # fmt: skip


def drawn(number: int = 2000, seed: int = 0, **asked: str | float) -> pd.DataFrame:
    joint = JointConditions.fit(KNOWN, slices())
    return pd.DataFrame(joint.draw(number, asked, np.random.default_rng(seed)))


def test_what_is_drawn_has_the_shares_of_the_training_slices() -> None:
    found, real = drawn(), slices()
    assert list(found) == list(KNOWN)
    for name in ("diagnosis", "sex", "position_mm"):
        share = found[name].value_counts(normalize=True, dropna=False)
        expected = real[name].value_counts(normalize=True, dropna=False)
        pd.testing.assert_series_equal(
            share.sort_index(), expected.sort_index(), atol=0.04, check_names=False
        )
    assert found["age"].between(55, 90).all()


def test_conditions_depend_on_each_other_as_in_training() -> None:
    ages = drawn().groupby("diagnosis")["age"]
    assert ages.min()["AD"] >= 80
    assert ages.max()["CN"] <= 70
    assert drawn(diagnosis="AD")["age"].min() >= 80
    assert set(drawn(age=58)["diagnosis"]) == {"CN"}


def test_what_is_asked_for_is_what_is_given() -> None:
    found = drawn(50, age=61.5, sex="F")
    assert set(found["age"]) == {61.5}
    assert set(found["sex"]) == {"F"}
    assert found["diagnosis"].notna().all()
    unseen = drawn(50, diagnosis="AD", age=58)  # no training participant has both
    assert set(unseen["diagnosis"]) == {"AD"}
    assert set(unseen["age"]) == {58}


def test_any_leaves_a_condition_out() -> None:
    found = drawn(50, sex=ANY, position_mm=ANY)
    assert found["sex"].isna().all()
    assert found["position_mm"].isna().all()
    assert found["diagnosis"].notna().all()


def test_more_begin_with_the_fewer_and_another_seed_differs() -> None:
    few, more = drawn(5), drawn(50)
    pd.testing.assert_frame_equal(few, more[:5])
    assert not drawn(5, seed=1).equals(few)


def test_positions_are_those_of_slices() -> None:
    assert set(drawn()["position_mm"]) == {-20.0, 0.0, 30.0, 60.0}


def test_it_is_stored_without_exact_ages_and_read_again() -> None:
    joint = JointConditions.fit(KNOWN, slices())
    text = json.dumps(joint.as_json())
    assert "82.3" not in text
    again = JointConditions.from_json(json.loads(text))
    pair = [j.draw(20, {}, np.random.default_rng(3)) for j in (joint, again)]
    assert pair[0] == pair[1]


def test_a_prior_without_conditions_draws_none() -> None:
    joint = JointConditions.fit({}, slices())
    assert joint.draw(3, {}, np.random.default_rng(0)) == [{}, {}, {}]


def test_without_slices_there_is_no_distribution() -> None:
    with pytest.raises(ValueError, match="needs at least one training slice"):
        JointConditions.fit(KNOWN, slices()[:0])
