"""The race of the quantizers: the same work for all, and figures by plain names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import benchmark_modules

TINY = ["--shapes", "64x4", "512x64", "--batch", "1", "--rounds", "1", "--seconds", "0"]


@pytest.fixture(scope="module")
def benchmark() -> Iterator[Any]:
    """The script, as a module."""
    with benchmark_modules("quantizer") as found:
        yield found.quantizer


def peer() -> None:
    pytest.importorskip("vector_quantize_pytorch", reason="an extra: pip install -e .[benchmark]")


def cells(out: str, what: str, shape: str) -> list[str]:
    """Ratio, that of ours with the rotation trick, must and aim of a line of the goals."""
    line = next(line for line in out.splitlines() if what in line and f" {shape} " in line)
    return line.partition(f" {shape} ")[2].split()[:4]


def test_it_ends_in_a_table_and_the_same_as_json(
    benchmark: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    peer()
    weigh = (
        benchmark.weigh
    )  # of ours alone: a process that imports a baseline takes seconds to begin
    weighed = lambda name, *rest: weigh(name, *rest) if name == "ours" else 1000.0  # noqa: E731
    monkeypatch.setattr(benchmark, "weigh", weighed)
    benchmark.main([*TINY, "--json", str(tmp_path / "figures.json")])
    found = json.loads((tmp_path / "figures.json").read_text())
    for end in ("64_4", "512_64"):
        for name in ("monai", "vqpytorch"):
            speedup = found[f"ms_{name}_{end}"] / found[f"ms_ours_{end}"]
            assert found[f"speedup_{name}_{end}"] == pytest.approx(speedup)
        part = found[f"memory_mb_ours_{end}"] / 1000
        assert found[f"memory_ratio_monai_{end}"] == pytest.approx(part)
        assert 0 < part < 1
    out = capsys.readouterr().out
    names = ("speedup_monai_512_64", "rotation_speedup_monai_512_64")
    expected = [*(benchmark.short(found[name]) for name in names), "5.0", "6.0"]
    assert cells(out, "monai, times as fast", "512, 64") == expected
    first = f"64x4, ms: ours {benchmark.short(found['ms_ours_64_4'])}, rotation "
    assert out.startswith(first)  # said as soon as it is known
    assert found["machine"] in out


def test_what_cannot_be_measured_stays_empty(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmark, "find_spec", lambda _: None)
    monkeypatch.setattr(benchmark, "weigh", lambda *_: None)
    benchmark.main(["--shapes", "64x4", *TINY[3:]])
    out = capsys.readouterr().out
    assert 'not installed: pip install -c constraints.txt -e ".[benchmark]"' in out
    assert cells(out, "vqpytorch, times as fast", "64, 4") == ["-"] * 4
    assert cells(out, "monai, memory", "64, 4") == ["-"] * 4


def test_the_racers_do_the_same_work(benchmark: Any) -> None:
    peer()
    codebook, encodings = torch.randn(64, 4), torch.randn(2, 4, 8, 8, requires_grad=True)
    outcomes = {}
    for name in ("ours", "monai", "vqpytorch"):
        quantizer = benchmark.build(name, (64, 4))
        begin(name, quantizer, codebook)
        kept = slice(0, 3, 2) if name == "vqpytorch" else slice(2)
        quantised, loss = quantizer(encodings)[kept]
        sent = [torch.ones_like(quantised), torch.ones(())]
        (back,) = torch.autograd.grad([quantised, loss], encodings, sent)
        outcomes[name] = (quantised, loss, back, book(name, quantizer))
    assert not torch.equal(outcomes["ours"][3], codebook)
    for name in ("monai", "vqpytorch"):
        for theirs, ours in zip(outcomes[name], outcomes["ours"], strict=True):
            assert torch.allclose(theirs, ours, atol=1e-4)


def begin(name: str, quantizer: Any, codebook: torch.Tensor) -> None:
    """The same codebook, each code having won 2 encodings of late."""
    values = {
        "ours": {"codebook": codebook, "sums": 2 * codebook, "initialised": torch.tensor(True)},
        "monai": {"embedding.weight": codebook, "ema_w": 2 * codebook},
        "vqpytorch": {"_codebook.embed": codebook[None], "_codebook.embed_avg": 2 * codebook[None]},
    }
    counts = {"ours": "counts", "monai": "ema_cluster_size", "vqpytorch": "_codebook.cluster_size"}
    state = quantizer.state_dict() | values[name]
    state[counts[name]] = torch.full_like(state[counts[name]], 2.0)
    quantizer.load_state_dict(state)


def book(name: str, quantizer: Any) -> torch.Tensor:
    if name == "vqpytorch":
        return quantizer.codebook
    return quantizer.codebook if name == "ours" else quantizer.embedding.weight


@pytest.mark.parametrize(
    ("value", "sign", "verdict"),
    [(6.5, 1, "aim met"), (5.0, 1, "must met"), (4.9, 1, "missed"), (5.5, -1, "missed")],
)
def test_verdicts(benchmark: Any, value: float, sign: int, verdict: str) -> None:
    goal = (5.0, 6.0) if sign > 0 else (5.0, 4.0)
    assert benchmark.judged([value], goal, sign)[-1] == verdict


@pytest.mark.parametrize("options", [["--rounds", "0"], ["--batch", "0"], ["--seconds", "-1"]])
def test_wrong_numbers_are_refused(
    benchmark: Any, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        benchmark.main(options)
    assert "--rounds and --batch must be 1 or more, --seconds 0 or more" in capsys.readouterr().err
