"""The figures of the benchmark of brain extraction."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import benchmark_modules


@pytest.fixture(scope="module")
def benchmark() -> Iterator[Any]:
    """The script, as a module."""
    with benchmark_modules("brain_extraction") as found:
        yield found.brain_extraction


def test_agreement_is_dice_and_what_is_lost_and_added(benchmark: Any) -> None:
    reference, found = np.zeros((2, 10, 10, 10), dtype=bool)
    reference[:8], found[2:9] = True, True
    measured = benchmark.agreement(found, reference)
    assert measured["dice"] == pytest.approx(2 * 6 / 15)
    assert measured["lost"] == pytest.approx(2 / 8)
    assert measured["added"] == pytest.approx(1 / 7)


def test_figures_are_medians_and_the_lowest(benchmark: Any) -> None:
    heads = [
        {"dice": dice, "lost": 0.1, "added": 0.0, "cpu_seconds": 2.0} for dice in (0.9, 0.95, 0.99)
    ]
    slow = [head | {"cpu_seconds": 6.0} for head in heads]
    figures = benchmark.figures_of({"deepbet": heads, "template": slow})
    assert figures["deepbet_dice_median"] == 0.95
    assert figures["deepbet_dice_lowest"] == 0.9
    assert figures["cpu_seconds_ratio"] == 3
    assert "deepbet" in benchmark.table(figures)


def test_a_folder_without_heads_is_refused(
    benchmark: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        benchmark.main(["--heads", str(tmp_path)])
    assert "has no *_T1w.nii.gz" in capsys.readouterr().err
