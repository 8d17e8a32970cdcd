"""4-codes and the datalist: which items, in which order, and what is refused."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from made_run import SLICES, K, finish_again, make_run
from safetensors import safe_open

from monai_vqbrain.errors import UsageError, VQBrainError
from monai_vqbrain.runs import (
    codes as stage,
    conditions,
    datalist as run_datalist,
    freshness,
    views as slice_views,
)
from monai_vqbrain.runs.folder import RunFolder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return make_run(tmp_path / "run", samples=False)


def datalist(folder: Path, **sizes: int) -> Path:
    """A datalist with this many items in each split."""
    folder.mkdir(exist_ok=True)
    lists = {
        split: [{"image": f"{split}{i}.nii", "index": i} for i in range(sizes.get(split, 1))]
        for split in ("training", "validation", "test")
    }
    (folder / "datalist.json").write_text(json.dumps(lists))
    return folder


@pytest.mark.parametrize(
    ("most", "expected"), [(None, 7), (9, 7), (7, 7), (3, [0, 3, 6]), (1, [0]), (2, [0, 6])]
)
def test_items_are_thinned_out_evenly(
    tmp_path: Path, most: int | None, expected: int | list[int]
) -> None:
    items = run_datalist.slice_items(datalist(tmp_path, training=7), "training", most)
    wanted = list(range(expected)) if isinstance(expected, int) else expected
    assert [item["index"] for item in items] == wanted
    assert items[0]["image"] == str(tmp_path / "training0.nii")


def test_all_items_come_split_by_split(tmp_path: Path) -> None:
    items = run_datalist.all_items(datalist(tmp_path, training=2))
    names = [Path(item["image"]).name for item in items]
    assert names == ["training0.nii", "training1.nii", "validation0.nii", "test0.nii"]


@pytest.mark.parametrize(("count", "whole"), [(1, 4), (4, 4), (5, 8)])
def test_the_last_batch_is_filled_with_its_last_item(count: int, whole: int) -> None:
    items = run_datalist.whole_batches(list(range(count)), 4)
    assert items == [*range(count), *[count - 1] * (whole - count)]


def test_a_missing_datalist_is_named(tmp_path: Path) -> None:
    with pytest.raises(VQBrainError, match=r"datalist.json is not there: first run vqbrain prepar"):
        run_datalist.slice_items(tmp_path, "training")


@pytest.mark.parametrize("split", ["training", "validation", "test"])
def test_an_empty_split_is_named(tmp_path: Path, split: str) -> None:
    with pytest.raises(VQBrainError, match=rf"has no {split} slices: prepare at least three part"):
        run_datalist.slice_items(datalist(tmp_path, **{split: 0}), split)


def items_of(run: RunFolder) -> list[dict[str, Any]]:
    """The run's slices as a datalist has them: no session is null."""
    table = pd.read_csv(run.slices / "slices.tsv", sep="\t", keep_default_na=False)
    keys = ["participant_id", "session_id", "axis", "index", "split"]
    rows = table[keys].to_dict("records")
    return [row | {"session_id": None if row["session_id"] == "n/a" else "ses-1"} for row in rows]


def test_codes_come_back_with_their_slices(run: RunFolder) -> None:
    items = [item for item in items_of(run) if item["participant_id"] != "sub-secret01"]
    grids = torch.arange(len(items))[:, None, None].expand(-1, 2, 3) % K
    (run.vqvae / "config.json").write_text(json.dumps({"network_def": {"num_codes": K}}))
    stage.write_codes(run.path, grids, items, stage.begin_codes(run.path), seconds=1.0)
    with safe_open(run.codes / "codes.safetensors", framework="pt") as file:
        assert file.get_tensor("codes").dtype == torch.uint16
        assert file.metadata()["grid"] == "2x3"
    assert stage.code_shape(run.path) == (K, 2, 3)
    test = stage.code_items(run.path, "test")
    assert len(test) == 3 * SLICES
    places = [i for i, item in enumerate(items) if item["split"] == "test"]
    assert [item["codes"][1, 2].item() for item in test] == [place % K for place in places]
    assert {item["session_id"] for item in test} == {"n/a"}
    thin = stage.code_items(run.path, "test", most=2)
    assert [item["index"] for item in thin] == [test[0]["index"], test[-1]["index"]]


def test_views_are_of_training_slices_and_each_has_its_own_shift(run: RunFolder) -> None:
    items = [item for item in items_of(run) if item["split"] == "training"]
    lists = {"training": items, "validation": items[:1], "test": items[:1]}
    (run.slices / "datalist.json").write_text(json.dumps(lists))
    views = run_datalist.view_items(run.slices, most=10 * len(items) + 1)
    assert [item["view"] for item in views[:: len(items)]] == list(range(10))
    assert len(run_datalist.view_items(run.slices, most=1)) == len(items)
    every = run_datalist.view_items(run.slices)
    assert len(every) == slice_views.MAX_VIEWS * len(items)
    assert not any(item.get("mirrored") for item in every)
    for one, other in itertools.pairwise(every):  # a view is one for all slices
        assert (one["view"] == other["view"]) == (one["shift"] == other["shift"])
    shifts = np.array([item["shift"] for item in every])
    assert np.abs(shifts).max() == slice_views.MAX_SHIFT
    assert np.abs(shifts).sum(1).min() > 0
    assert len(np.unique(shifts, axis=0)) == slice_views.MAX_VIEWS


def test_views_come_back_with_their_own_neighbours(run: RunFolder) -> None:
    items = [item for item in items_of(run) if item["participant_id"] != "sub-secret01"]
    training = [item for item in items if item["split"] == "training"]
    views = [item | view for view in slice_views.slice_views(2) for item in training]
    grids = torch.arange(len(items) + len(views))[:, None, None].expand(-1, 2, 3)
    (run.vqvae / "config.json").write_text(json.dumps({"network_def": {"num_codes": 251}}))
    sources = stage.begin_codes(run.path)
    stage.write_codes(run.path, grids, items + views, sources, seconds=1.0)
    plain = stage.code_items(run.path, "training", None, None, neighbour=True)
    every = stage.code_items(run.path, "training", None, None, neighbour=True, views=True)
    assert len(every) == 3 * len(plain) == 3 * len(training)
    assert len(stage.code_items(run.path, "test", views=True)) == 3 * SLICES
    for number, (item, twin) in enumerate(zip(plain, every[2 * len(plain) :], strict=True)):
        assert item["index"] == twin["index"]
        code = len(items) + len(training) + number
        assert twin["codes"].unique() == code
        assert twin["neighbour"].unique() == (-1 if int(item["index"]) == 0 else code - 1)


def test_views_are_conditions_and_plain_slices_say_so(run: RunFolder) -> None:
    items = [item for item in items_of(run) if item["participant_id"] != "sub-secret01"]
    training = [item for item in items if item["split"] == "training"]
    views = [item | view for view in slice_views.slice_views(3) for item in training]
    grids = torch.zeros(len(items) + len(views), 2, 3, dtype=torch.long)
    (run.vqvae / "config.json").write_text(json.dumps({"network_def": {"num_codes": 251}}))
    stage.write_codes(run.path, grids, items + views, stage.begin_codes(run.path), seconds=1.0)
    known = conditions.prior_conditions(run.path, "age", views=True)
    assert set(known) == {"age", "shift_x", "shift_y"}
    assert known["shift_x"] == [-3.0, 3.0]
    rows = [i["condition"] for i in stage.code_items(run.path, "training", None, known, views=True)]
    found = torch.stack(rows).view(4, len(training), len(known))[:, 0]
    wanted = [dict(slice_views.PLAIN_VIEW)]
    wanted += [slice_views.conditions_of_view(view) for view in slice_views.slice_views(3)]
    for name in ("shift_x", "shift_y"):
        assert found[:, list(known).index(name)].tolist() == [one[name] for one in wanted]
    test = stage.code_items(run.path, "test", None, known)[0]["condition"]
    assert test[list(known).index("shift_x")] == 0


def test_only_what_views_differ_in_is_a_condition() -> None:
    assert set(slice_views.view_conditions([{"shift": [0, 2]}])) == {"shift_y"}
    assert not slice_views.view_conditions([])


def test_a_run_without_codes_has_the_default_shape(tmp_path: Path) -> None:
    assert stage.code_shape(tmp_path) == stage.DEFAULT_SHAPE


def test_models_that_belong_together_pass(run: RunFolder) -> None:
    freshness.check_models(run)


def train_again(run: RunFolder) -> None:
    (run.vqvae / "model.pt").write_bytes(b"other")
    finish_again(run.vqvae)


def drop(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda run: drop(run.codes), "codes.safetensors is not there: first run vqbrain encode"),
        (lambda run: drop(run.prior), "holds no trained prior: run vqbrain train prior"),
        (
            train_again,
            "4-codes was encoded by another VQ-VAE than 3-vqvae holds: run vqbrain encode",
        ),
    ],
)
def test_models_that_do_not_belong_together_are_refused(
    run: RunFolder, spoil: Any, words: str
) -> None:
    spoil(run)
    with pytest.raises(VQBrainError, match=words):
        freshness.check_models(run)


def test_a_prior_of_other_codes_is_refused(run: RunFolder) -> None:
    finish_again(run.prior, made_from={"4-codes": {"bytes": 1, "sha256": "0"}})
    words = "5-prior was trained on other codes than 4-codes holds: run vqbrain train prior"
    with pytest.raises(VQBrainError, match=words):
        freshness.check_models(run)


def test_codes_of_another_vqvae_are_not_trained_on(run: RunFolder) -> None:
    train_again(run)
    words = r"4-codes was encoded by another VQ-VAE than 3-vqvae holds: run vqbrain encode"
    with pytest.raises(VQBrainError, match=words):
        stage.code_items(run.path, "training")


def test_nothing_encoded_is_named(tmp_path: Path) -> None:
    with pytest.raises(VQBrainError, match=r"codes.safetensors is not there: first run vqbrain en"):
        stage.code_items(tmp_path, "training")


def test_conditions_are_what_training_people_differ_in(run: RunFolder) -> None:
    known = conditions.prior_conditions(run.path)
    assert known["diagnosis"] == ["AD", "CN"]
    assert known["sex"] == ["F", "M"]
    assert known["age"] == [60.5, 65.5]  # six training participants, the fifth of unknown age
    assert known["position_rel"] == [0.5, 0.8]
    assert list(conditions.prior_conditions(run.path, ["age"])) == ["age"]


@pytest.mark.parametrize("labels", [("0", "1"), ("TRUE", "FALSE"), ("01", "02")])
def test_categories_stay_as_they_are_written(run: RunFolder, labels: tuple[str, str]) -> None:
    table = pd.read_csv(run.codes / "codes.tsv", sep="\t", keep_default_na=False)
    written = table["diagnosis"].replace({"AD": labels[0], "CN": labels[1]})
    table.assign(diagnosis=written).to_csv(run.codes / "codes.tsv", sep="\t", index=False)
    finish_again(run.codes)
    known = conditions.prior_conditions(run.path, "diagnosis")
    assert known["diagnosis"] == sorted(labels)
    items = stage.code_items(run.path, "training", None, known)
    assert {float(item["condition"][0]) for item in items} >= {0.0, 1.0}


def test_a_run_without_codes_has_no_conditions(tmp_path: Path) -> None:
    assert conditions.prior_conditions(tmp_path) == {}


def test_position_is_in_mm_in_aligned_runs(run: RunFolder) -> None:
    path = run.slices / "provenance.json"
    path.write_text(path.read_text().replace('"space": ""', '"space": "MNI"'))
    assert conditions.position_column(run) == "position_mm"


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (["shoe size"], "condition_on: there is no condition shoe size; there are diagnosis, sex"),
        (["session_id"], "condition_on: there is no condition session_id"),
    ],
)
def test_what_is_no_condition_is_named(run: RunFolder, wanted: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        conditions.prior_conditions(run.path, wanted)


def test_a_condition_that_never_differs_is_named_if_it_is_wanted(run: RunFolder) -> None:
    table = pd.read_csv(run.codes / "codes.tsv", sep="\t", keep_default_na=False)
    table.assign(sex="F").to_csv(run.codes / "codes.tsv", sep="\t", index=False)
    assert "sex" not in conditions.prior_conditions(run.path)
    with pytest.raises(UsageError, match="sex is the same or unknown for all training slices"):
        conditions.prior_conditions(run.path, ["sex"])


def test_unknown_values_are_missing_and_numbers_stay_in_range() -> None:
    known = {"diagnosis": ["AD", "CN"], "age": [60.0, 80.0]}
    found = conditions.conditions_of_row({"diagnosis": "MCI", "age": "93", "sex": "F"}, known)
    assert found == {"diagnosis": None, "age": 80.0}
    assert conditions.conditions_of_row({"diagnosis": "n/a", "age": "n/a"}, known) == {
        "diagnosis": None,
        "age": None,
    }


def test_code_grids_come_with_conditions_and_the_slice_before(run: RunFolder) -> None:
    known = conditions.prior_conditions(run.path)
    items = stage.code_items(run.path, "training", None, known, neighbour=True)
    table = pd.read_csv(run.codes / "codes.tsv", sep="\t", keep_default_na=False)
    table = table[table["split"] == "training"]
    by_place = {(i["participant_id"], i["session_id"], int(i["index"])): i for i in items}
    assert len(by_place) == len(items) == len(table)
    for (person, session, index), item in by_place.items():
        before = by_place.get((person, session, index - 1))
        expected = torch.full_like(item["codes"], -1) if before is None else before["codes"]
        assert torch.equal(item["neighbour"], expected)
    for item, age, sex in zip(items, table["age"], table["sex"], strict=True):
        assert item["condition"][1] == "FM".index(sex)
        found = item["condition"][2]
        assert torch.isnan(found) if age == "n/a" else found == float(age)
