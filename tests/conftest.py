"""What several test files share."""

from __future__ import annotations

import importlib
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib as mpl
import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores: a thread each, children too
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from monai_vqbrain.stages.train import TrainOptions
from monai_vqbrain.terminal import configure_logging

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"

LOCAL = ("localhost", "::1", "0.0.0.0", "", socket.gethostname())

mpl.use("Agg")


class NetworkError(AssertionError):
    """A test tried to reach another machine."""


def refuse_network(event: str, arguments: tuple[Any, ...]) -> None:
    """Raise for a connection, or the look-up of a name, that leaves this machine."""
    if event in ("socket.connect", "socket.sendto"):
        host = arguments[1][0] if isinstance(arguments[1], tuple) else LOCAL[0]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0] or LOCAL[0]
    else:
        return
    name = host.decode() if isinstance(host, bytes) else str(host)
    if name not in LOCAL and not name.startswith("127."):
        raise NetworkError(f"{event} to {name}: no test may open a network connection")


sys.addaudithook(refuse_network)  # no library can go around it; forked processes have it, too


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what is marked `cuda` where there is no such device."""
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
        pytest.skip("no CUDA device")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real brain MRI; a test that asks for it is skipped where there is none."""
    folder = Path(os.environ.get("VQBRAIN_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real MRI at {folder}: set VQBRAIN_TEST_DATA to a folder with it")
    return folder


@pytest.fixture(scope="session")
def prepared_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with the 32x32 slices of nine simulated participants; copy it before you change it."""
    from monai_vqbrain.cohorts import make_phantom
    from monai_vqbrain.stages.prepare import prepare_slices
    from monai_vqbrain.stages.slicing.options import PrepareOptions

    folder = tmp_path_factory.mktemp("prepared")
    source = make_phantom(folder / "people", participants=9, resolution_mm=4, second_sessions=0)
    for scan in sorted(source.glob("sub-*/ses-*/anat/*_T1w.nii.gz"))[::2]:  # some without sessions
        flat = scan.parents[2] / "anat" / scan.name.replace("_ses-01", "")
        flat.parent.mkdir()
        scan.rename(flat)
    prepare_slices(source, folder / "run", PrepareOptions(size=(32, 32), spacing=6.0, count=4))
    return folder / "run"


@pytest.fixture(autouse=True)
def terminal() -> None:
    """Messages are shown as the command line shows them."""
    configure_logging(0)


@pytest.fixture(scope="session")
def trained_run(prepared_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole path on the prepared run, with tiny networks; copy it before you change it."""
    from monai_vqbrain.stages.encode import encode
    from monai_vqbrain.stages.sample import SampleOptions, draw_samples
    from monai_vqbrain.stages.train import train

    run = tmp_path_factory.mktemp("trained") / "run"
    shutil.copytree(prepared_run, run)
    train(run, "vqvae", tiny_vqvae())
    encode(run)
    train(run, "prior", tiny_prior())
    draw_samples(run, SampleOptions(number=5))
    return run


@pytest.fixture(scope="session")
def evaluated_run(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained run with its evaluation; copy it before you change it."""
    from monai_vqbrain.stages.evaluate import evaluate

    run = tmp_path_factory.mktemp("evaluated") / "run"
    shutil.copytree(trained_run, run)
    evaluate(run, device="cpu")
    return run


def tiny_vqvae(**options: Any) -> TrainOptions:
    """A few steps of a tiny VQ-VAE."""
    overrides = {
        "slices_per_epoch": 32,
        "batch_size": 8,
        "network_def#width": 8,
        "network_def#num_codes": 16,
        "network_def#blocks": [1, 1],
    }
    return TrainOptions(**{"epochs": 2, "overrides": overrides, **options})


def tiny_prior(**options: Any) -> TrainOptions:
    """A few steps of a tiny prior."""
    overrides = {"slices_per_epoch": 32, "network_def#channels": 8, "network_def#layers": 1}
    return TrainOptions(**{"epochs": 2, "overrides": overrides, **options})


@contextmanager
def benchmark_modules(*names: str) -> Iterator[SimpleNamespace]:
    """Scripts of benchmarks/, which is no package, as modules; nothing of them stays behind."""
    sys.path.insert(0, str(BENCHMARKS))
    threads = torch.get_num_threads()
    yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    torch.set_num_threads(threads)
    sys.path.remove(str(BENCHMARKS))
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(BENCHMARKS)):
            del sys.modules[name]
