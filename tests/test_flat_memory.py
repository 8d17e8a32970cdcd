"""Memory of encoding and evaluation hardly grows with the number of slices."""

from __future__ import annotations

import multiprocessing
import resource
import sys
import weakref
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace

import made_run
import numpy as np
import pandas as pd
import pytest
import torch
from made_run import decode, make_run

from monai_vqbrain import metrics
from monai_vqbrain.handlers import CollectCodes
from monai_vqbrain.metrics.images import ImageArray
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.stages.reporting import fidelity
from monai_vqbrain.stages.reporting.report_figures import _code_figures
from monai_vqbrain.stages.reporting.run_images import run_comparison
from monai_vqbrain.stages.reporting.stored_images import store

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and reads kilobytes")
MB = 1024  # of the kilobytes that getrusage counts in


def growth(work: Callable[[], object]) -> int:
    """By how many kilobytes a process grows at most while it works."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=measure, args=(work, there))
    process.start()
    there.close()  # so that nothing is waited for if the process fails
    grown = int(here.recv())
    process.join()
    return grown


def measure(work: Callable[[], object], connection: Connection) -> None:
    torch.set_num_threads(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    work()
    connection.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, RunFolder]:
    """Runs of 20 and of 200 participants."""
    folder = tmp_path_factory.mktemp("runs")
    return run_of(folder / "few", 20), run_of(folder / "many", 200)


def run_of(path: Path, participants: int) -> RunFolder:
    """A run with 8 slices of 128x128 pixels of each participant, half of them for testing."""
    half = participants // 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made_run, "SIZE", 128)
        patch.setattr(made_run, "SLICES", 8)
        patch.setattr(made_run, "SPLIT", ["training"] * half + ["test"] * half)
        run = make_run(path)
    drawn = "".join(f"sample-{number:04d}\tnone\n" for number in range(1, 6))
    (run.sample_set("default") / "samples.tsv").write_text("sample\tcondition\n" + drawn)
    return run


def test_collected_codes_take_two_bytes_each() -> None:
    def collect(grids: int) -> None:
        handler, batch = CollectCodes(grids), torch.full((500, 32, 32), 511)
        handler._start(SimpleNamespace())  # type: ignore[arg-type]
        for _ in range(grids // 500):
            handler._add(SimpleNamespace(state=SimpleNamespace(output={"codes": batch})))  # type: ignore[arg-type]
        assert (handler.codes().view(torch.int16) == 511).all()

    more = growth(lambda: collect(20_000)) - growth(lambda: collect(2_000))
    assert more < 100 * MB  # 36 MB of codes, and a comparison of them; it was 280 MB


def test_codes_of_a_large_codebook_are_kept_whole() -> None:
    handler, batches = CollectCodes(3), torch.tensor([[7], [65_535], [100_000]]).split(1)
    handler._start(SimpleNamespace())  # type: ignore[arg-type]
    for batch in batches:
        handler._add(SimpleNamespace(state=SimpleNamespace(output={"codes": batch})))  # type: ignore[arg-type]
    assert handler.codes().tolist() == [[7], [65_535], [100_000]]


@pytest.mark.filterwarnings("ignore:divide by zero")
def test_the_images_of_an_evaluation_stay_on_disk(
    tmp_path: Path, runs: tuple[RunFolder, RunFolder]
) -> None:
    few, many = runs

    def compare(run: RunFolder) -> None:
        sets = run_comparison(run, decode, "default", tmp_path)
        assert sets.training.images.shape[1:] == (128, 128)

    # 1,440 slices more are 23 MB; it was 29 MB, and 4 now
    assert growth(lambda: compare(many)) - growth(lambda: compare(few)) < 15 * MB
    assert not list(tmp_path.glob("tmp*"))  # their file has no name


@pytest.mark.filterwarnings("ignore:divide by zero")
def test_the_report_reads_test_slices_in_batches(runs: tuple[RunFolder, RunFolder]) -> None:
    few, many = runs
    more = growth(lambda: _code_figures(many)) - growth(lambda: _code_figures(few))
    assert more < 30 * MB  # of 720 slices; it was 190 MB


def test_tables_of_single_batches_are_not_kept(
    tmp_path: Path, runs: tuple[RunFolder, RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would lie between the images of batches, whose memory could then not be used again.

    The peak of an evaluation grew by 0.2 MB per test slice in this way.
    """
    tables: list[weakref.ref[pd.DataFrame]] = []
    kept: list[int] = []

    def score(prediction: np.ndarray, *_: np.ndarray) -> pd.DataFrame:
        kept.append(sum(table() is not None for table in tables))
        scores = pd.DataFrame(0.5, range(len(prediction)), list(metrics.SCORES))
        tables.append(weakref.ref(scores))
        return scores

    monkeypatch.setattr(fidelity, "score_slices", score)
    monkeypatch.setattr(fidelity, "BATCH", 8)
    found = fidelity.trivial_fidelity(runs[0], tmp_path)["trivial"]
    assert found["nearest"]["ssim_brain"]["mean"] == pytest.approx(0.5)
    assert len(kept) == 4 * 9  # predictors and batches
    assert max(kept) < 8


def test_stored_images_are_indexed_as_an_array() -> None:
    array = np.random.default_rng(0).integers(0, 256, (9, 4, 5), np.uint8)
    stored = store(array[start : start + 4] for start in range(0, 9, 4))
    images: ImageArray = stored
    assert (images.shape, images.dtype, images.ndim, len(images)) == ((9, 4, 5), np.uint8, 3, 9)
    mask = np.arange(9) % 2 == 0
    for which in (3, -1, slice(2, 7), slice(20, 30), mask, np.array([4, 4, 0]), [8, 1]):
        np.testing.assert_array_equal(images[which], array[which])
    part = stored.take(np.array([5, 2, 7]))
    np.testing.assert_array_equal(part[:], array[[5, 2, 7]])
    np.testing.assert_array_equal(part.take(np.array([True, False, True]))[:], array[[5, 7]])
