"""The race of the bundle against the bare loop: what it measures, and its figures."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import BENCHMARKS, benchmark_modules

from monai_vqbrain.engines import VQVAETrainer

LAPS = [
    {"bare": 100.0, "bundle": 90.0, "reading_ms": 1.0, "validation_seconds": 2.0},
    {"bare": 80.0, "bundle": 78.0, "reading_ms": 3.0, "validation_seconds": 4.0},
    {"bare": 120.0, "bundle": 114.0, "reading_ms": 2.0, "validation_seconds": 3.0},
]


@pytest.fixture(scope="module")
def benchmark() -> Iterator[Any]:
    """The script, as a module."""
    with benchmark_modules("bundle") as found:
        yield found.bundle


def test_ratios_are_taken_round_by_round(benchmark: Any) -> None:
    found = benchmark.figures(LAPS)
    assert found["bundle_over_bare"] == pytest.approx(0.95)  # of 0.9, 0.975, 0.95
    assert (found["bundle_over_bare_low"], found["bundle_over_bare_high"]) == (0.9, 0.975)
    assert found["bundle_slices_per_second"] == 90
    assert found["bare_step_ms"] == pytest.approx(1000 * found["batch_size"] / 100)
    text = benchmark.table({**found, "batch_size": 4, "machine": "a slow one"})
    step_ms = 1000 * found["batch_size"] / 90
    bundle = next(line for line in text.splitlines() if line.startswith("bundle"))
    assert bundle.split()[1:3] == ["90.0", f"{step_ms:.2f}"]
    assert bundle.split()[3:] == ["0.950", "0.900-0.975", "0.9", "1.0"]


def test_time_is_that_of_the_processor_and_of_no_longer_than_asked(benchmark: Any) -> None:
    class Work:
        def run(self, seconds: float) -> str:
            time.sleep(0.2)
            began = time.process_time()
            while time.process_time() - began < seconds:
                pass
            return "done"

    with benchmark.cpu_time(Work, "run") as found:
        assert Work().run(0.1) == "done"
    Work().run(0.1)
    assert len(found) == 1
    assert 0.1 <= found[0] < 0.2
    with pytest.raises(KeyError), benchmark.cpu_time(VQVAETrainer, "run"):
        raise KeyError
    assert "run" not in vars(VQVAETrainer)  # a copy there would hide what its base class becomes


@pytest.mark.parametrize("option", ["--cpu-seconds=0", "--rounds=0"])
def test_a_race_of_no_length_is_refused(
    benchmark: Any, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    with pytest.raises(SystemExit):
        benchmark.parse([option])
    assert "--cpu-seconds must be above 0, and --rounds 1 or more" in capsys.readouterr().err


def test_a_short_race_leaves_the_run_alone_and_writes_figures(
    prepared_run: Path, tmp_path: Path
) -> None:
    before = sorted(prepared_run.rglob("*"))
    command = [sys.executable, "bundle.py", "--run", str(prepared_run), "--cpu-seconds", "0.4"]
    done = subprocess.run(
        [*command, "--rounds", "1", "--json", str(tmp_path / "figures.json")],
        cwd=BENCHMARKS,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "figures.json").read_text())
    assert found["bundle_over_bare"] > 0
    assert found["bundle_slices_per_second"] > 0
    assert (found["threads"], found["rounds"]) == (1, 1)
    assert "bare loop" in done.stdout
    assert sorted(prepared_run.rglob("*")) == before
