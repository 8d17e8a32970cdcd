"""Variants of the prior's training side by side, and codes of other VQ-VAEs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import benchmark_modules

from monai_vqbrain.errors import UsageError


@pytest.fixture(scope="module")
def benchmark() -> Iterator[Any]:
    """The script, as a module."""
    with benchmark_modules("prior_ablation") as found:
        yield found.prior_ablation


def test_every_variant_stands_beside_the_recipe_on_codes_of_the_vqvae_asked_for(
    benchmark: Any,
    prepared_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys.modules["ablation"], "keep_memory", lambda: None)
    words = ["--run", str(prepared_run), "--work", str(tmp_path), "--cpu-seconds", "0.3"]
    words += ["--vqvae-seconds", "0.5", "--seeds", "0", "1", "--json", str(tmp_path / "f.json")]
    variant = "network_def#channels=16 batch_size=4"
    benchmark.main([*words, "--variant", variant, "--vqvae", "network_def#num_codes=8"])
    found = json.loads((tmp_path / "f.json").read_text())
    assert len(found[f"{variant}: bits"]) == len(found["as shipped: bits"]) == 2
    assert max(found[f"{variant}: parameters"]) < min(found["as shipped: parameters"])
    assert 1 <= found["vqvae_codes_used"] <= 8
    assert found["unigram"] < 3.1
    out = capsys.readouterr().out
    assert variant in out
    assert "VQ-VAE network_def#num_codes=8: in-brain SSIM" in out


def test_the_table_tells_medians_ranges_and_changes(benchmark: Any) -> None:
    runs = {"as shipped": [3.0, 2.9, 3.1], "batch_size=16": [2.8, 2.85, 3.2]}
    found = {name: [{"bits": b, "steps": 9} for b in bits] for name, bits in runs.items()}
    line = benchmark.table(found, 100, 4.0).splitlines()[-1]
    words = ["batch_size=16", "2.850", "2.800-3.200", "-0.150", "1.150", "9"]
    assert line.split() == words


def test_a_mistyped_variant_is_named_before_anything_runs(benchmark: Any) -> None:
    for option in ("--variant", "--vqvae"):
        with pytest.raises(UsageError, match="no such id; did you mean batch_size"):
            benchmark.parse(["--run", "x", option, "batchsize=4"])
