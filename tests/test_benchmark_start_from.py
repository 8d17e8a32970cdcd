"""Starts and budgets that are measured, results that are kept, and the table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import benchmark_modules

from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.runs.folder import RunFolder


@pytest.fixture(scope="module")
def benchmark() -> Iterator[Any]:
    """The script, as a module."""
    with benchmark_modules("start_from") as found:
        yield found.start_from


def options(benchmark: Any, work: Path, *more: str) -> Any:
    return benchmark.parse(["--source", "ixi-hh", "--work", str(work), *more])


def figures(ssim: float) -> dict[str, float]:
    return {
        "ssim_brain": ssim, "bits_per_code": 2.5, "below_unigram": 1.0, "detectability": 0.8,
        "cpu_minutes": 3.0,
    }  # fmt: skip


def test_a_cell_is_trained_once_from_its_start(
    benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learnt: list[tuple[str | None, float]] = []
    monkeypatch.setattr(
        benchmark, "learn", lambda run, start, budget, seed: learnt.append((start, budget))
    )
    monkeypatch.setattr(benchmark, "figures_of", lambda run, number, seed: figures(0.9))
    subset = RunFolder(tmp_path / "subset")
    subset.slices.mkdir(parents=True)
    args = options(benchmark, tmp_path)
    for start in (*benchmark.STARTS, benchmark.NOTHING):
        found = benchmark.measured(subset, start, 60, args)
        assert found["ssim_brain"] == 0.9
    assert learnt == [(None, 60), ("ds002748", 60)]
    assert (tmp_path / "nothing-60" / "2-slices").resolve() == subset.slices.resolve()
    benchmark.measured(subset, benchmark.NOTHING, 60, options(benchmark, tmp_path, "--seed", "1"))
    assert len(learnt) == 3


def test_the_table_compares_the_least_budget_with_the_largest(benchmark: Any) -> None:
    ssim = {("nothing", 60): 0.85, ("ds002748", 60): 0.93, ("nothing", 300): 0.92}
    text = benchmark.table({cell: figures(value) for cell, value in ssim.items()})
    assert "60 s from ds002748  0.930" in text
    assert text.endswith("60 s from ds002748, minus that after 300 s from nothing: +0.010")


def test_more_participants_than_there_are_is_one_line(
    benchmark: Any, tmp_path: Path, prepared_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "RunFolder", lambda path: RunFolder(prepared_run))
    monkeypatch.setattr(benchmark, "prepare", lambda *_: None)
    args = options(benchmark, tmp_path, "--participants", "99")
    with pytest.raises(VQBrainError, match=r"--participants 99: the cohort has \d for training"):
        benchmark.prepare_cohort(RunFolder(tmp_path / "subset"), args)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--participants", "3"], "--participants must be 4 or more, --samples 10 or more"),
        (["--budgets", "0"], "--budgets must be above 0"),
    ],
    ids=str,
)
def test_numbers_out_of_range_are_refused(
    benchmark: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    with pytest.raises(SystemExit):
        options(benchmark, tmp_path, *arguments)
    assert words in capsys.readouterr().err
