"""4-codes and the datalist: which items, in which order, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from made_run import SLICES, K, make_run
from safetensors import safe_open

from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.stages import codes as stage
from monai_vqbrain.stages.run import RunFolder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return make_run(tmp_path / "run", samples=False)


def datalist(folder: Path, **sizes: int) -> Path:
    """A datalist with so many items in each split."""
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
    items = stage.slice_items(datalist(tmp_path, training=7), "training", most)
    wanted = list(range(expected)) if isinstance(expected, int) else expected
    assert [item["index"] for item in items] == wanted
    assert items[0]["image"] == str(tmp_path / "training0.nii")


def test_all_items_come_split_by_split(tmp_path: Path) -> None:
    items = stage.all_items(datalist(tmp_path, training=2))
    names = [Path(item["image"]).name for item in items]
    assert names == ["training0.nii", "training1.nii", "validation0.nii", "test0.nii"]


@pytest.mark.parametrize(("count", "whole"), [(1, 4), (4, 4), (5, 8)])
def test_the_last_batch_is_filled_with_its_last_item(count: int, whole: int) -> None:
    items = stage.whole_batches(list(range(count)), 4)
    assert items == [*range(count), *[count - 1] * (whole - count)]


def test_a_missing_datalist_is_named(tmp_path: Path) -> None:
    with pytest.raises(VQBrainError, match=r"datalist.json is not there: first run vqbrain prepar"):
        stage.slice_items(tmp_path, "training")


@pytest.mark.parametrize("split", ["training", "validation", "test"])
def test_an_empty_split_is_named(tmp_path: Path, split: str) -> None:
    with pytest.raises(VQBrainError, match=rf"has no {split} slices: prepare at least three part"):
        stage.slice_items(datalist(tmp_path, **{split: 0}), split)


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


def test_a_run_without_codes_has_the_default_shape(tmp_path: Path) -> None:
    assert stage.code_shape(tmp_path) == stage.DEFAULT_SHAPE


def test_models_that_belong_together_pass(run: RunFolder) -> None:
    stage.check_models(run)


def drop(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda run: drop(run.codes), "codes.safetensors is not there: first run vqbrain encode"),
        (lambda run: drop(run.prior), "holds no trained prior: run vqbrain train prior"),
        (
            lambda run: (run.vqvae / "model.pt").write_bytes(b"other"),
            "4-codes was encoded by another VQ-VAE than 3-vqvae holds: run vqbrain encode",
        ),
    ],
)
def test_models_that_do_not_belong_together_are_refused(
    run: RunFolder, spoil: Any, words: str
) -> None:
    spoil(run)
    with pytest.raises(VQBrainError, match=words):
        stage.check_models(run)


def test_a_prior_of_other_codes_is_refused(run: RunFolder) -> None:
    path = run.prior / "provenance.json"
    path.write_text(path.read_text().replace('"sha256": "', '"sha256": "0'))
    words = "5-prior was trained on other codes than 4-codes holds: run vqbrain train prior"
    with pytest.raises(VQBrainError, match=words):
        stage.check_models(run)


def test_codes_of_another_vqvae_are_not_trained_on(run: RunFolder) -> None:
    (run.vqvae / "model.pt").write_bytes(b"other")
    words = r"4-codes was encoded by another VQ-VAE than 3-vqvae holds: run vqbrain encode"
    with pytest.raises(VQBrainError, match=words):
        stage.code_items(run.path, "training")


def test_nothing_encoded_is_named(tmp_path: Path) -> None:
    with pytest.raises(VQBrainError, match=r"codes.safetensors is not there: first run vqbrain en"):
        stage.code_items(tmp_path, "training")
