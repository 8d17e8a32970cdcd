"""Values of tables that have no meaning here: missing, and listed with their number."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_vqbrain.cohorts import read_cohort
from monai_vqbrain.cohorts.columns import read_age


def listed(folder: Path, table: str) -> list[tuple[str, str]]:
    """Problems and advice of a folder of two images with this table."""
    (folder / "a.nii").touch()
    (folder / "b.nii").touch()
    (folder / "t.csv").write_text(table)
    return [(p.problem, p.advice) for p in read_cohort(folder).problems if p.path == "t.csv"]


@pytest.mark.parametrize(
    ("text", "age"),
    [
        ("70+", 70), (">89", 89), (">= 90", 90), ("70 years", 70), ("070Y", 70), ("70 y", 70),
        ("0", 0), ("70,5", 70.5), ("-1", None), ("999", None), ("70%", None), ("1956-03-04", None),
        ("70-75", None), ("840 months", None), ("inf", None), ("70;5", None), ("7e1", None),
    ],
)  # fmt: skip
def test_ages_are_years_or_unknown(text: str, age: float | None) -> None:
    assert read_age(text) == age


def test_values_that_cannot_be_read_are_listed(tmp_path: Path) -> None:
    table = "id,sex,age,dx\na,weiblich,999,AD\nb,M,70,\n"
    assert listed(tmp_path, table) == [
        ("1 of 2 values in column sex count as missing: 'weiblich'", "write M or F"),
        (
            "1 of 2 values in column age count as missing: '999'",
            "write years from 0 to 120, such as 70.5",
        ),
    ]
    assert [scan.sex for scan in read_cohort(tmp_path).scans] == ["", "M"]


def test_words_for_missing_values_are_not_listed(tmp_path: Path) -> None:
    assert listed(tmp_path, "id,sex,age\na,NA,-4\nb,n/a,.\n") == []


def test_a_column_that_was_asked_for_is_checked(tmp_path: Path) -> None:
    (tmp_path / "a.nii").touch()
    (tmp_path / "t.csv").write_text("id,years\na,?\n")
    problems = read_cohort(tmp_path, columns={"age": "years"}).problems
    assert [p.problem for p in problems] == ["1 of 1 values in column years count as missing: '?'"]


def test_rows_without_a_name_are_listed(tmp_path: Path) -> None:
    assert listed(tmp_path, "id,age\na,60\nb,61\n,62\n") == [
        ("1 of its rows have nothing in column id, not used", "fill it in, or remove the rows")
    ]
    assert listed(tmp_path, "filename,id,age\na.nii,,60\n,b,61\n") == []


def test_tables_of_sessions_and_collections_are_checked(tmp_path: Path) -> None:
    image = tmp_path / "bids/sub-1/ses-1/anat/sub-1_ses-1_T1w.nii"
    image.parent.mkdir(parents=True)
    image.touch()
    sessions = image.parents[2] / "sub-1_sessions.tsv"
    sessions.write_text("session_id\tage\nses-1\told\n")
    said = {p.path: p.problem for p in read_cohort(tmp_path / "bids").problems}
    unread = "1 of 1 values in column {} count as missing: '{}'"
    assert said[sessions.name] == unread.format("age", "old")
    image = tmp_path / "loni/ADNI/002_S_0295/MPR/2006-04-18_08_20_30.0/I45108/x_I45108.nii"
    image.parent.mkdir(parents=True)
    image.touch()
    (tmp_path / "loni/c.csv").write_text("Image Data ID,Subject,Sex\nI45108,002_S_0295,1\n")
    said = {p.path: p.problem for p in read_cohort(tmp_path / "loni").problems}
    assert said == {"c.csv": unread.format("Sex", "1")}


def test_columns_of_one_name_are_listed(tmp_path: Path) -> None:
    said = "has several columns age, of which the first is used"
    advice = "remove the others, or rename the first"
    for header in ("id,age,age", "id,Age,age"):
        assert listed(tmp_path, f"{header}\na,60,70\nb,61,71\n") == [(said, advice)]
        assert [scan.age for scan in read_cohort(tmp_path).scans] == [60, 61]
