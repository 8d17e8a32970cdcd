"""A plain folder of NIfTI files; also the real ixi-hh."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_vqbrain.cohorts import read_cohort
from monai_vqbrain.errors import UsageError, VQBrainError


def folder(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def names(root: Path) -> list[tuple[str, str]]:
    return [(s.participant_id, s.session_id) for s in read_cohort(root, "folder").scans]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["b.nii", "a_T1w.nii.gz"], [("a", ""), ("b", "")]),
        (["x/a.nii", "y/b.nii"], [("a", ""), ("b", "")]),
        (["p1/T1.nii", "p2/T1.nii"], [("p1", ""), ("p2", "")]),
        (["p1/v1/T1.nii", "p1/v2/T1.nii"], [("p1_v1", ""), ("p1_v2", "")]),
        (["sub-1_ses-2_T1w.nii", "sub-1_ses-1_T1w.nii"], [("sub-1", "ses-1"), ("sub-1", "ses-2")]),
        (["sub-1_T1w.nii", "sub-1_T2w.nii"], [("sub-1", "")]),
    ],
)
def test_file_names_say_who_it_is(
    tmp_path: Path, files: list[str], expected: list[tuple[str, str]]
) -> None:
    assert names(folder(tmp_path, *files)) == expected


def test_without_a_table_each_file_is_a_person_and_this_is_said(tmp_path: Path) -> None:
    (problem,) = read_cohort(folder(tmp_path, "a.nii")).problems
    assert problem.problem.startswith("no table says who is who")
    assert "add a table with filename, participant_id, session_id" in problem.advice


def test_a_table_is_joined_on_the_participant(tmp_path: Path) -> None:
    folder(tmp_path, "a_T1w.nii", "b_T1w.nii")
    (tmp_path / "people.csv").write_text("ID,Sex,Age,dx\na,female,70,Dementia\n")
    cohort = read_cohort(tmp_path)
    first, second = cohort.scans
    assert (first.sex, first.age, first.diagnosis) == ("F", 70.0, "AD")
    assert (second.sex, second.age, second.diagnosis) == ("", None, "")
    assert [(p.path, p.problem) for p in cohort.problems] == [
        ("b_T1w.nii", "is not in people.csv"),
    ]
    assert cohort.columns == {"diagnosis": "dx", "sex": "Sex", "age": "Age"}


def test_a_table_with_file_names_says_who_was_scanned_twice(tmp_path: Path) -> None:
    folder(tmp_path, "scan1.nii.gz", "scan2.nii.gz", "scan3.nii.gz")
    (tmp_path / "list.tsv").write_text(
        "filename\tparticipant_id\tsession_id\tage\n"
        "scan1.nii.gz\tanna\tfirst\t60\nscan2\tanna\tsecond\t61\nx/scan3.nii.gz\tbert\tn/a\t50\n"
    )
    cohort = read_cohort(tmp_path)
    assert names(tmp_path) == [("anna", "first"), ("anna", "second"), ("bert", "")]
    assert [scan.age for scan in cohort.scans] == [60, 61, 50]
    assert cohort.problems == ()


def test_masks_lie_beside_their_images(tmp_path: Path) -> None:
    folder(
        tmp_path, "a_T1w.nii", "a_desc-brain_mask.nii.gz", "b.nii", "b_desc-brain_mask.nii", "c.nii"
    )
    masks = [scan.mask_path and scan.mask_path.name for scan in read_cohort(tmp_path).scans]
    assert masks == ["a_desc-brain_mask.nii.gz", "b_desc-brain_mask.nii", None]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["a_desc-brain_mask.nii"], "has no T1 image, only a_desc-brain_mask.nii"),
        (["a.nii", "x.csv", "y.tsv"], r"more than one table \(x.csv, y.tsv\): leave one there"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, files: list[str], words: str) -> None:
    with pytest.raises(VQBrainError, match=words):
        read_cohort(folder(tmp_path, *files))


def test_of_two_files_of_one_person_the_first_is_used_and_the_other_said(tmp_path: Path) -> None:
    cohort = read_cohort(folder(tmp_path, "a.nii", "a.nii.gz", "b.nii"))
    assert [scan.source for scan in cohort.scans] == ["a.nii", "b.nii"]
    assert ("a.nii.gz", "a already is a.nii") in [(p.path, p.problem) for p in cohort.problems]


def test_images_of_other_formats_are_said(tmp_path: Path) -> None:
    others = ["b.mgz", "c.hdr", "c.img", "d.JPG"]
    cohort = read_cohort(folder(tmp_path, "a.nii", *others, "notes.txt"))
    said = [problem.path for problem in cohort.problems if problem.problem == "is no NIfTI file"]
    assert said == others


def test_an_unknown_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--column sex=s: no such column, the source has no table"):
        read_cohort(folder(tmp_path, "a.nii"), columns={"sex": "s"})


def test_a_real_folder(shared_data: Path) -> None:
    cohort = read_cohort(shared_data / "ixi-hh")
    assert (cohort.layout, len(cohort.scans), cohort.problems) == ("folder", 125, ())
    assert sum(scan.sex == "" for scan in cohort.scans) == 4
    assert all(20 <= scan.age <= 80 for scan in cohort.scans if scan.age is not None)
