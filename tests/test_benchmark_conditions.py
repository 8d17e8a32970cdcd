"""Whether samples obey: measures that know a wide ventricle, and samplers that obey or do not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import benchmark_modules
from made_run import SIZE, make_run

from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.stacks import read_slices
from monai_vqbrain.runs.tables import read_slices_table


@pytest.fixture(scope="module")
def benchmark() -> Iterator[Any]:
    """The script, as a module."""
    with benchmark_modules("conditions") as found:
        yield found.conditions


def brain(ventricle: float, side: int = 64) -> np.ndarray:
    """A bright disc with a dark middle of this many pixels' radius: (W, H) uint8."""
    x, y = np.meshgrid(*[np.arange(side) - side / 2] * 2, indexing="ij")
    radius = np.hypot(x, y)
    return np.where(radius < 24, np.where(radius < ventricle, 40, 180), 0).astype(np.uint8)


class Obedient:
    """Draws what a function of the question gives, as a Sampler does."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.prior = SimpleNamespace(settings={"conditions": {"age": [60.0, 80.0]}})

    def __call__(self, seed: int, **asked: Any) -> np.ndarray:
        return np.stack([self.answer(**asked)] * 3)


def test_ventricles_are_measured_in_square_mm_and_the_rim_is_none(benchmark: Any) -> None:
    area = benchmark.ventricles(brain(8))
    assert area == pytest.approx(np.pi * 8**2 * benchmark.MILLIMETRES**2, rel=0.05)
    furrowed = brain(0)
    furrowed[32, 8:14] = 20  # open to the outside, and at the rim
    assert benchmark.ventricles(furrowed) == 0
    assert benchmark.dark_share(brain(12)) == pytest.approx(25, abs=1)
    assert benchmark.ventricles(np.zeros((64, 64), np.uint8)) == 0


def test_a_sampler_that_draws_each_group_as_it_is_gets_the_whole_difference(
    benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = groups_of(tmp_path)
    sizes = {"AD": 10, "CN": 6}
    monkeypatch.setattr(
        benchmark, "real", lambda run, rows: [brain(sizes[d]) for d in rows["diagnosis"]]
    )
    found = benchmark.groups(run, Obedient(lambda diagnosis, position_rel: brain(sizes[diagnosis])))
    assert found["group_share"] == pytest.approx(1)
    assert found["ad_real_mm2"] > found["cn_real_mm2"]
    deaf = benchmark.groups(run, Obedient(lambda diagnosis, position_rel: brain(8)))
    assert deaf["group_share"] == 0


def test_slopes_over_ages_are_compared(
    benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = groups_of(tmp_path)
    monkeypatch.setattr(
        benchmark, "real", lambda run, rows: [brain(age / 8) for age in rows["age"]]
    )
    found = benchmark.ages(run, Obedient(lambda age, position_rel: brain(age / 8)))
    assert found["age_share"] == pytest.approx(1, abs=0.25)
    assert found["age_correlation_real"] > 0.9
    deaf = benchmark.ages(run, Obedient(lambda age, position_rel: brain(8)))
    assert deaf["age_slope"] == pytest.approx(0, abs=1e-9)


def test_training_slices_lie_where_they_are_asked_to(benchmark: Any, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    rows = read_slices_table(run)
    rows = rows[rows["split"] == "training"]
    images = read_slices(run, rows)[0]

    def at(position_rel: float) -> np.ndarray:
        return images[(rows["position_rel"] - position_rel).abs().argmin()]

    found = benchmark.positions(run, Obedient(at))
    assert found["position_error"] == pytest.approx(0)
    assert found["position_error_by_chance"] > 0
    assert images.shape[1:] == (SIZE, SIZE)


def test_a_mistyped_command_is_named(benchmark: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        benchmark.parse(["--data", "x", "--number", "1"])
    assert "--number 2 or more" in capsys.readouterr().err


def groups_of(tmp_path: Path) -> RunFolder:
    """A run in which all participants has a group and an age."""
    run = make_run(tmp_path / "run")
    for file in (run.slices / "slices.tsv", run.codes / "codes.tsv"):
        table = pd.read_csv(file, sep="\t", keep_default_na=False)
        person = table["participant_id"].str[-2:].astype(int)
        table = table.assign(diagnosis=np.where(person % 2, "AD", "CN"), age=60 + 2 * person)
        table.to_csv(file, sep="\t", index=False)
    return run
