"""Which figures count as moved in the benchmark of faults."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from conftest import benchmark_modules


@pytest.fixture(scope="module")
def benchmark() -> Iterator[Any]:
    """The script, as a module."""
    with benchmark_modules("detection") as found:
        yield found.detection


def test_a_figure_moves_when_its_interval_leaves_the_value_without_a_fault(benchmark: Any) -> None:
    still = {name: {"value": 0.5, "low": 0.4, "high": 0.6} for name in benchmark.FIGURES}
    blurred = still | {"contrast": {"value": 0.9, "low": 0.7, "high": 1.0}}
    found = {"none": still, "blur": blurred}
    assert benchmark.moved(found, "none") == []
    assert benchmark.moved(found, "blur") == ["contrast"]
    assert "0.900*" in benchmark.table(found)


def test_the_file_holds_one_object_per_fault_and_the_planted_copies(benchmark: Any) -> None:
    still = {name: {"value": 0.5, "low": 0.4, "high": 0.6} for name in benchmark.FIGURES}
    far = {"value": 0.9, "low": 0.7, "high": 1.0}
    found = {"none": still} | {fault: still | {"auc": far} for fault in benchmark.SHOULD_MOVE}
    found["flips"] = still | {"mirrored": far}
    planted = {"found_exact": 1.0, "found_mirrored": 0.96, "found_redrawn": 0.8}
    result = benchmark.results(found, planted | {"false_alarms": 0.02, "training_slices": 9})
    assert (result["copies_found"], result["false_alarms"]) == (0.96, 0.02)
    assert result["flips"] == {
        "should_move": "mirrored", "moved": ["mirrored"], "found": True, "figures": found["flips"],
    }  # fmt: skip
    assert (result["blur"]["moved"], result["blur"]["found"]) == (["auc"], False)
    assert result["faults_found"] == 1
    assert result["none"]["figures"]["auc"]["value"] == 0.5


def test_every_fault_is_to_be_known_by_a_figure_that_is_measured(benchmark: Any) -> None:
    assert set(benchmark.SHOULD_MOVE.values()) <= set(benchmark.FIGURES)


def test_a_missing_end_of_an_interval_is_the_value(benchmark: Any) -> None:
    found = {"difference": 0.3, "difference_low": None, "difference_high": 0.5}
    spread = benchmark.spread(found, "difference", "difference_")
    assert spread == {"value": 0.3, "low": 0.3, "high": 0.5}
