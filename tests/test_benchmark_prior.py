"""The race of the priors: the same codes, fair sizes, and figures by plain names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import benchmark_modules

COHORT = SimpleNamespace(grid=(16, 16), num_codes=512, vectors=torch.rand(512, 8))


@pytest.fixture(scope="module")
def benchmark() -> Iterator[Any]:
    """The script, as a module."""
    with benchmark_modules("prior") as found:
        yield found.prior


def test_it_ends_in_a_table_and_the_same_as_json(
    benchmark: Any,
    prepared_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(benchmark, "keep_memory", lambda: None)
    file = tmp_path / "figures.json"
    words = ["--run", str(prepared_run), "--work", str(tmp_path), "--cpu-seconds", "1"]
    benchmark.main([*words, "--seeds", "0", "--json", str(file)])
    found = json.loads(file.read_text())
    for budget in (70, 300):
        gain = found[f"monai_bits_{budget}s"] - found[f"ours_bits_{budget}s"]
        assert found[f"bits_below_monai_{budget}s"] == pytest.approx(gain)
        gain = found["unigram"] - found[f"ours_bits_{budget}s"]
        assert found[f"bits_below_unigram_{budget}s"] == pytest.approx(gain)
    assert 0 < found["ours_bits_300s"] < 10
    gain = found["usual_bits_70s"] - found["ours_bits_70s"]
    assert found["bits_below_usual_70s"] == pytest.approx(gain)
    out = capsys.readouterr().out
    assert "bits below MONAI's transformer, 70 CPU-s" in out
    assert "codes of a VQ-VAE with in-brain SSIM" in out
    benchmark.main([*words, "--seeds", "0"])
    assert "training the VQ-VAE" not in capsys.readouterr().out  # kept in the work folder


def test_both_priors_are_causal_and_of_one_size(benchmark: Any) -> None:
    racers = [benchmark.priors.ours(COHORT, 0), benchmark.priors.monai(COHORT, 0)]
    priors = [racer.network.eval() for racer in racers]
    sizes = [benchmark.parameters(prior) for prior in priors]
    assert 0.9 < sizes[0] / sizes[1] < 1.1
    codes = torch.randint(512, (1, 16, 16), generator=torch.Generator().manual_seed(0))
    changed = codes.clone()
    changed[0, 3, 5] = (codes[0, 3, 5] + 1) % 512
    for prior in priors:
        with torch.no_grad():
            moved = (prior(changed) - prior(codes)).abs().amax(1).flatten() > 1e-7
        assert not moved[: 3 * 16 + 6].any()
        assert moved[3 * 16 + 6 :].any()


def test_a_mistyped_command_is_named(benchmark: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        benchmark.parse([])
    assert "give --data DIR or --run RUN" in capsys.readouterr().err
    for wrong in ("lr", "rate=1", "lr=fast"):
        with pytest.raises(SystemExit):
            benchmark.parse(["--run", "r", "--monai", wrong])
        assert "--monai takes NAME=VALUE, the names being lr, batch" in capsys.readouterr().err


def test_settings_of_monais_reach_it(benchmark: Any) -> None:
    args = benchmark.parse(["--run", "r", "--monai", "lr=0.003", "dropout=0.3", "swapped=0"])
    racer = benchmark.priors.monai(COHORT, 0, args.monai)
    assert racer.optimizer.param_groups[0]["lr"] == 0.003
    assert racer.prepare_batch.swapped == 0
    drops = [m.p for m in racer.network.modules() if isinstance(m, torch.nn.Dropout) and m.p]
    assert drops == [0.3] * 11  # of the embedding, and two in each block's perceptron
