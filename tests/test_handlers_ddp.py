"""Two ranks that each have a part of the data decide as one rank with all of it."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from ignite.engine import Engine, Events
from monai.engines import Evaluator
from monai.handlers import ValidationHandler
from torch import nn

from monai_vqbrain.handlers import (
    BitsPerCode,
    BrainPSNR,
    BrainSSIM,
    CodeBits,
    CodebookPerplexity,
    CodesUsed,
    EngineCallbacks,
    ImagePanel,
    MetricsTable,
    ResumableCheckpoint,
    SliceScores,
    StopWithoutProgress,
    TrainingBudget,
    budget as budget_module,
)

PEOPLE = ["a", "a", "a", "b", "c", "c"]  # those of "a" lie on both ranks, unequally many
SHARES = ([0, 3], [1, 2, 4, 5])
NOISE = [0.3, 0.1, 0.05, 0.2, 0.15, 0.25]  # by epoch: the third scores best
SLOWNESS = (1.0, 7.0)  # seconds that a step takes by each rank's clock


def batches(items: list[int]) -> list[dict[str, Any]]:
    """One slice per batch, so that ranks have unequally many batches."""
    return [{"item": item} for item in items]


def evaluated(engine: Engine, batch: dict[str, Any]) -> dict[str, Any]:
    """What an evaluator leaves of a slice: the better the less noise the epoch has."""
    item, generator = batch["item"], torch.Generator().manual_seed(batch["item"])
    image = torch.rand(1, 1, 16, 16, generator=generator)
    noise = torch.randn(1, 1, 16, 16, generator=generator) * (1 + item)
    return {
        "image": image,
        "pred": image + NOISE[engine.state.epoch - 1] * noise,
        "mask": torch.ones(1, 1, 16, 16, dtype=torch.bool),
        "codes": torch.randint(2 + item, (1, 4, 4), generator=generator),
        "bits": torch.rand(1, 4, 4, generator=generator) * (1 + item),
        "participant_id": [PEOPLE[item]],
        "session_id": ["ses-1"],
        "axis": ["axial"],
        "index": [item],
    }


def run(items: list[int], folder: Path, rank: int, resume: bool = False) -> dict[str, Any]:
    """A training of six epochs at most, whose budget ends after 20 s; what it has come to."""
    clock = SimpleNamespace(now=0.0)
    budget_module.time = SimpleNamespace(monotonic=lambda: 100 + clock.now)  # type: ignore[assignment]
    validator = Evaluator(
        device="cpu",
        val_data_loader=batches(items),
        iteration_update=evaluated,
        key_val_metric={"ssim_brain": BrainSSIM()},
        additional_metrics={
            "psnr_brain": BrainPSNR(),
            "bits": BitsPerCode(),
            "used": CodesUsed(8),
            "perplexity": CodebookPerplexity(8),
        },
        val_handlers=[
            ImagePanel(folder / "panel.png"),
            SliceScores(folder / "fidelity.tsv"),
            CodeBits(folder / "bits.tsv"),
        ],
        decollate=False,
    )
    network = nn.Linear(1, 1)
    sgd = torch.optim.SGD(network.parameters(), 1.0)
    budget = TrainingBudget(sgd, minutes=20 / 60, warmup=0, what="train" if rank == 0 else None)
    called: list[str] = []
    metrics: list[dict[str, float]] = []
    rates: list[float] = []

    def step(engine: Engine, batch: int) -> dict[str, torch.Tensor]:
        clock.now += SLOWNESS[rank]
        rates.append(sgd.param_groups[0]["lr"])
        nn.init.constant_(network.weight, engine.state.epoch)
        return {"loss": torch.tensor(1.0 + rank)}

    engine = Engine(step)
    for handler in (
        ValidationHandler(1, validator),
        MetricsTable(folder / "metrics.tsv", validator, budget),
        ResumableCheckpoint(folder, {"network": network, "budget": budget}, validator, resume),
        budget,
        StopWithoutProgress(validator, 2, budget),
        EngineCallbacks(lambda _: called.append("started"), lambda _: called.append("completed")),
    ):
        handler.attach(engine)
    engine.add_event_handler(
        Events.EPOCH_COMPLETED, lambda: metrics.append(dict(validator.state.metrics))
    )
    engine.run(range(5), max_epochs=4 if not resume else 5)
    state = validator.state
    return {
        "metrics": metrics,
        "best": (state.best_metric, state.best_metric_epoch),
        "ended": (engine.state.epoch, engine.state.iteration),
        "rates": rates,
        "called": called,
        "weight": float(network.weight.detach()),
    }


def work(rank: int, folder: str) -> None:
    """What a process does: train with its part of the data, twice."""
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    torch.set_num_threads(1)
    first = run(SHARES[rank], Path(folder) / "both", rank)
    dist.barrier()
    again = run(SHARES[rank], Path(folder) / "both", rank, resume=True)
    torch.save((first, again), Path(folder) / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def run_both(folder: Path) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Run `work` in two processes; fail if they have not ended after two minutes."""
    context = mp.start_processes(work, (str(folder),), 2, join=False, start_method="spawn")
    deadline = time.monotonic() + 120
    while not context.join(timeout=1):
        if time.monotonic() > deadline:
            for process in context.processes:
                process.kill()
            pytest.fail("the two processes wait for each other")
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in (0, 1)]


def test_two_ranks_decide_as_one_with_all_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget_module, "time", time)  # put back what `run` changes
    (zero, zero_again), (one, one_again) = run_both(tmp_path)
    alone = run(list(range(len(PEOPLE))), tmp_path / "alone", rank=0)

    # the same figures on both ranks, which are those of one rank on the whole data
    assert len(zero["metrics"]) == 4
    for mine, theirs, whole in zip(zero["metrics"], one["metrics"], alone["metrics"], strict=True):
        assert mine == theirs
        assert mine == pytest.approx(whole, abs=1e-6)
    assert zero["best"] == one["best"]
    assert zero["best"][1] == alone["best"][1] == 3
    assert zero["best"][0] == pytest.approx(alone["best"][0], abs=1e-6)

    # the clock of rank 0 sets the rates and ends the training
    assert zero["ended"] == one["ended"] == alone["ended"] == (4, 20)
    assert zero["rates"] == one["rates"] == pytest.approx(alone["rates"], abs=1e-6)

    # rank 0 writes, and every rank resumes from what it wrote
    assert (zero["called"], one["called"]) == (["started", "completed"], [])
    table = pd.read_csv(tmp_path / "both" / "metrics.tsv", sep="\t")
    assert table["loss"].tolist() == [1.5] * len(table)  # the mean over ranks
    assert table["epoch"].tolist() == list(range(1, len(table) + 1))
    best = torch.load(tmp_path / "both" / "model.pt", weights_only=True)
    assert float(best["weight"]) == 3
    assert zero_again["ended"] == one_again["ended"] == (5, 21)  # no second is left
    assert zero_again["best"] == one_again["best"] == zero["best"]

    # with a row per slice, those of the other rank too
    for name in ("fidelity.tsv", "bits.tsv"):
        both, whole = (pd.read_csv(tmp_path / run / name, sep="\t") for run in ("both", "alone"))
        assert both.sort_values("index")["index"].tolist() == whole["index"].tolist()
    both = both.sort_values("index", ignore_index=True)
    pd.testing.assert_frame_equal(both, whole)  # bits, which are the same in every epoch
