"""Stages on two ranks give the files that one process gives, and end together."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import monai_vqbrain
from monai_vqbrain import team
from monai_vqbrain.errors import UsageError, VQBrainError
from monai_vqbrain.metrics.detectability import DetectorProtocol
from monai_vqbrain.stages.reporting import ruler
from monai_vqbrain.team import on_all_ranks, spread

BOTH = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
ONLY_RANK_1 = """
import os, sys
from monai_vqbrain import cli
from monai_vqbrain.inferers import VQVAEInferer
def failing(*_):
    raise RuntimeError("no memory left")
if os.environ["RANK"] == "1":
    VQVAEInferer.encode = failing
cli.main()
"""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums of float32 depend on the number of threads, and a forked process has one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def on_two_ranks(monkeypatch: pytest.MonkeyPatch, stage: Callable[[], Any]) -> Any:
    """Run a stage as rank 0, with a forked process as rank 1."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for name, value in {**BOTH, "MASTER_PORT": str(port), "RANK": "0", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    other = multiprocessing.get_context("fork").Process(target=as_rank_1, args=(stage,))
    other.start()
    try:
        return stage()
    finally:
        other.join(60)
        monkeypatch.undo()
        assert other.exitcode == 0


def as_rank_1(stage: Callable[[], Any]) -> None:
    os.environ |= {"RANK": "1", "LOCAL_RANK": "1"}
    with suppress(VQBrainError):  # rank 0 has it, too
        stage()


def contents(folder: Path) -> dict[str, bytes]:
    """Every file that holds results, by its name."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("provenance.json", "log.txt", "report.html")
    }


def test_codes_are_those_of_one_process(
    trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(trained_run, tmp_path / "run"))
    shutil.rmtree(run / "4-codes")
    on_two_ranks(monkeypatch, lambda: monai_vqbrain.encode(run))
    one, two = (load_file(each / "4-codes/codes.safetensors") for each in (trained_run, run))
    assert set(one) == {"codes", "views"}
    assert len(one["views"][0]) * len(one["views"]) > 128  # several batches on each rank
    for name, codes in one.items():
        np.testing.assert_array_equal(two[name], codes)
    table = "4-codes/codes.tsv"
    assert (run / table).read_bytes() == (trained_run / table).read_bytes()
    record = json.loads((run / "4-codes/provenance.json").read_text())
    assert record["made_from"] == json.loads(
        (trained_run / "4-codes/provenance.json").read_text()
    )["made_from"]  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [{"number": 150, "seed": 3}, {"number": 10, "volume": True}],
    ids=["images", "volumes"],
)
def test_samples_are_those_of_one_process(
    options: dict[str, Any], trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(trained_run, tmp_path / "run"))
    one = monai_vqbrain.sample(run, name="one", **options)
    two = on_two_ranks(monkeypatch, lambda: monai_vqbrain.sample(run, name="two", **options))
    assert two == run / "6-samples/two"
    files = contents(one)
    assert sum(name.endswith(".nii.gz") for name in files) == options["number"]
    assert contents(two) == files


def test_figures_are_those_of_one_process(
    trained_run: Path, prepared_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = DetectorProtocol(steps=2, batch=4)
    for name in ("detectability", "detectability_control"):
        test = getattr(ruler, name)
        monkeypatch.setattr(ruler, name, lambda *sets, test=test: test(*sets[:4], (0,), few))
    run = Path(shutil.copytree(trained_run, tmp_path / "run"))
    monai_vqbrain.sample(run, number=12)
    other = Path(shutil.copytree(prepared_run, tmp_path / "other-site"))
    reports = []
    for evaluated in (
        lambda: monai_vqbrain.evaluate(run, cohort=other),
        lambda: on_two_ranks(monkeypatch, lambda: monai_vqbrain.evaluate(run, cohort=other)),
    ):
        evaluated()
        reports.append(contents(run / "7-report"))
        shutil.rmtree(run / "7-report")
    assert {"metrics.json", "fidelity.tsv", "bits.tsv", "panel.png"} <= set(reports[0])
    assert json.loads(reports[0]["metrics.json"])["cohort"]["distribution"]["kid"]
    assert reports[0] == reports[1]


def test_answers_come_in_the_order_of_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    @on_all_ranks
    def stage() -> list[tuple[int, int]]:
        return list(spread(square_and_process, range(7)))

    found = on_two_ranks(monkeypatch, stage)
    assert [square for square, _ in found] == [number**2 for number in range(7)]
    processes = [process for _, process in found]
    assert processes[0::2] == [os.getpid()] * 4
    assert len(set(processes)) == 2


def square_and_process(number: int) -> tuple[int, int]:
    return number**2, os.getpid()


def test_an_error_of_rank_0_ends_the_others(
    trained_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="number of images must be 1 or more"):
        on_two_ranks(monkeypatch, on_all_ranks(lambda: monai_vqbrain.sample(trained_run, number=0)))


def test_an_error_of_rank_1_is_that_of_the_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = on_all_ranks(lambda: list(spread(fail_at_three, range(4))))
    with pytest.raises(VQBrainError, match="^rank 1: RuntimeError: there is no three$"):
        on_two_ranks(monkeypatch, stage)


def fail_at_three(number: int) -> int:
    if number == 3:
        raise RuntimeError("there is no three")
    return number


def test_the_death_of_rank_1_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = on_all_ranks(lambda: list(spread(leave_at_three, range(4))))
    with pytest.raises(VQBrainError, match="rank 1 has ended without an answer .*: start"):
        on_two_ranks(monkeypatch, stage)


def test_a_rank_that_never_comes_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(team, "ASSEMBLY", timedelta(seconds=1))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for name, value in {**BOTH, "MASTER_PORT": str(port), "RANK": "0", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(VQBrainError, match="not found each other within 1 s: look for the message"):
        on_all_ranks(list)()


def leave_at_three(number: int) -> int:
    if number == 3:
        os._exit(0)
    return number


def torchrun(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", *arguments]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(monai_vqbrain.__file__).parents[1]),
    }
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def test_torchrun_starts_the_command_line_and_an_error_is_one_line(
    trained_run: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(trained_run, tmp_path / "run"))
    shutil.rmtree(run / "4-codes")
    (tmp_path / "failing.py").write_text(ONLY_RANK_1)
    began = time.monotonic()
    failed = torchrun("failing.py", "encode", "run", cwd=tmp_path)
    assert time.monotonic() - began < 60 or os.getloadavg()[0] > 4
    assert failed.returncode != 0
    errors = re.findall(r"(?<!\w)Error: .*", failed.stderr)  # after the bar, in its line
    assert len(errors) == 1, failed.stderr
    assert "rank 1: vqvae/encode.json stopped: RuntimeError: no memory left" in errors[0]
    assert not (run / "4-codes").exists()
    done = torchrun("-m", "monai_vqbrain", "encode", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("encoding 4-codes") == 1
    table = "4-codes/codes.tsv"
    assert (run / table).read_bytes() == (trained_run / table).read_bytes()
