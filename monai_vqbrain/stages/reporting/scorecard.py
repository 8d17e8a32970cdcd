"""The scorecard on top of a report: six questions.

Each figure is turned into an excess, of which 0 is ideal, with its 95 % interval. The mark is "!"
if the whole interval is beyond `reference`, "yes" if it stays within `tolerated` and there are
enough samples, and undecided otherwise. A finding against the model needs no minimum of samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from monai_vqbrain.stages.reporting.pages import percent
from monai_vqbrain.stages.reporting.verdict import (
    EXPECTED_COPIES,
    corrected_p_value,
    reveals_membership,
    score_name,
)

SPACE = "random"  # the feature space that the scorecard quotes
MIN_SAMPLES, ADVISED_SAMPLES = 50, 64
CHANCE = 0.5  # the AUC of guessing
CLEARLY = 0.6  # above it, the two sides can be distinguished
TOO_FEW = f"Too few samples for a conclusion: draw at least {ADVISED_SAMPLES}."
TOO_WIDE = "Undecided: the interval is too wide. More samples or held-out participants narrow it."

Metrics = Mapping[str, Any]


@dataclass(frozen=True)
class Limits:
    """The limits above which an excess counts against a model, and below which it is tolerated."""

    reference: float
    tolerated: float


LIMITS = {
    "auc": Limits(0.0, 0.15),  # above 0.5
    "coverage": Limits(0.1, 0.2),  # share of the training slices' coverage that is missing
    "implausible": Limits(0.02, 0.1),  # share beyond that of real held-out slices
    "copies": Limits(EXPECTED_COPIES, 0.05),  # share of samples
    "utility": Limits(0.0, 0.1),  # AUC lost when real slices are replaced by samples
}


@dataclass(frozen=True)
class Answer:
    """One line of the scorecard.

    Args:
        question: its text.
        answer: its text, without the figure.
        figure: the figure with its comparison.
        good: whether the result is good; None if it is undecided or was not measured.
        section: id of the section that explains it; empty if nothing was measured.
        undecided: whether it was measured, but the interval is too wide to decide.
    """

    question: str
    answer: str
    figure: str
    good: bool | None
    section: str
    undecided: bool = False


def scorecard(metrics: Metrics) -> list[Answer]:
    """The answers to all questions; those without figures are not measured.

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


def judge(
    low: float | None, high: float | None, limits: Limits, samples: int | None = None
) -> bool | None:
    """Whether an excess is small enough.

    Args:
        low: lower end of the 95 % interval of the excess; None if there is no interval.
        high: upper end.
        limits: the limits of the question.
        samples: number of samples; None if it does not matter.

    Returns:
        False if all of the interval is beyond the reference, True if all of it is tolerated and
        there are at least `MIN_SAMPLES` samples, else None.

    Example:
        >>> judge(-0.02, 0.04, Limits(0.0, 0.15), samples=64)
        True
        >>> judge(-0.14, 0.22, Limits(0.0, 0.15), samples=64) is None
        True
    """
    if low is None or high is None:
        return None
    if low > limits.reference:
        return False
    enough = samples is None or samples >= MIN_SAMPLES
    return True if enough and high <= limits.tolerated else None


def _detectable(metrics: Metrics) -> Iterator[Answer]:
    question = "Can the samples be distinguished from real slices?"
    found = metrics.get("detectability")
    if not found:
        yield _not_measured(question)
        return
    low, high = (None if found[end] is None else found[end] - CHANCE for end in ("low", "high"))
    samples = _samples(metrics)
    good = judge(low, high, LIMITS["auc"], samples)
    against = (
        "A small network distinguishes them better than chance."
        if found["auc"] < CLEARLY
        else "A small network distinguishes them."
    )
    figure = f"AUC {found['auc']:.2f}{_range(found)}; 0.5 is chance"
    if found.get("control") is not None:
        figure += f"; real against real participants {found['control']:.2f}"
    answer = _worded(good, "A small network cannot distinguish them.", against, samples)
    yield Answer(question, answer, figure, good, "detectability", good is None)


def _varied(metrics: Metrics) -> Iterator[Answer]:
    question = "Are they varied?"
    found = metrics.get("distribution", {}).get("coverage_interval", {}).get(SPACE)
    if not found:
        yield _not_measured(question)
        return
    real = max(found["floor"], 1e-9)
    low, high = (None if found[end] is None else 1 - found[end] / real for end in ("high", "low"))
    samples = found.get("images")
    good = judge(low, high, LIMITS["coverage"], samples)
    answer = _worded(
        good, "About as varied as real slices.", "Less varied than real slices.", samples
    )
    figure = f"coverage {found['value']:.2f}{_range(found)}; training slices {found['floor']:.2f}"
    yield Answer(question, answer, figure, good, "distribution", good is None)


def _anatomy(metrics: Metrics) -> Iterator[Answer]:
    question = "Is the anatomy right?"
    found = metrics.get("anatomy")
    if not found:
        yield _not_measured(question)
        return
    share, real = found["implausible_share"], found["implausible_share_real"]
    low, high = found.get("implausible_low", share), found.get("implausible_high", share)
    samples = _samples(metrics)
    good = judge(low - real, high - real, LIMITS["implausible"], samples)
    answer = _worded(
        good,
        "Size, shape and brightness are as in real slices.",
        "Some samples have implausible anatomy.",
        samples,
    )
    spread = f" ({percent(low)} to {percent(high)})" if low < high else ""
    figure = f"{percent(share)} of samples{spread}, {percent(real)} of real slices implausible"
    yield Answer(question, answer, figure, good, "anatomy", good is None)


def _copies(metrics: Metrics) -> Iterator[Answer]:
    question = "Are they copies?"
    audit = metrics.get("audit", {})
    if "copies" not in audit:
        yield _not_measured(question)
        return
    copies, membership = audit["copies"], audit.get("membership")
    samples = copies.get("samples")
    verdicts = [judge(copies["low"], copies["high"], LIMITS["copies"], samples)]
    none = "No more near copies than among held-out slices."
    answer = _worded(verdicts[0], none, "There are near copies.", samples)
    spread = f" ({percent(copies['low'])} to {percent(copies['high'])})" if copies["high"] else ""
    figure = f"{percent(copies['share'])} near a training slice{spread}; 1.0 % is expected"
    if membership:
        verdicts.append(_membership_mark(membership))
        answer += MEMBERSHIP[verdicts[1]]
        figure += f"; {_membership_figure(membership)}"
    good = _worst(verdicts)
    yield Answer(question, answer, figure, good, "privacy", good is None)


MEMBERSHIP = {
    True: "",
    False: " The prior's likelihood reveals training participants.",
    None: " Too few participants to decide whether the prior's likelihood reveals training "
    "participants.",
}


def _membership_mark(membership: Metrics) -> bool | None:
    """By the corrected p-value; without evidence good only if the AUC's interval is narrow."""
    if reveals_membership(membership):
        return False
    return True if membership["high"] - CHANCE <= LIMITS["auc"].tolerated else None


def _membership_figure(membership: Metrics) -> str:
    figure = f"membership AUC {membership['auc']:.2f}{_range(membership)}"
    tried = len(membership.get("scores", ()))
    if tried > 1:
        larger = "larger" if tried == 2 else "largest"
        figure += f" by {score_name(membership['score'])}, the {larger} of {tried} scores"
    return f"{figure}, corrected p = {corrected_p_value(membership):.2g}"


def _useful(metrics: Metrics) -> Iterator[Answer]:
    question = "Are they useful?"
    tasks = metrics.get("utility") or {}
    measured = {name: task for name, task in tasks.items() if task.get("measurable")}
    if not measured:
        answer = "Not measurable; the reasons are in the section." if tasks else "Not measured."
        yield Answer(question, answer, "", None, "utility" if tasks else "")
        return
    marks = {name: _utility_mark(task) for name, task in measured.items()}
    good = _worst(list(marks.values()))
    named = " and ".join(name for name, mark in marks.items() if mark is good)
    samples = min((t["images"] for t in measured.values() if "images" in t), default=None)
    answer = _worded(
        good,
        f"As good as real slices for classifying {named}.",
        f"Less useful than real slices for classifying {named}.",
        samples,
    )
    figure = "; ".join(
        f"{name}: AUC {task['synthetic']['auc']:.2f} trained on samples, "
        f"{task['real']['auc']:.2f} on real slices"
        for name, task in measured.items()
    )
    yield Answer(question, answer, figure, good, "utility", good is None)


def _utility_mark(task: Metrics) -> bool | None:
    low, high = (task.get(f"difference_{end}") for end in ("high", "low"))
    loss = [None if end is None else -end for end in (low, high)]
    return judge(loss[0], loss[1], LIMITS["utility"], task.get("images"))


def _trained_on(metrics: Metrics) -> Iterator[Answer]:
    question = "What was it trained on?"
    images = metrics.get("images")
    split = metrics.get("split")
    figure = ""
    if split:
        participants = split["participants"]["training"]
        slices = split["slices"]["training"]
    elif images:
        participants, slices = images["training_participants"], images["training"]
        figure = "half of the real participants, in place of the training participants"
    else:
        return
    answer = f"{participants:,} participants, {slices:,} slices."
    yield Answer(question, answer, figure, None, "participants")


def _not_measured(question: str) -> Answer:
    return Answer(question, "Not measured.", "", None, "")


def _samples(metrics: Metrics) -> int | None:
    return metrics.get("images", {}).get("synthetic")


def _worded(good: bool | None, yes: str, no: str, samples: int | None) -> str:
    if good is not None:
        return yes if good else no
    return TOO_FEW if samples is not None and samples < MIN_SAMPLES else TOO_WIDE


def _worst(marks: list[bool | None]) -> bool | None:
    """False before undecided before True."""
    if False in marks:
        return False
    return None if None in marks else True


def _range(found: Metrics) -> str:
    return "" if found["low"] is None else f" ({found['low']:.2f} to {found['high']:.2f})"
