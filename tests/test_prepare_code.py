"""The code that makes stacks is part of what they depend on: stacks of two kinds never mix."""

from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from test_architecture import PACKAGE, ROOT, imports
from test_prepare import SMALL, dataset

from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.provenance import code_hash
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.slicing_code import PACKAGES, SOURCES, slicing_code
from monai_vqbrain.stages.prepare import prepare_slices
from monai_vqbrain.stages.slicing.normalisation import Normalisation
from monai_vqbrain.stages.slicing.plan import make_plan
from monai_vqbrain.stages.slicing.source_state import SourceState
from monai_vqbrain.stages.slicing.stack_cache import ScanState, StackCache, write_record

NEUTRAL = {
    "cells", "cohorts", "contents", "documents", "errors", "files", "locks", "logs",
    "progress", "provenance", "selection", "tables",
}  # fmt: skip
"""Parts that decide which images are sliced, not how: these are known by their content."""


def stacks(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "stacks").glob("*.nii")}


def with_code(patch: pytest.MonkeyPatch, **changed: str) -> None:
    """Play a change of the sources (`code`) or of a package's version."""

    def other(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
        return slicing_code(packages) | changed

    for module in ("plan", "stack_cache", "dicom"):
        patch.setattr(f"monai_vqbrain.stages.slicing.{module}.slicing_code", other)


@pytest.mark.parametrize("changed", [{"code": "another"}, {"numpy": "0.1"}], ids=str)
def test_changed_code_makes_all_stacks_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changed: dict[str, str],
) -> None:
    source = dataset(tmp_path / "bids", 3)
    prepare_slices(source, tmp_path / "run", SMALL)
    assert set(make_plan(source, SMALL, RunFolder(tmp_path / "run")).states) == {ScanState.KEPT}
    with_code(monkeypatch, **changed)
    dataset(source, 5)
    capsys.readouterr()
    prepare_slices(source, tmp_path / "run", SMALL)
    ((name, value),) = changed.items()
    lines = capsys.readouterr().out
    assert "7 of 7 volumes to slice" in lines
    prepare_slices(source, tmp_path / "run", SMALL)
    assert "is up to date" in capsys.readouterr().out
    record = json.loads((tmp_path / "run" / "2-slices" / "provenance.json").read_text())
    assert record["options"][name] == value
    monkeypatch.undo()
    reason = make_plan(source, SMALL, RunFolder(tmp_path / "run")).reason
    assert reason == f"{name} was {value!r}, is {slicing_code()[name]!r}"


def test_packages_count_where_they_take_part(tmp_path: Path) -> None:
    pytest.importorskip("SimpleITK")
    source = dataset(tmp_path / "bids", 3)
    assert "SimpleITK" not in make_plan(source, replace(SMALL, align="none")).record
    for options in (replace(SMALL, align="rigid"), replace(SMALL, align="none", bias=True)):
        assert "SimpleITK" in make_plan(source, options).record


def test_estimates_of_other_code_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, run = dataset(tmp_path / "bids", 3), RunFolder(tmp_path / "run")
    before = [scan.volume_digest for scan in make_plan(source, SMALL, run).scans]
    with_code(monkeypatch, scipy="0.1")
    after = [scan.volume_digest for scan in make_plan(source, SMALL, run).scans]
    assert not set(before) & set(after)


def killed_at(call: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, interrupted instead of its n-th call."""
    calls = count(1)

    def counted(*args: Any) -> Any:
        if next(calls) == call:
            raise KeyboardInterrupt
        return function(*args)

    return counted


@pytest.mark.parametrize("by", ["slicing", "copying"])
def test_a_kill_leaves_no_stack_of_other_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """The stack of an interrupted run is replaced by one of 4 slices, but its record is not yet."""
    source, run = dataset(tmp_path / "bids", 3), tmp_path / "run"
    three = replace(SMALL, count=3)
    alone = stacks(prepare_slices(source, tmp_path / "alone", three))
    if by == "copying":  # of finished stacks of 4 slices
        prepare_slices(source, run, SMALL)
    write = "monai_vqbrain.stages.slicing.stack_cache.write_record"
    with monkeypatch.context() as patch:
        patch.setattr(write, killed_at(2, write_record))
        with pytest.raises(KeyboardInterrupt):
            prepare_slices(source, run, three)
    with monkeypatch.context() as patch:
        patch.setattr(write, killed_at(1, write_record))
        patch.setattr(shutil, "copyfile", killed_at(3, shutil.copyfile))  # stack, mask, record
        with pytest.raises(KeyboardInterrupt):
            prepare_slices(source, run, replace(SMALL, seed=1))
    assert stacks(prepare_slices(source, run, three)) == alone


def test_a_worker_with_other_code_is_refused(tmp_path: Path) -> None:
    source, run = dataset(tmp_path / "bids", 1), RunFolder(tmp_path)
    scan = make_plan(source, SMALL).scans[0].scan
    code = slicing_code() | {"numpy": "0.1"}
    cache = StackCache(
        SMALL.extract(), Normalisation(), tmp_path, run.slices, run.volumes, code
    )  # fmt: skip
    with pytest.raises(VQBrainError, match=r"a worker has numpy [\d.]+ instead of 0.1: install"):
        cache(scan, "", "", SourceState())


def test_all_sources_that_make_a_stack_count() -> None:
    """Whatever slicing imports, at any depth, is among the sources or decides nothing."""
    counted = {path for pattern in SOURCES for path in PACKAGE.glob(pattern)}
    known = {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in PACKAGE.rglob("*.py")}
    left, seen = [PACKAGE / "stages" / "slicing" / "scan_slices.py"], set()
    while left:
        path = left.pop()
        seen.add(path)
        names = imports(list(ast.walk(ast.parse(path.read_text()))))
        left += [known[name] for name in names if name in known and known[name] not in seen]
    neutral = {PACKAGE / "runs" / f"{name}.py" for name in ("folder", "slicing_code", "__init__")}
    decisive = {
        p
        for p in seen - neutral
        if p.relative_to(PACKAGE).parts[0].removesuffix(".py") not in NEUTRAL
    }
    assert not decisive - counted


def test_the_hash_of_code_is_that_of_its_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monai_vqbrain.provenance.PACKAGE", tmp_path)
    hashes = []
    for text in ("a = 1", "a = 2", "a = 1"):
        (tmp_path / "a.py").write_text(text)
        hashes.append(code_hash.__wrapped__("*.py"))
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    hashes.append(code_hash.__wrapped__("*.py"))
    assert hashes[0] == hashes[2]
    assert len(set(hashes)) == 3
