"""Variants of a training side by side: what is compared, and how it is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import benchmark_modules
from made_run import make_run

from monai_vqbrain.errors import UsageError


@pytest.fixture(scope="module")
def benchmark() -> Iterator[Any]:
    """The script, as a module."""
    with benchmark_modules("ablation") as found:
        yield found.ablation


def test_every_variant_stands_beside_the_recipe_as_shipped(
    benchmark: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "run", prior=False)
    words = ["--run", str(run.path), "--cpu-seconds", "0.3", "--seeds", "0", "1"]
    variant = "network_def#num_codes=4 batch_size=4"
    benchmark.main([*words, "--variant", variant, "--json", str(tmp_path / "found.json")])
    found = json.loads((tmp_path / "found.json").read_text())
    assert len(found[f"{variant}: ssim_brain"]) == len(found["as shipped: ssim_brain"]) == 2
    assert max(found[f"{variant}: codes_used"]) <= 4 < max(found["as shipped: codes_used"])
    assert variant in capsys.readouterr().out


def test_the_table_tells_medians_ranges_and_changes(benchmark: Any) -> None:
    runs = {
        "as shipped": [0.91, 0.90, 0.92],
        "ema=0.999": [0.93, 0.925, 0.90],
    }
    rest = {"psnr_whole": 31.0, "codes_used": 512, "steps": 9}
    found = {name: [{"ssim_brain": s, **rest} for s in scores] for name, scores in runs.items()}
    line = benchmark.table(found, 100).splitlines()[-1]
    assert line.split()[:4] == ["ema=0.999", "0.9250", "0.9000-0.9300", "+0.0150"]


def test_a_mistyped_variant_is_named_before_anything_runs(benchmark: Any) -> None:
    with pytest.raises(UsageError, match="no such id; did you mean batch_size"):
        benchmark.parse(["--run", "x", "--variant", "batchsize=4"])
