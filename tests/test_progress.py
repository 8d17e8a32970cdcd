"""Progress bars: tqdm's form in a terminal, lines in a file, and the steps of a pipeline."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import pytest
import tqdm
from ignite.engine import Engine

from monai_vqbrain import progress as module
from monai_vqbrain.handlers import EngineProgress
from monai_vqbrain.progress import PipelineStep, pipeline_step, progress

ROOT = Path(__file__).parents[1]
TIMES = r"\[\d\d:\d\d<\d\d:\d\d, +[\d.]+volume/s"


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def use_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Let standard error be a terminal; no fixture, because pytest restores it before the test."""
    file = Terminal()
    monkeypatch.setattr(sys, "stderr", file)
    monkeypatch.setattr(module, "SHOW_EVERY", 0.0)
    return file


def test_a_terminal_shows_count_times_and_rate_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = use_terminal(monkeypatch)
    assert list(progress(range(3), "slicing volumes", unit="volume")) == [0, 1, 2]
    states = terminal.getvalue().strip().split("\r")
    assert len(states) > 3
    assert re.match(rf"slicing volumes: 100%\|█+\| 3/3 {TIMES}\]", states[-1])


def test_a_file_gets_a_line_for_each_state(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "LOG_EVERY", 0.0)
    for _ in progress(range(2), "folds"):
        list(progress(range(2), "slicing volumes", unit="volume"))
    shown = capsys.readouterr().err
    assert not re.search(r"[\r\x1b]", shown)
    lines = shown.splitlines()
    assert all(re.match(r"(folds|slicing volumes): +\d+%\|", line) for line in lines)
    assert sum(bool(re.search(rf" 100%\|#+\| 2/2 {TIMES}\]$", line)) for line in lines) >= 2


def test_what_is_quick_leaves_nothing_in_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress(range(3), "slicing volumes")) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_the_bar_of_an_engine_is_no_line_for_each_iteration(
    capsys: pytest.CaptureFixture[str],
) -> None:
    engine = Engine(lambda *_: None)
    EngineProgress("encode").attach(engine)
    engine.run(range(4))
    assert capsys.readouterr().err == ""


def test_a_notebook_counts_as_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ipykernel", tqdm)
    list(progress(range(3), "slicing volumes"))
    assert "\rslicing volumes: 100%" in capsys.readouterr().err


def test_a_bar_names_the_step_of_its_pipeline_and_the_time_for_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = use_terminal(monkeypatch)
    with pipeline_step(PipelineStep(number=2, count=6, expected=60, later=540)):
        list(progress(range(2), "slicing volumes", unit="volume"))
    list(progress(range(2), "afterwards"))
    states = terminal.getvalue().replace("\n", "\r").split("\r")
    step = [state for state in states if "volumes" in state]
    pattern = rf"\[2/6\] slicing volumes: 100%\|█+\| 2/2 {TIMES}, all steps: (10:00|09:59) left\]"
    assert re.match(pattern, step[-1])
    assert not any("all steps" in state for state in states if "afterwards" in state)


@pytest.mark.parametrize(
    ("here", "seconds_ago", "expected"),
    [(0, 0, 700), (0, 60, 640), (0, 160, 600), (30, 90, 630), (300, 0, 900)],
)
def test_the_time_for_all_steps_is_at_least_that_of_this_one(
    monkeypatch: pytest.MonkeyPatch, here: float, seconds_ago: float, expected: float
) -> None:
    step = PipelineStep(number=2, count=6, expected=100, later=600, began=1000.0)
    monkeypatch.setattr(module.time, "monotonic", lambda: 1000.0 + seconds_ago)
    assert step.left(here) == expected


def test_all_bars_are_these() -> None:
    code = [p for p in (ROOT / "monai_vqbrain").rglob("*.py") if p.name != "progress.py"]
    assert [p for p in code if re.search(r"(from|import) tqdm", p.read_text())] == []
    configs = list((ROOT / "bundles").glob("*/configs/*.json"))
    assert [p for p in configs if "ignite.handlers.ProgressBar" in p.read_text()] == []
