"""Trainings on two ranks are those of one process; they end together, and can be resumed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from conftest import ROOT, benchmark_modules, tiny_vqvae
from ignite.engine import Engine
from monai.data import DataLoader
from monai.engines.utils import IterationEvents

from monai_vqbrain import ranks
from monai_vqbrain.engines import PriorBatch, ShareOfBatch
from monai_vqbrain.errors import UsageError
from monai_vqbrain.handlers import adversary
from monai_vqbrain.runs import process_group
from monai_vqbrain.runs.training import begin_training, report_training

CPU = torch.device("cpu")


def be_rank(rank: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process take itself for one of several ranks."""
    for module in (ranks, process_group):
        monkeypatch.setattr(module, "this_rank", lambda: rank)
        monkeypatch.setattr(module, "rank_count", lambda: count)
    monkeypatch.setattr("monai_vqbrain.engines.shares.rank_count", lambda: count)


@pytest.mark.slow
def test_two_ranks_train_as_one(trained_run: Path, tmp_path: Path) -> None:
    with benchmark_modules("two_ranks") as module:
        found = module.two_ranks.differences(trained_run, tmp_path)
    for bundle in ("vqvae", "pixelcnn"):
        assert found[f"{bundle}_steps"] == 21
        assert found[f"{bundle}_loss_difference"] < 1e-9
        assert found[f"{bundle}_weight_difference"] < 1e-9
        assert found[f"{bundle}_metric_difference"] < 1e-5  # as they are written
        assert found[f"{bundle}_float32_loss_ratio_difference"] < 0.01
    assert found["vqvae_codes_differing"] == 0
    assert found["vqvae_codebook_difference"] < 1e-9
    assert found["vqvae_counts_difference"] < 1e-9
    assert found["vqvae_redrawn"] == found["vqvae_redrawn_on_two"] > 0
    assert found["two_rank_loss_difference"] < 1e-9


def two_ranks(run: Path, *more: str) -> subprocess.Popen[str]:
    """Start the VQ-VAE's training as the docs say."""
    configs = ROOT / "bundles" / "vqvae" / "configs"
    files = [str(configs / name) for name in ("train.json", "multi_gpu_train.json")]
    options = {**tiny_vqvae().overrides, "slices_per_epoch": 320, "max_epochs": 3}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
         "-m", "monai.bundle", "run", "training", "--config_file", str(files),
         "--run_dir", str(run), *words, *more],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def worker(rank: int, launcher: int) -> int:
    """The process of a rank."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            environment = path.read_bytes().split(b"\0")
            parent = int((path.parent / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has ended, or is not ours
        if parent == launcher and f"RANK={rank}".encode() in environment:
            return int(path.parent.name)
    raise AssertionError(f"no process of rank {rank}")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").is_file(), reason="finds ranks in /proc")
def test_a_dead_rank_ends_the_job_and_two_ranks_resume(prepared_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(prepared_run, run)
    work = run / "3-vqvae.partial"
    with two_ranks(run) as job:
        while not (work / "checkpoint.pt").is_file():
            assert job.poll() is None, job.communicate()[0][-5000:]
            time.sleep(0.02)
        os.kill(worker(1, job.pid), signal.SIGKILL)
        killed = time.monotonic()
        told, _ = job.communicate()
    assert time.monotonic() - killed < 60
    assert job.returncode != 0
    assert "Signal 9 (SIGKILL)" in told
    assert not (run / "3-vqvae").exists()
    before = torch.load(work / "checkpoint.pt", weights_only=True)["epoch"]
    row = pd.read_csv(work / "metrics.tsv", sep="\t").iloc[0]

    with two_ranks(run, "--resume", "True") as job:
        told, _ = job.communicate()
    assert job.returncode == 0, told[-5000:]
    table = pd.read_csv(run / "3-vqvae" / "metrics.tsv", sep="\t")
    assert before < 3
    assert table["epoch"].tolist() == [1, 2, 3]
    assert table.iloc[0].equals(row)
    assert told.count("trained: best validation ssim_brain") == 1  # rank 0 alone


@pytest.mark.parametrize(("network", "bundle"), [("vqvae", "vqvae"), ("prior", "pixelcnn")])
def test_a_configuration_for_one_process_is_refused_under_torchrun(
    network: str, bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    words = (
        "torchrun has started 2 processes, and train.json alone is for one: add "
        f"multi_gpu_train.json, as in --config_file .*{bundle}/configs/train.json','.*{bundle}/"
        "configs/multi_gpu_train.json"
    )
    with pytest.raises(UsageError, match=words):
        begin_training(tmp_path, network)
    assert list(tmp_path.iterdir()) == []


def test_the_configuration_for_several_is_refused_without_torchrun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UsageError, match="write torchrun --nproc_per_node=2 -m monai.bundle in pl"):
        process_group.join_group(1)


def test_more_processes_than_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert process_group.local_device() == torch.device("cuda", 1)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(UsageError, match="process 3 .* there are 2: start 2 processes"):
        process_group.local_device()


def test_other_ranks_neither_report_nor_need_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monai_vqbrain.runs.training.this_rank", lambda: 1)
    report_training(tmp_path / "missing")


@pytest.mark.parametrize(("items", "count"), [(8, 2), (5, 2), (7, 3), (3, 3)])
def test_shares_are_even_and_cover_all(
    items: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares, validated = [], []
    for rank in range(count):
        be_rank(rank, count, monkeypatch)
        shares.append(range(items)[ranks.share_of(items)])
        validated += process_group.rank_items(range(items))
    assert [item for share in shares for item in share] == sorted(validated) == list(range(items))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_too_few_validation_slices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    be_rank(0, 3, monkeypatch)
    with pytest.raises(UsageError, match="2 validation slices are too few for 3 processes: st"):
        process_group.rank_items([1, 2])


def test_shares_of_a_prepared_batch_are_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = torch.arange(5 * 6).view(5, 2, 3)
    batch = {"codes": codes, "condition": torch.rand(5, 2), "neighbour": codes.flip(0)}
    prepare = PriorBatch(swapped=0.5, hidden=0.3, alone=0.3)
    torch.manual_seed(0)
    whole = prepare(batch, CPU)
    parts, weights = [], []
    for rank in (0, 1):
        be_rank(rank, 2, monkeypatch)
        share = ShareOfBatch(prepare)
        torch.manual_seed(0)
        parts.append(share(batch, CPU))
        weights.append(share.weight)
    assert weights == [0.8, 1.2]  # 2 and 3 of 5 items
    for place in (0, 1):
        assert torch.equal(torch.cat([part[place] for part in parts]), whole[place])
    for name, values in whole[3].items():
        joined = torch.cat([part[3][name] for part in parts])
        assert torch.equal(joined.nan_to_num(-9), values.nan_to_num(-9))


def test_losses_are_weighted_by_items(monkeypatch: pytest.MonkeyPatch) -> None:
    be_rank(1, 2, monkeypatch)
    share = ShareOfBatch()

    def step(engine: Engine, batch: dict[str, torch.Tensor]) -> dict[str, Any]:
        images, _ = share(batch, CPU)
        engine.state.output = {"loss": images.mean(), "losses": {"l1": images.mean()}}
        engine.fire_event(IterationEvents.LOSS_COMPLETED)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output

    engine = Engine(step)
    engine.register_events(*IterationEvents)
    share.attach(engine)
    images = [{"image": torch.tensor(float(value))} for value in range(5)]
    engine.run(DataLoader(images, batch_size=5))
    assert float(engine.state.output["loss"]) == pytest.approx(1.2 * (2 + 3 + 4) / 3)
    assert engine.state.output["losses"]["l1"] == engine.state.output["loss"]


@pytest.mark.parametrize(("items", "size"), [(2, 8), (17, 8)])
def test_a_batch_with_fewer_items_than_ranks_is_refused_at_the_start(
    items: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_rank(0, 3, monkeypatch)
    engine = Engine(lambda *_: pytest.fail("a step was made"))
    engine.register_events(*IterationEvents)
    ShareOfBatch().attach(engine)
    words = f"epoch of {items} slices in batches of {size} has a batch of {items % size}, fewer"
    with pytest.raises(ValueError, match=words):
        engine.run(DataLoader(list(range(items)), batch_size=size))


def test_gradients_of_a_discriminator_are_means_over_items(monkeypatch: pytest.MonkeyPatch) -> None:
    others = {"items": 3, "gradient": torch.tensor([4.0])}

    def all_reduce(value: Any) -> Any:
        return value + (others["items"] if isinstance(value, int) else others["gradient"] * 3 / 5)

    communication = SimpleNamespace(get_world_size=lambda: 2, all_reduce=all_reduce)
    monkeypatch.setattr(adversary, "idist", communication)
    weight = torch.nn.Parameter(torch.zeros(1))
    weight.grad = torch.tensor([-1.0])
    adversary.average_gradients([weight, torch.nn.Parameter(torch.zeros(1))], items=2)
    assert weight.grad.tolist() == pytest.approx([(2 * -1 + 3 * 4) / 5])
