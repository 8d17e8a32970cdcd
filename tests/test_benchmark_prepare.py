"""What preparing costs: the script's figures, on a few small volumes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import benchmark_modules

from monai_vqbrain.cohorts import make_phantom
from monai_vqbrain.stages import prepare as stage
from monai_vqbrain.stages.slicing import plan


@pytest.fixture(scope="module")
def benchmark() -> Iterator[Any]:
    """The script, as a module."""
    with benchmark_modules("prepare") as found:
        yield found.prepare


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cost") / "people"
    return make_phantom(folder, participants=4, resolution_mm=4, second_sessions=0)


def test_it_ends_in_a_table_and_the_same_as_json(
    benchmark: Any,
    people: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(benchmark, "COUNTS", (3, 4))
    file = tmp_path / "figures.json"
    monkeypatch.setattr(benchmark, "CAREFUL", benchmark.CAREFUL[:2])
    cohorts = ["--data", str(people), "--also", str(people)]
    benchmark.main([*cohorts, "--volumes", "2", "--aligned", "1", "--json", str(file)])
    figures = json.loads(file.read_text())
    assert figures["cpu_over_load"] > 1
    assert figures["speedup_monai"] > 0
    assert figures["memory_growth"] == figures["peak_mb_4"] / figures["peak_mb_3"]
    assert figures["run_cpu_seconds_3"] > 0
    assert figures["slice_growth"] == figures["slice_ms_of_160"] / figures["slice_ms_of_16"]
    assert abs(figures["align_ncc_loss"]) < 0.03
    assert 0 < figures["align_cpu_seconds"] <= figures["align_cpu_seconds_most"]
    shown = capsys.readouterr().out
    assert f"{figures['prepare_cpu_seconds']:.3f}" in shown
    assert "preparing a volume, to loading it" in shown
    assert "correlation lost to careful alignment" in shown


def test_volumes_are_chosen_from_end_to_end(benchmark: Any) -> None:
    assert benchmark.evenly(list("abcde"), 3) == ["a", "c", "e"]
    assert benchmark.evenly(list("abcde"), 1) == ["a"]


def test_cohorts_are_whole_again_afterwards(benchmark: Any, people: Path) -> None:
    with benchmark.only(2):
        assert len(plan.read_cohort(people).scans) == 2
    assert len(plan.read_cohort(people).scans) == 4


def test_pictures_are_not_counted(benchmark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(*_: Any) -> None:
        began = time.process_time()
        while time.process_time() - began < 0.2:
            pass

    monkeypatch.setattr(stage, "write_qc", busy)
    assert benchmark.seconds(lambda: [stage.write_qc(), stage.write_qc()]) < 0.1
    assert benchmark.seconds(busy) >= 0.2
