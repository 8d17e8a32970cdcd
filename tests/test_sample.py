"""Where samples lie, and what their sampler is told of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_run import make_run

from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.sampling import sample_affine, sampler_inputs

PRIOR = SimpleNamespace(settings={"conditions": {"position_rel": [0.0, 1.0]}})


def without(run: RunFolder, index: int) -> None:
    """Take the slices of one index out of the codes, as those are that hold too little brain."""
    table = pd.read_csv(run.codes / "codes.tsv", sep="\t", keep_default_na=False)
    table[table["index"] != index].to_csv(run.codes / "codes.tsv", sep="\t", index=False)


def asked(volume: bool = False, **condition: str) -> dict[str, Any]:
    return {"volume": volume, "condition": condition, "known": None, "mask": None}


@pytest.mark.parametrize(
    ("options", "slices"),
    [
        (asked(), 0),
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
    found = sample_affine(run.path, PRIOR, options)
    np.testing.assert_allclose(found[:3, :3], np.diag([1.8, 1.8, 3.6]))
    np.testing.assert_allclose(found[:3, 3], [0, 0, 3.6 * slices])


def test_a_volume_is_told_the_position_of_each_slice(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", samples=False)
    without(run, 0)
    given = sampler_inputs(run.path, PRIOR, None, asked(volume=True))
    assert given["condition"][:, 0].tolist() == pytest.approx([0.6, 0.7, 0.8])


def test_a_volume_with_a_gap_is_refused_and_a_slice_is_not(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", samples=False)
    without(run, 2)
    with pytest.raises(VQBrainError, match="lacks slices between others: no volume can be drawn"):
        sampler_inputs(run.path, PRIOR, None, asked(volume=True))
    assert sample_affine(run.path, PRIOR, asked(position_rel="0.8"))[2, 3] == pytest.approx(10.8)
