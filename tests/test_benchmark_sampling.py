"""The race of the samplers: equal sizes, right sums, and figures by plain names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import benchmark_modules

NAMES = (
    "speedup_plain_b1", "speedup_monai_b1", "speedup_monai_flash_b1", "speedup_plain_b64",
    "speedup_monai_b64", "floor_ratio_b64", "max_logit_error", "kv_speedup_b1", "kv_speedup_b16",
    "extra_memory_mb_b64",
)  # fmt: skip


@pytest.fixture(scope="module")
def benchmark() -> Iterator[Any]:
    """The script, as a module."""
    with benchmark_modules("sampling") as found:
        yield found.sampling


def test_it_ends_in_a_table_and_the_same_as_json(
    benchmark: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(benchmark, "keep_memory", lambda: None)
    monkeypatch.setattr(benchmark, "weigh", lambda grid: 12.5)
    file = tmp_path / "figures.json"
    benchmark.main(["--grid", "2", "3", "--rounds", "1", "--json", str(file)])
    found = json.loads(file.read_text())
    assert set(NAMES) <= set(found)
    ratio = found["seconds_monai_b64"] / found["seconds_b64"]
    assert found["speedup_monai_b64"] == pytest.approx(ratio)
    assert found["floor_ratio_b64"] == pytest.approx(found["seconds_b64"] / found["seconds_floor"])
    assert found["max_logit_error"] < 1e-5
    assert found["kv_max_logit_error"] < 1e-5
    out = capsys.readouterr().out
    line = next(line for line in out.splitlines() if line.startswith("MB beyond the weights"))
    assert line.split()[-5:] == ["12", "100", "70", "aim", "met"]
    assert "extrapolated" in next(x for x in out.splitlines() if x.startswith("batch 64, against"))


def test_the_racers_are_of_one_size_on_the_grid_of_the_race(benchmark: Any) -> None:
    ours, theirs = benchmark.our_prior((32, 32)), benchmark.their_prior((32, 32))
    more = benchmark.size(ours.conditions) + benchmark.size(ours.neighbour)
    for of_ours in (benchmark.size(ours), benchmark.size(ours) - more):
        assert 0.9 < of_ours / benchmark.size(theirs) < 1.1
        assert 4.5e6 < of_ours < 5.5e6


def test_operations_are_those_of_the_networks_own_forward(benchmark: Any) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    prior = benchmark.our_prior((8, 8))
    prior.conditions = prior.neighbour = None
    for block in prior.blocks:
        block.condition = None
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        prior(torch.zeros(1, 8, 8, dtype=torch.long))
    # the forward computes an overhang of a row or a few columns in every layer, and cuts it off
    once = 2 * 64 * benchmark.multiplications(prior)
    assert once < counter.get_total_flops() < 1.6 * once


def test_steps_are_summed_over_all_lengths(benchmark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def straight(work: Any) -> float:  # a step that costs 2 + 3 for each token before it
        (tokens,) = work.__defaults__
        return 2.0 + 3.0 * tokens.shape[1]

    monkeypatch.setattr(benchmark, "seconds", straight)
    total = benchmark.extrapolated(torch.nn.Identity(), 1, 100)
    assert total == pytest.approx(np.sum(2 + 3 * np.arange(1, 101)))
