"""The built-in cohort's slices, made without `prepare`, are those that `prepare` makes."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.phantom import SIZE, SPACING, slice_phantom
from monai_vqbrain.stages.prepare import prepare

TABLES = ("slices.tsv", "participants.tsv", "problems.tsv", "datalist.json")


def test_the_slices_are_those_of_prepare(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = RunFolder(tmp_path / "run")
    slice_phantom(run, participants=4)
    source = run.path / "0-phantom"
    prepared = prepare(source, tmp_path / "other", size=SIZE, spacing=SPACING)
    for path in sorted(prepared.glob("stacks/*.nii")):
        assert (run.slices / "stacks" / path.name).read_bytes() == path.read_bytes()
    for name in TABLES:
        assert (run.slices / name).read_text() == (prepared / name).read_text()
    records = [json.loads((f / "provenance.json").read_text()) for f in (run.slices, prepared)]
    assert records[0]["options"] == records[1]["options"]
    assert records[0]["mask_sources"] == records[1]["mask_sources"]
    assert records[0]["made_from"] == records[1]["made_from"]
    before = (run.slices / "provenance.json").read_text()
    logging.getLogger("monai_vqbrain").propagate = True
    prepare(source, run.path, size=SIZE, spacing=SPACING)
    assert "is up to date" in caplog.text
    assert (run.slices / "provenance.json").read_text() == before
