"""The scorecard marks what the intervals show, and nothing that they do not."""

from __future__ import annotations

import math
from typing import Any

import pytest

from monai_vqbrain.stages.reporting.scorecard import (
    LIMITS,
    MIN_SAMPLES,
    TOO_FEW,
    TOO_WIDE,
    Answer,
    judge,
    scorecard,
)
from monai_vqbrain.stages.reporting.verdict import corrected_p_value, privacy_verdict


def figures(samples: int = 64, **changes: Any) -> dict[str, Any]:
    """metrics.json of a good generator; changes are made by section, one level deep."""
    metrics: dict[str, Any] = {
        "images": {"synthetic": samples, "training_participants": 34, "training": 544},
        "detectability": {"auc": 0.52, "low": 0.45, "high": 0.6, "control": 0.5},
        "coverage": {"value": 0.95, "low": 0.88, "high": 1.0, "floor": 0.96, "images": samples},
        "anatomy": {
            "implausible_share": 0.08,
            "implausible_low": 0.03,
            "implausible_high": 0.15,
            "implausible_share_real": 0.09,
        },
        "copies": {"share": 0.0, "low": 0.0, "high": 0.0, "samples": samples},
        "membership": membership(),
        "utility": {"sex": task()},
    }
    for name, change in changes.items():
        metrics[name] = metrics[name] | change
    metrics["distribution"] = {"coverage_interval": {"random": metrics.pop("coverage")}}
    metrics["audit"] = {name: metrics.pop(name) for name in ("copies", "membership")}
    return metrics


def membership(*p_values: float, high: float = 0.6) -> dict[str, Any]:
    values = p_values or (0.6, 0.3)
    scores = {f"score_{i}": {"dataset_p_value": p} for i, p in enumerate(values)}
    return {
        "auc": 0.53, "low": 0.47, "high": high, "dataset_p_value": values[-1],
        "score": f"score_{len(values) - 1}", "scores": scores,
    }  # fmt: skip


def task(low: float = -0.05, high: float = 0.02) -> dict[str, Any]:
    return {
        "measurable": True,
        "images": 64,
        "real": {"auc": 0.8},
        "synthetic": {"auc": 0.78},
        "difference": (low + high) / 2,
        "difference_low": low,
        "difference_high": high,
    }


def row(metrics: dict[str, Any], section: str) -> Answer:
    return next(answer for answer in scorecard(metrics) if answer.section == section)


@pytest.mark.parametrize(
    ("low", "high", "samples", "mark"),
    [
        (-0.1, 0.15, 64, True),
        (-0.1, 0.16, 64, None),
        (0.01, 0.3, 64, False),
        (0.01, 0.02, 64, False),
        (-0.1, 0.15, MIN_SAMPLES, True),
        (-0.1, 0.15, MIN_SAMPLES - 1, None),
        (0.01, 0.3, 12, False),
        (-0.1, 0.1, None, True),
        (None, None, 64, None),
    ],
)
def test_the_whole_interval_decides(
    low: float | None, high: float | None, samples: int | None, mark: bool | None
) -> None:
    assert judge(low, high, LIMITS["auc"], samples) is mark


def test_a_good_generator_has_five_ticks() -> None:
    rows = scorecard(figures())
    assert [answer.good for answer in rows] == [True] * 5 + [None]
    assert not any(answer.undecided for answer in rows)
    assert [answer.question for answer in rows] == [
        "Can the samples be distinguished from real slices?", "Are they varied?",
        "Is the anatomy right?",
        "Are they copies?", "Are they useful?", "What was it trained on?",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "section", "mark", "words"),
    [
        ({"detectability": {"low": 0.36, "high": 0.72}}, "detectability", None, TOO_WIDE),
        ({"detectability": {"auc": 0.56, "low": 0.52}}, "detectability", False, "than chance"),
        (
            {"detectability": {"auc": 0.9, "low": 0.8}},
            "detectability",
            False,
            "network distinguishes them",
        ),
        ({"coverage": {"low": 0.7}}, "distribution", None, TOO_WIDE),
        ({"coverage": {"low": 0.3, "high": 0.5}}, "distribution", False, "Less varied"),
        ({"anatomy": {"implausible_high": 0.3}}, "anatomy", None, TOO_WIDE),
        ({"anatomy": {"implausible_low": 0.12}}, "anatomy", False, "implausible anatomy"),
        ({"copies": {"high": 0.06}}, "privacy", None, TOO_WIDE),
        ({"copies": {"low": 0.02, "high": 0.06}}, "privacy", False, "There are near copies"),
        ({"membership": {"high": 0.7}}, "privacy", None, "Too few participants to decide"),
        ({"membership": membership(0.9, 0.02)}, "privacy", False, "reveals training participants"),
        ({"utility": {"age": task(-0.3, 0.1)}}, "utility", None, TOO_WIDE),
        ({"utility": {"age": task(-0.3, -0.1)}}, "utility", False, "for classifying age."),
    ],
)
def test_marks(changes: dict[str, Any], section: str, mark: bool | None, words: str) -> None:
    answer = row(figures(**changes), section)
    assert answer.good is mark
    assert answer.undecided is (mark is None)
    assert words in answer.answer


def test_sixteen_samples_are_too_few_for_any_tick() -> None:
    sixteen = figures(
        16,
        detectability={"auc": 0.54, "low": 0.36, "high": 0.72},
        coverage={"value": 1.0, "low": 1.0, "high": 1.0},
        utility={"sex": task() | {"images": 16}},
    )
    rows = scorecard(sixteen)[:5]
    assert [answer.good for answer in rows] == [None] * 5
    assert all(answer.answer.startswith(TOO_FEW) for answer in rows)


def test_tasks_that_cannot_be_measured_have_no_mark() -> None:
    metrics = figures() | {"utility": {"diagnosis": {"measurable": False, "why": "no diagnosis"}}}
    answer = row(metrics, "utility")
    assert (answer.good, answer.undecided) == (None, False)
    assert "Not measurable" in answer.answer


def test_the_membership_line_names_the_score_that_was_taken() -> None:
    figure = row(figures(membership=membership(0.4, 0.02)), "privacy").figure
    assert "by score 1, the larger of 2 scores, corrected p = 0.04" in figure


@pytest.mark.parametrize(
    ("p_values", "corrected"), [((0.03, 0.4), 0.06), ((0.01,), 0.01), ((0.9, 0.8, 0.7), 1.0)]
)
def test_p_values_are_multiplied_by_the_number_of_scores(
    p_values: tuple[float, ...], corrected: float
) -> None:
    assert math.isclose(corrected_p_value(membership(*p_values)), corrected)


def verdict(**changes: Any) -> str:
    copies = {"share": 0.0, "low": 0.0, "high": 0.0}
    return privacy_verdict({"copies": copies, "membership": membership(0.4, 0.03) | changes})


def test_the_larger_of_two_scores_does_not_decide_the_verdict() -> None:
    assert "does not distinguish training participants from others" in verdict(low=0.51)
    assert "the largest of 2 scores; smallest corrected p = 0.06)" in verdict()


def test_the_cross_fitted_test_decides_by_itself() -> None:
    crossed = {"folds": 5, "auc": 0.9, "low": 0.8, "high": 0.95, "p_value": 0.01}
    assert "Treat the networks as personal data" in verdict(cross_fitted=crossed)
    assert "cross-fitted AUC 0.90, p = 0.01" in verdict(cross_fitted=crossed)
    assert "does not distinguish" in verdict(cross_fitted=crossed | {"p_value": 0.3})
