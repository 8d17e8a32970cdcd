"""Nested subsets of a cohort, budgets in CPU-seconds, results that are kept, and the table."""

from __future__ import annotations

import json
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import benchmark_modules
from ignite.engine import Engine

from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.handlers.budget import TrainingBudget
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.splits import read_splits
from monai_vqbrain.runs.tables import read_slices_table
from monai_vqbrain.stages.reporting.image_sets import ImageSet


@pytest.fixture(scope="module")
def benchmark() -> Iterator[Any]:
    """The script, as a module."""
    with benchmark_modules("cohort_size") as found:
        yield found.cohort_size


def participants(number: int) -> pd.DataFrame:
    """A participants.tsv: sexes in turn, one unknown; ages ascending; every fifth held out."""
    ids = [f"sub-{i:02d}" for i in range(number)]
    splits = ["test" if i % 5 == 4 else "training" for i in range(number)]
    sexes = [None, *("FM"[i % 2] for i in range(1, number))]
    ages = np.linspace(20, 80, number)
    return pd.DataFrame({"participant_id": ids, "split": splits, "sex": sexes, "age": ages})


def test_every_beginning_of_the_order_is_balanced_by_sex_and_age(benchmark: Any) -> None:
    table = participants(60)
    order = benchmark.nested_order(table, 0)
    assert sorted(order) == list(table["participant_id"][table["split"] == "training"])
    by_name = table.set_index("participant_id")
    for size in (12, 24):
        subset = by_name.loc[order[:size]]
        assert abs((subset["sex"] == "M").mean() - 0.5) <= 0.1
        assert abs((subset["age"] > 50).mean() - 0.5) <= 0.1


def test_the_order_depends_on_the_seed_alone(benchmark: Any) -> None:
    table = participants(60)
    assert benchmark.nested_order(table, 0) == benchmark.nested_order(table, 0)
    assert benchmark.nested_order(table, 0) != benchmark.nested_order(table, 1)


def test_budgets_count_cpu_seconds_and_no_waiting(benchmark: Any) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1)
    budget = TrainingBudget(optimizer, minutes=1)
    with benchmark.cpu_budgets():
        budget._start(Engine(lambda *_: None))
        time.sleep(0.3)
        assert budget.spent() < 0.2
        began = time.process_time()
        while time.process_time() - began < 0.3:
            pass
        assert budget.spent() >= 0.3


def test_a_subset_keeps_splits_and_loses_the_dropped(
    benchmark: Any, prepared_run: Path, tmp_path: Path
) -> None:
    whole, run = RunFolder(prepared_run), RunFolder(tmp_path / "run")
    splits = read_splits(whole.slices / "participants.tsv")
    dropped = [name for name, split in splits.items() if split == "training"][:2]
    benchmark.prepare_subset(whole, run, prepared_run.parent / "people", dropped)
    left = {name: split for name, split in splits.items() if name not in dropped}
    assert read_splits(run.slices / "participants.tsv") == left
    assert not set(read_slices_table(run)["participant_id"]) & set(dropped)


def kept(tmp_path: Path, benchmark: Any, **changed: Any) -> Namespace:
    """A work folder with results for 4 participants, of these settings or `changed` ones."""
    args = benchmark.parse(["--source", "x", "--work", str(tmp_path), "--sizes", "4"])
    found = {"kid": 1.0, "settings": benchmark.settings(args) | changed}
    (tmp_path / "4.json").write_text(json.dumps(found))
    return args


def test_a_finished_subset_is_not_trained_again(benchmark: Any, tmp_path: Path) -> None:
    args = kept(tmp_path, benchmark)
    assert benchmark.measured(4, [], RunFolder(tmp_path / "all"), args) == {"kid": 1.0}


def test_results_of_other_settings_are_not_taken(benchmark: Any, tmp_path: Path) -> None:
    args = kept(tmp_path, benchmark, seed=1)
    with pytest.raises(VQBrainError, match="--sizes 4: the cohort has 3 training participants"):
        benchmark.measured(4, ["a", "b", "c"], RunFolder(tmp_path / "all"), args)


def test_labels_leave_out_slices_whose_class_is_unknown(benchmark: Any) -> None:
    about = pd.DataFrame({
        "participant_id": ["a", "b", "c"], "sex": ["F", None, "M"], "age": [40.0, 70.0, np.nan],
    })  # fmt: skip
    images = ImageSet(np.zeros((3, 4, 4), dtype=np.uint8), about)
    sexes, ages = (benchmark.labelled(images, task, 55.0) for task in ("sex", "age"))
    assert (sexes.labels.tolist(), sexes.participants) == ([0, 1], ["a", "c"])
    assert (ages.labels.tolist(), ages.participants) == ([0, 1], ["a", "b"])


def test_the_table_has_one_row_per_subset_the_smallest_first(benchmark: Any) -> None:
    figures = dict.fromkeys(benchmark.COLUMNS.values(), 0.5)
    head, *rows = benchmark.table({44: figures | {"kid": 12.3}, 11: figures}).split("\n")[1:]
    assert [row.split()[0] for row in rows] == ["11", "44"]
    assert rows[1].split()[1 + list(benchmark.COLUMNS.values()).index("kid")] == "12"
    assert "age, samples" in head
    assert "KID floor" in head


def test_impossible_budgets_are_refused(benchmark: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (["--sizes", "3"], "--sizes must be 4 or more"),
        (["--prior-seconds", "0"], "must be above 0"),
    ):
        with pytest.raises(SystemExit):
            benchmark.parse(["--source", "x", *words])
        assert message in capsys.readouterr().err
