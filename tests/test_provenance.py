"""What a finished stage rests on, and why it has to run again."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from monai_vqbrain.provenance import (
    code_hash,
    describe,
    read_provenance,
    what_changed,
    write_provenance,
)

OPTIONS = {"seed": 0, "size": (64, 64), "minutes": None}


def inputs(folder: Path) -> dict[str, Path]:
    for name in ("slices", "codes"):
        (folder / name).write_text(name)
    return {"2-slices": folder / "slices", "4-codes": folder / "codes"}


def finished(folder: Path) -> dict[str, Path]:
    files = inputs(folder)
    write_provenance(stage(folder), describe(files), OPTIONS, seconds=1.234, device="cpu")
    return files


def stage(folder: Path) -> Path:
    (folder / "stage").mkdir(exist_ok=True)
    (folder / "stage" / "model.pt").write_text("weights")
    return folder / "stage"


def test_a_record_says_from_what_with_what_and_when(tmp_path: Path) -> None:
    assert read_provenance(stage(tmp_path)) is None
    finished(tmp_path)
    record = read_provenance(stage(tmp_path))
    assert record is not None
    assert record["made_from"]["4-codes"] == {
        "bytes": 5,
        "sha256": hashlib.sha256(b"codes").hexdigest(),
    }
    assert record["versions"]["torch"] == version("torch")
    assert record["code"]["sha256"] == code_hash("**/*.py")
    if record["code"]["commit"] is not None:  # it is run in a clone
        assert re.fullmatch("[0-9a-f]{40}", record["code"]["commit"])
    assert (record["seconds"], record["device"]) == (1.23, "cpu")
    assert record["options"] == {"seed": 0, "size": [64, 64], "minutes": None}
    assert datetime.fromisoformat(record["finished"]).tzinfo is not None
    assert isinstance(record["command"], str)


def test_nothing_changed(tmp_path: Path) -> None:
    files = finished(tmp_path)
    assert what_changed(stage(tmp_path), describe(files), OPTIONS) is None
    assert describe(files)["2-slices"]["bytes"] == 6


def test_a_stage_that_has_not_finished(tmp_path: Path) -> None:
    assert what_changed(tmp_path, describe(inputs(tmp_path)), OPTIONS) == "not made yet"


@pytest.mark.parametrize(
    ("drop", "content", "options", "why"),
    [
        ((), "other", {}, "4-codes changed"),
        (("4-codes",), "codes", {}, "4-codes is no longer used"),
        ((), "codes", {"seed": 1}, "seed was 0, is 1"),
        ((), "codes", {"size": (32, 32)}, r"size was [64, 64], is [32, 32]"),
        ((), "codes", {"minutes": 2.5}, "minutes was None, is 2.5"),
        ((), "codes", {"axis": "axial"}, "axis was None, is 'axial'"),
        ((), "other", {"seed": 1}, "4-codes changed"),  # files come first
    ],
)
def test_what_changed_is_named(
    tmp_path: Path, drop: tuple[str, ...], content: str, options: dict[str, Any], why: str
) -> None:
    files = finished(tmp_path)
    files["4-codes"].write_text(content)
    now = {name: path for name, path in files.items() if name not in drop}
    assert what_changed(stage(tmp_path), describe(now), OPTIONS | options) == why


def test_a_file_that_has_come_is_new(tmp_path: Path) -> None:
    files = finished(tmp_path)
    more = {**files, "6-samples": files["4-codes"]}
    assert what_changed(stage(tmp_path), describe(more), OPTIONS) == "6-samples is new"
