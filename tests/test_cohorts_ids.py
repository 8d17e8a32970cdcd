"""Identifiers of tables and names never become paths as they stand."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd
import pytest
from test_prepare import brain_image

from monai_vqbrain.cohorts import Cohort, Problem, Scan
from monai_vqbrain.cohorts.ids import MAX_BYTES, safe_id, with_safe_ids
from monai_vqbrain.cohorts.read import read_cohort
from monai_vqbrain.stages.prepare import prepare_slices
from monai_vqbrain.stages.slicing.options import PrepareOptions

SAFE = [
    "002_S_0295",
    "sub-01",
    "2006-04-18",
    "ses-M000",
    "NA",
    "null",
    "nan",
    "Müller",
    "p.1+b",
    "Month 12",
]
UNSAFE = [
    "../../../X", "X", "/", "..", ".", "/etc/X", "a\nb", " a b", "a b ", "a_b", "a/b", "a\\b",
    "a\tb", "a#b", "$(a)", "@a", "=a", "-n", "a~b", ".a", "x" * 300, "x" * 301, "日" * 90,
    "a\udc80", "a\0",
]  # fmt: skip


def cohort(*keys: tuple[str, str]) -> Cohort:
    scans = [Scan(participant_id=p, session_id=s, path=Path(f"{i}"), source=f"{i}")
             for i, (p, s) in enumerate(keys)]  # fmt: skip
    return Cohort(Path(), "folder", tuple(scans))


@pytest.mark.parametrize("text", ["", *SAFE])
def test_ordinary_identifiers_stay_as_they_are(text: str) -> None:
    assert safe_id(text) == text


def test_others_become_one_part_of_a_path_and_stay_distinct() -> None:
    found = {safe_id(text) for text in UNSAFE}
    assert len(found) == len(UNSAFE)
    for name in found:
        assert Path(name).parts == (name,)
        assert name[0] not in ".-~="
        assert len(name.encode()) <= MAX_BYTES
        assert name.isprintable()
        assert not set(name) & set("/\\#$@%'\"")


def test_a_replaced_identifier_is_listed_once() -> None:
    found = with_safe_ids(cohort(("a/b", "Month\n12"), ("a/b", "1"), ("c", "Month\n12")))
    assert [(p.path, p.problem.rpartition(" ")[0]) for p in found.problems] == [
        ("a/b", "cannot be used in file names, replaced by"),
        ("Month\\n12", "cannot be used in file names, replaced by"),
    ]


def test_pairs_that_would_share_a_name_do_not() -> None:
    keys = [("a_b", "c"), ("a", "b_c"), ("d", "1"), ("d_1", "")]
    found = with_safe_ids(cohort(*keys))
    assert len({scan.name for scan in found.scans}) == 4
    assert {scan.participant_id for scan in found.scans} == {"a", "a_b", "d", "d_1"}
    assert {scan.name for scan in with_safe_ids(cohort(*keys[2:3])).scans} == {"d_1"}


def test_a_problem_is_one_line() -> None:
    assert Problem("a\nb.nii", "x\ty", "z").path == r"a\nb.nii"


def test_a_path_that_is_not_utf8_is_passed_over_with_a_line(tmp_path: Path) -> None:
    for name in ("a.nii", "b\udc80.nii"):
        (tmp_path / name).touch()
    found = read_cohort(tmp_path)
    assert [scan.source for scan in found.scans] == ["a.nii"]
    assert (r"b\udc80.nii", "its path is not UTF-8, skipped") in [
        (problem.path, problem.problem) for problem in found.problems
    ]


def test_identifiers_of_a_table_write_nothing_outside_the_run(tmp_path: Path) -> None:
    source, run = tmp_path / "deep" / "down" / "source", tmp_path / "deep" / "down" / "run"
    source.mkdir(parents=True)
    ids = ["../../../X", "X", "/", "..", f"{tmp_path}/abs", "a\nb"]
    rows = [("filename", "participant_id", "session_id")]
    for number, name in enumerate(ids):
        brain_image(number).to_filename(source / f"{number}.nii")
        rows.append((f"{number}.nii", name, "ADNI1/GO Month 12"))
    with (source / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    before = sorted(tmp_path.rglob("*"))
    folder = prepare_slices(source, run, PrepareOptions(size=(32, 32), spacing=6.0, count=3))
    made = set(tmp_path.rglob("*")) - set(before)
    assert all(path == run or run in path.parents for path in made)
    slices = pd.read_csv(folder / "slices.tsv", sep="\t")
    assert slices["participant_id"].nunique() == slices["stack"].nunique() == len(ids)
    assert all((folder / stack).is_file() for stack in slices["stack"])
