"""The scorecard on top of a report: six questions in the order in which a reader asks them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

SPACE = "random"  # the feature space that the scorecard quotes
CLEARLY = 0.6  # an AUC above it tells the two sides apart more often than not by accident
EXPECTED_COPIES = 0.01  # share of held-out slices below the threshold, by its definition

Metrics = Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """One line of the scorecard.

    Args:
        question: in plain words.
        answer: in plain words, without the figure.
        figure: the figure with its comparison.
        good: whether it is what one wants; None where nothing was measured.
        section: id of the section that says how it was computed; empty where nothing was measured.
    """

    question: str
    answer: str
    figure: str
    good: bool | None
    section: str


def scorecard(metrics: Metrics) -> list[Answer]:
    """The answers that the figures give; questions without figures say so.

    Args:
        metrics: metrics.json.
    """
    return [
        *_detectable(metrics),
        *_varied(metrics),
        *_anatomy(metrics),
        *_copies(metrics),
        *_useful(metrics),
        *_trained_on(metrics),
    ]


def _detectable(metrics: Metrics) -> Iterator[Answer]:
    question = "Can the samples be told from real ones?"
    found = metrics.get("detectability")
    if not found:
        yield Answer(question, "Not measured.", "", None, "")
        return
    good = found["low"] is not None and found["low"] <= 0.5
    answer = "A small network cannot tell them." if good else (
        "A small network tells them better than chance."
        if found["auc"] < CLEARLY
        else "A small network tells them."
    )  # fmt: skip
    figure = f"AUC {found['auc']:.2f}{_range(found)}; 0.5 is chance"
    if found.get("control") is not None:
        figure += f"; real against real participants {found['control']:.2f}"
    yield Answer(question, answer, figure, good, "detectability")


def _varied(metrics: Metrics) -> Iterator[Answer]:
    question = "Are they varied?"
    found = metrics.get("distribution", {}).get("coverage_interval", {}).get(SPACE)
    if not found:
        yield Answer(question, "Not measured.", "", None, "")
        return
    share = found["value"] / max(found["floor"], 1e-9)
    good = share >= 0.9
    answer = "About as varied as real slices." if good else "Less varied than real slices."
    figure = f"coverage {found['value']:.2f}{_range(found)}; training slices {found['floor']:.2f}"
    yield Answer(question, answer, figure, good, "distribution")


def _anatomy(metrics: Metrics) -> Iterator[Answer]:
    question = "Is the anatomy right?"
    found = metrics.get("anatomy")
    if not found:
        yield Answer(question, "Not measured.", "", None, "")
        return
    beyond = found["implausible_share"] - found["implausible_share_real"]
    good = beyond <= 0.02
    answer = "In size, shape and brightness." if good else "Not in all samples."
    figure = (
        f"{found['implausible_share']:.1%} of samples are implausible; "
        f"{found['implausible_share_real']:.1%} of real held-out slices are by the same rule"
    )
    yield Answer(question, answer, figure, good, "anatomy")


def _copies(metrics: Metrics) -> Iterator[Answer]:
    question = "Are they copies?"
    audit = metrics.get("audit", {})
    if "copies" not in audit:
        yield Answer(question, "Not measured.", "", None, "")
        return
    copies = audit["copies"]
    none = copies["low"] is None or copies["low"] <= EXPECTED_COPIES
    answer = "No more near copies than held-out slices." if none else "There are near copies."
    figure = f"{copies['share']:.1%} near a training slice{_range(copies, 3)}; 1.0% is expected"
    good = none
    if "membership" in audit:
        member = audit["membership"]
        figure += f"; membership AUC {member['auc']:.2f}{_range(member)}"
        if member["low"] > 0.5:
            good = False
            answer += " The prior's likelihood tells who was in the training set."
    yield Answer(question, answer, figure, good, "privacy")


def _useful(metrics: Metrics) -> Iterator[Answer]:
    question = "Are they useful?"
    tasks = metrics.get("utility") or {}
    measurable = {name: task for name, task in tasks.items() if task.get("measurable")}
    if not measurable:
        answer = "Not measurable: the real task is at chance." if tasks else "Not measured."
        yield Answer(question, answer, "", None, "utility" if tasks else "")
        return
    name, task = next(iter(measurable.items()))
    good = task["difference_low"] > -0.1
    answer = f"For telling {name}." if good else f"Less than real slices, for telling {name}."
    figure = (
        f"AUC {task['synthetic']['auc']:.2f} trained on samples, {task['real']['auc']:.2f} on real"
    )
    yield Answer(question, answer, figure, good, "utility")


def _trained_on(metrics: Metrics) -> Iterator[Answer]:
    question = "What was it trained on?"
    images = metrics.get("images")
    split = metrics.get("split")
    if split:
        people, slices = split["participants"]["training"], split["slices"]["training"]
    elif images:
        people, slices = images["training_participants"], images["training"]
    else:
        return
    answer = f"{people} participants, {slices:,} slices."
    yield Answer(question, answer, "", None, "participants")


def _range(found: Mapping[str, Any], digits: int = 2) -> str:
    if found.get("low") is None:
        return ""
    return f" ({found['low']:.{digits}f} to {found['high']:.{digits}f})"
