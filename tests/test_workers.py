"""Volumes on processes and on a cluster: a real scheduler and two workers, one of which dies."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

from monai_vqbrain.cohorts import make_phantom
from monai_vqbrain.errors import UnavailableImageError, UnusableImageError, UsageError
from monai_vqbrain.processes import safe_imports
from monai_vqbrain.stages.prepare import prepare_slices
from monai_vqbrain.stages.slicing.options import PrepareOptions
from monai_vqbrain.stages.slicing.workers import map_in_order

SMALL = PrepareOptions(size=(32, 32), spacing=6.0, count=4)


def double(number: int) -> int:
    time.sleep(0.02 * (3 - number))  # the later ones are done first
    return 2 * number


def test_results_come_in_order() -> None:
    assert list(map_in_order(double, [(1,), (2,), (3,)], jobs=1)) == [2, 4, 6]


PARENT = """
from monai_vqbrain.stages.slicing.workers import map_in_order

assert list(map_in_order(abs, [(-1,), (-2,)], jobs=2)) == [1, 2]
"""


def test_workers_import_nothing_from_the_current_folder(tmp_path: Path) -> None:
    (tmp_path / "parent.py").write_text(PARENT)
    data = tmp_path / "data"
    data.mkdir()
    for name in ("numpy", "joblib", "multiprocessing", "pickle"):
        (data / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    command = [sys.executable, str(tmp_path / "parent.py")]
    done = subprocess.run(command, cwd=data, capture_output=True, text=True, check=False)
    assert not (tmp_path / "ran").exists()
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("earlier", [None, "", "1"])
def test_the_environment_is_as_before(earlier: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    if earlier is not None:
        monkeypatch.setenv("PYTHONSAFEPATH", earlier)
    with safe_imports():
        assert os.environ["PYTHONSAFEPATH"] == "1"
    assert os.environ.get("PYTHONSAFEPATH") == earlier


SLEEPING_PARENT = """
import signal
import time

from monai_vqbrain.stages.slicing.workers import map_in_order

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background jobs
print("started", flush=True)
list(map_in_order(time.sleep, [(60,), (60,), (60,)], jobs=2))
"""


@pytest.mark.skipif(os.name != "posix", reason="Windows does not show that a parent has ended")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_a_parent_that_is_killed(number: int, tmp_path: Path) -> None:
    (tmp_path / "parent.py").write_text(SLEEPING_PARENT)
    command = [sys.executable, str(tmp_path / "parent.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        workers = wait_for(lambda: busy_workers(parent.pid), 30)
        assert workers
        parent.send_signal(number)
    assert wait_for(lambda: not any(map(is_alive, workers)), 5)


def busy_workers(parent: int) -> list[psutil.Process]:
    """The workers of a process; none before both have a thread that watches it."""
    children = psutil.Process(parent).children()
    workers = [child for child in children if "popen_loky_posix" in " ".join(child.cmdline())]
    ready = len(workers) == 2 and all(worker.num_threads() > 1 for worker in workers)
    return workers if ready else []


def is_alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def wait_for(found: Callable[[], Any], seconds: float) -> Any:
    """What a function returns as soon as it is true; else its last result."""
    end = time.monotonic() + seconds
    while not (result := found()) and time.monotonic() < end:
        time.sleep(0.05)
    return result


def test_without_a_scheduler_it_says_how_to_start_one(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("monai_vqbrain.stages.slicing.workers.SCHEDULER_TIMEOUT", 1)
    with pytest.raises(UsageError, match="no dask scheduler answers at tcp://127.0.0.1:9: start"):
        list(map_in_order(double, [(1,)], jobs=1, dask="tcp://127.0.0.1:9"))


def test_without_dask_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r"pip install 'monai-vqbrain\[cluster\]'"):
        list(map_in_order(double, [(1,)], jobs=1, dask="tcp://127.0.0.1:9"))


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """The address of a scheduler, and its two workers of one thread each."""
    pytest.importorskip("distributed")
    file = tmp_path / "scheduler.json"
    start = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    known = ["--no-dashboard", "--scheduler-file", str(file)]
    scheduler = subprocess.Popen([*start, "--port", "0", *known], **quiet)
    join = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(file)]
    join += ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1"]
    while not file.is_file():
        time.sleep(0.1)
    workers = [subprocess.Popen([*join, "--local-directory", str(tmp_path)], **quiet)
               for _ in range(2)]  # fmt: skip
    address = pd.read_json(file, typ="series")["address"]
    yield address, workers
    for process in (*workers, scheduler):
        process.kill()
        process.wait()


def test_a_cluster_prepares_what_one_process_does_though_a_worker_is_killed(
    cluster: tuple[str, list[subprocess.Popen[bytes]]], tmp_path: Path
) -> None:
    address, workers = cluster
    source = make_phantom(tmp_path / "people", participants=12, resolution_mm=4)
    alone = prepare_slices(source, tmp_path / "alone", SMALL)
    stacks = tmp_path / "together" / ".2-slices.partial" / "stacks"

    def kill_one() -> None:
        while not list(stacks.glob("*.json")):
            time.sleep(0.01)
        os.kill(workers[0].pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_one, daemon=True)
    killer.start()
    options = PrepareOptions(size=(32, 32), spacing=6.0, count=4, dask=address)
    together = prepare_slices(source, tmp_path / "together", options)
    killer.join(1)
    assert workers[0].wait(5) == -signal.SIGKILL
    assert workers[1].poll() is None
    names = sorted(path.name for path in (alone / "stacks").iterdir())
    assert sorted(path.name for path in (together / "stacks").iterdir()) == names
    for name in (*(f"stacks/{name}" for name in names), "slices.tsv", "datalist.json"):
        assert (together / name).read_bytes() == (alone / name).read_bytes()


@pytest.mark.parametrize("kind", [UnusableImageError, UnavailableImageError])
def test_errors_of_workers_arrive_whole(kind: type[UnusableImageError]) -> None:
    found = pickle.loads(pickle.dumps(kind("is damaged", "download it again")))
    assert type(found) is kind
    assert (str(found), found.problem) == ("is damaged: download it again", "is damaged")
