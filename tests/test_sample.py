"""Where samples lie, and what their sampler is told of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from made_run import make_run

from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.sampling import (
    condition_rows,
    condition_texts,
    draw_conditions,
    sample_affines,
)
from monai_vqbrain.stages.reporting.run_images import parse_condition

PRIOR = SimpleNamespace(settings={"conditions": {"position_rel": [0.0, 1.0]}})


def without(run: RunFolder, index: int) -> None:
    """Take the slices of one index out of the codes, as those are that hold too little brain."""
    table = pd.read_csv(run.codes / "codes.tsv", sep="\t", keep_default_na=False)
    table[table["index"] != index].to_csv(run.codes / "codes.tsv", sep="\t", index=False)


def asked(volume: bool = False, guidance: float = 1.0, **condition: str) -> dict[str, Any]:
    return {
        "number": 3, "seed": 0, "volume": volume, "condition": condition, "guidance": guidance,
        "known": None, "mask": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "slices"),
    [
        (asked(position_rel="any"), 0),
        (asked(volume=True), 1),
        (asked(position_rel="0.6"), 1),
        (asked(position_rel="0.79"), 3),
    ],
)
def test_a_sample_lies_where_its_first_slice_lies(
    tmp_path: Path, options: dict[str, Any], slices: int
) -> None:
    run = make_run(tmp_path / "run", samples=False)
    without(run, 0)
    drawn = draw_conditions(run.path, PRIOR, options)
    found = sample_affines(run.path, PRIOR, options, drawn)
    assert found.shape == (3, 4, 4)
    np.testing.assert_allclose(found[:, :3, :3], [np.diag([1.8, 1.8, 3.6])] * 3)
    np.testing.assert_allclose(found[:, :3, 3], [[0, 0, 3.6 * slices]] * 3)


def test_positions_that_are_not_asked_for_are_drawn_and_samples_lie_there(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", samples=False)
    options = asked() | {"number": 60}
    drawn = draw_conditions(run.path, PRIOR, options)
    assert {row["position_rel"] for row in drawn} == {0.5, 0.6, 0.7}
    heights = sample_affines(run.path, PRIOR, options, drawn)[:, 2, 3]
    expected = [36 * (float(row["position_rel"] or 0) - 0.5) for row in drawn]
    np.testing.assert_allclose(heights, expected, atol=1e-6)
    assert condition_texts(drawn)[0] == f"position_rel={drawn[0]['position_rel']}"


def test_each_sample_has_its_own_row_and_guidance_starts_without_what_was_asked(
    tmp_path: Path,
) -> None:
    run = make_run(tmp_path / "run", samples=False)
    known = {"diagnosis": ["AD", "CN"], "sex": ["F", "M"], "position_rel": [0.0, 1.0]}
    prior = SimpleNamespace(settings={"conditions": known})
    options = asked(guidance=2.0, diagnosis="AD")
    drawn = draw_conditions(run.path, prior, options)
    rows = condition_rows(run.path, prior, options, drawn)
    assert rows["condition"][:, 0].tolist() == [0, 0, 0]  # AD
    assert rows["base"][:, 0].isnan().all()
    torch.testing.assert_close(rows["base"][:, 1:], rows["condition"][:, 1:])
    assert len({tuple(row.tolist()) for row in rows["condition"]}) > 1
    assert not rows["condition"].isnan().any()
    assert set(condition_rows(run.path, prior, asked(diagnosis="AD"), drawn)) == {"condition"}


def test_samples_are_plain_views_unless_asked_otherwise(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", samples=False)
    view = {"shift_x": [-3.0, 3.0], "shift_y": [-3.0, 3.0]}
    known = {"position_rel": [0.0, 1.0], **view}
    prior = SimpleNamespace(settings={"conditions": known})
    drawn = draw_conditions(run.path, prior, asked())
    assert {(row["shift_x"], row["shift_y"]) for row in drawn} == {(0.0, 0.0)}
    assert condition_texts(drawn)[0] == f"position_rel={drawn[0]['position_rel']}"
    rows = condition_rows(run.path, prior, asked(), drawn)["condition"]
    assert rows[:, 1:].tolist() == [[0, 0]] * 3
    moved = draw_conditions(run.path, prior, asked(shift_x="any", shift_y="2"))
    assert {(row["shift_x"], row["shift_y"]) for row in moved} == {(None, "2")}
    assert "shift_y=2" in condition_texts(moved)[0]


def test_a_volume_is_told_the_position_of_each_slice(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", samples=False)
    without(run, 0)
    options = asked(volume=True)
    drawn = draw_conditions(run.path, PRIOR, options)
    given = condition_rows(run.path, PRIOR, options, drawn)
    assert given["condition"].shape == (3, 3, 1)
    for volume in given["condition"]:
        assert volume[:, 0].tolist() == pytest.approx([0.6, 0.7, 0.8])


def test_a_volume_with_a_gap_is_refused_and_a_slice_is_not(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", samples=False)
    without(run, 2)
    options = asked(volume=True)
    drawn = draw_conditions(run.path, PRIOR, options)
    with pytest.raises(VQBrainError, match="lacks slices between others: no volume can be drawn"):
        condition_rows(run.path, PRIOR, options, drawn)
    single = asked(position_rel="0.8")
    places = sample_affines(run.path, PRIOR, single, draw_conditions(run.path, PRIOR, single))
    assert places[0, 2, 3] == pytest.approx(10.8)


@pytest.mark.parametrize("diagnosis", ["AD", "MCI, early", "a=b, c=d", "=1, "])
def test_what_a_sample_was_asked_for_is_read_back(diagnosis: str) -> None:
    asked = {"diagnosis": diagnosis, "age": "75", "sex": None}
    text = condition_texts([asked])[0]
    assert parse_condition(text) == {"diagnosis": diagnosis, "age": "75"}
    assert parse_condition("none") == {}
