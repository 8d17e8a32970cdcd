"""Tables opened in spreadsheets: nothing in them is run, and they are read unchanged."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from monai_vqbrain.cells import plain_cell, safe_cell
from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.options import _names
from monai_vqbrain.tables import read_table, read_text_table, write_table

FORMULAS = [
    "=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(1)", "\t=1", "\r=1", "\n=1", "'=1+1", "''@x", "=",
    "\uff1d1+1", "\uff20x",
]  # fmt: skip
HARMLESS = ["AD", "-5", "+1.5e-3", "-inf", "'s", "'", "a=b", "", "NA", "null", "n/a"]


@pytest.mark.parametrize("text", FORMULAS, ids=repr)
def test_a_formula_is_neutralised_and_reads_back(text: str) -> None:
    assert safe_cell(text) == f"'{text}"
    assert plain_cell(safe_cell(text)) == text


@pytest.mark.parametrize("text", HARMLESS, ids=repr)
def test_other_texts_and_numbers_stay(text: str) -> None:
    assert safe_cell(text) == text
    assert plain_cell(text) == text


def test_a_table_is_safe_on_disk_and_unchanged_when_read(tmp_path: Path) -> None:
    path = tmp_path / "slices.tsv"
    table = pd.DataFrame(
        {
            "participant_id": ["=1+1", "sub-2", "-7"],
            "diagnosis": ["@x", None, "'=y"],
            "position_mm": [-12.5, math.nan, 3.0],
            "source": ["+a.nii", "b.nii", "n/a"],
            "index": [0, 1, 2],
        }
    )
    write_table(table, path)
    cells = [line.split("\t") for line in path.read_text().splitlines()]
    assert cells[1] == ["'=1+1", "'@x", "-12.5", "'+a.nii", "0"]
    assert cells[2] == ["sub-2", "n/a", "n/a", "b.nii", "1"]
    found = read_table(path)
    assert list(found["participant_id"]) == ["=1+1", "sub-2", "-7"]
    assert list(found["diagnosis"])[::2] == ["@x", "'=y"]
    assert found["diagnosis"].isna()[1]
    assert found["position_mm"].tolist()[::2] == [-12.5, 3.0]
    texts = read_text_table(path)
    write_table(texts, tmp_path / "again.tsv")
    assert (tmp_path / "again.tsv").read_text() == path.read_text()


def test_a_table_from_before_reads_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / "old.tsv").write_text("participant_id\tdiagnosis\n=1+1\t-x\n")
    assert read_table(tmp_path / "old.tsv").iloc[0].tolist() == ["=1+1", "-x"]


def test_names_to_exclude_are_taken_from_a_neutralised_qc_table(tmp_path: Path) -> None:
    (tmp_path / "qc.tsv").write_text("scan\tx\n'-sub\t1\n")
    assert _names(None, None, tmp_path / "qc.tsv") == ("-sub",)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is missing or empty: run its stage again"),
        (b"a\tb\n1\t2\t3\n1\n1\t2\t3\t4\n", "is no table .*: run its stage again"),
        (b"a\tb\n\xff\xfe\t1\n", "is no table .*: run its stage again"),
        (b'a\tb\n"x\t1\n', "is no table .*: run its stage again"),
    ],
)
def test_what_is_no_table_is_one_line(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "slices.tsv"
    path.write_bytes(content)
    with pytest.raises(VQBrainError, match=words) as caught:
        read_table(path)
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(VQBrainError, match="is no table"):
        read_table(tmp_path)
