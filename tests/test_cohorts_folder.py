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
        (["p1/T1.nii", "p1/again.nii", "p2/T1.nii"], [("p1", ""), ("p2", "")]),
        (["a.nii", "b.nii", "old/a.nii"], [("a", ""), ("b", "")]),
        (["x/a.nii", "x/b.nii", "x/c.nii", "y/a.nii"], [("a", ""), ("b", ""), ("c", "")]),
        (["sub-1_ses-2_T1w.nii", "sub-1_ses-1_T1w.nii"], [("sub-1", "ses-1"), ("sub-1", "ses-2")]),
        (["sub-1_T1w.nii", "sub-1_T2w.nii"], [("sub-1", "")]),
    ],
)
def test_file_names_say_who_it_is(
    tmp_path: Path, files: list[str], expected: list[tuple[str, str]]
) -> None:
    assert names(folder(tmp_path, *files)) == expected


def test_without_a_table_each_file_is_a_person_and_this_is_said(tmp_path: Path) -> None:
    cohort = read_cohort(folder(tmp_path, "a.nii", "b.nii", "sub-1_T1w.nii"))
    (problem,) = cohort.problems
    said = "no table names participants: 2 of 3 files are assumed to be one participant each"
    assert problem.problem == said
    assert "add a table with filename, participant_id, session_id" in problem.advice
    (note,) = cohort.notes
    assert note.startswith("2 of 3 files are assumed to be one participant each, since their ")
    assert "may be in two splits" in note
    assert note.endswith("add a table with filename, participant_id, session_id")


def test_files_whose_names_or_tables_say_who_it_is_have_no_note(tmp_path: Path) -> None:
    folder(tmp_path, "sub-1_ses-1_T1w.nii", "x/1.nii", "x/2.nii", "anna.nii")
    (tmp_path / "t.csv").write_text("id,filename\nbert,x/1.nii\nbert,x/2.nii\nanna,\nsub-1,\n")
    cohort = read_cohort(tmp_path)
    assert {scan.participant_id for scan in cohort.scans} == {"sub-1", "bert", "anna"}
    assert cohort.notes == ()


def test_a_table_is_joined_on_the_participant(tmp_path: Path) -> None:
    folder(tmp_path, "a_T1w.nii", "b_T1w.nii")
    (tmp_path / "people.csv").write_text("ID,Sex,Age,dx\na,female,70,Dementia\n")
    cohort = read_cohort(tmp_path)
    first, second = cohort.scans
    assert (first.sex, first.age, first.diagnosis) == ("F", 70.0, "AD")
    assert (second.sex, second.age, second.diagnosis) == ("", None, "")
    assert [(p.path, p.problem) for p in cohort.problems] == [
        (
            "participants.tsv",
            "no table names participants: 1 of 2 files are assumed to be one participant each",
        ),
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
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, files: list[str], words: str) -> None:
    with pytest.raises(VQBrainError, match=words):
        read_cohort(folder(tmp_path, *files))


def test_of_two_files_of_one_person_the_first_is_used_and_the_other_said(tmp_path: Path) -> None:
    cohort = read_cohort(folder(tmp_path, "a.nii", "a.nii.gz", "b.nii"))
    assert [scan.source for scan in cohort.scans] == ["a.nii", "b.nii"]
    assert ("a.nii.gz", "another file is used for a: a.nii") in [
        (p.path, p.problem) for p in cohort.problems
    ]


def test_images_of_other_formats_are_said(tmp_path: Path) -> None:
    others = ["b.mgz", "c.hdr", "c.img", "d.JPG"]
    cohort = read_cohort(folder(tmp_path, "a.nii", *others, "notes.txt"))
    said = [problem.path for problem in cohort.problems if problem.problem == "is not a NIfTI file"]
    assert said == others


def test_an_unknown_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--column sex=s: no such column, the source has no table"):
        read_cohort(folder(tmp_path, "a.nii"), columns={"sex": "s"})


def test_a_real_folder(shared_data: Path) -> None:
    cohort = read_cohort(shared_data / "ixi-hh")
    assert (cohort.layout, len(cohort.scans), cohort.problems) == ("folder", 125, ())
    assert sum(scan.sex == "" for scan in cohort.scans) == 4
    assert all(20 <= scan.age <= 80 for scan in cohort.scans if scan.age is not None)


def test_repeats_leave_names_as_they_are(tmp_path: Path) -> None:
    first = ["sub-01_ses-1_run-2_T1w.nii", "sub-01_ses-1_T1w.nii", "sub-01_ses-2_T1w.nii"]
    cohort = read_cohort(folder(tmp_path, *first, "x/sub-02_T1w.nii", "y/sub-02_T1w.nii", "b.nii"))
    assert [(s.participant_id, s.session_id, s.source) for s in cohort.scans] == [
        ("b", "", "b.nii"),
        ("sub-01", "ses-1", "sub-01_ses-1_T1w.nii"),
        ("sub-01", "ses-2", "sub-01_ses-2_T1w.nii"),
        ("sub-02", "", "x/sub-02_T1w.nii"),
    ]
    said = [(p.path, p.problem) for p in cohort.problems if "another file is used" in p.problem]
    assert said == [
        ("y/sub-02_T1w.nii", "another file is used for sub-02: x/sub-02_T1w.nii"),
        (
            "sub-01_ses-1_run-2_T1w.nii",
            "another file is used for sub-01_ses-1: sub-01_ses-1_T1w.nii",
        ),
    ]


def test_an_image_twice_in_one_folder_takes_no_name_away(tmp_path: Path) -> None:
    assert names(folder(tmp_path, "x/a.nii", "x/a.nii.gz", "x/b.nii")) == [("a", ""), ("b", "")]


def test_a_repeat_of_two_people_whose_names_join_alike_is_none(tmp_path: Path) -> None:
    folder(tmp_path, "1.nii", "2.nii")
    (tmp_path / "t.csv").write_text("filename,id,session\n1.nii,a_1,\n2.nii,a,1\n")
    assert {who for who, _ in names(tmp_path)} == {"a", "a_1"}


@pytest.mark.parametrize(
    "other",
    [
        "a_mask.nii", "mask_a.nii", "a_brain_mask.nii.gz", "aBrainMask.nii", "a_T1w_brainmask.nii",
        "a_seg.nii", "a_dseg.nii", "a_seg_2.nii", "a_pve_0.nii", "a_pveseg.nii", "aseg.nii",
        "aparc+aseg.nii", "a_labels.nii", "a_label-GM_probseg.nii", "a_segmentation.nii",
        "a_lesion.nii", "c1a.nii", "mwc2a.nii", "a_gm.nii", "a_FLAIR.nii", "a_T2w.nii",
        "a_bold.nii", "sub-1_mask.nii", "sub-1_dseg.nii",
    ],
)  # fmt: skip
def test_masks_and_label_maps_are_no_participants(tmp_path: Path, other: str) -> None:
    cohort = read_cohort(folder(tmp_path, "a.nii", other))
    assert [scan.source for scan in cohort.scans] == ["a.nii"]
    assert (other, "is not a T1 image by its name") in [
        (problem.path, problem.problem) for problem in cohort.problems
    ]


@pytest.mark.parametrize("name", ["masked_a", "a_T1_to_T2", "PD_01", "lesion_01", "c1a", "sub-1"])
def test_names_that_are_nearly_those_of_masks_are_images(tmp_path: Path, name: str) -> None:
    assert len(read_cohort(folder(tmp_path, f"{name}_T1w.nii")).scans) == 1


@pytest.mark.parametrize(
    ("name", "who"),
    [
        ("sub-002_S_0295_T1w.nii", ("sub-002_S_0295", "")),
        ("sub-01_ses-1_acq-mp_rage_T1w.nii", ("sub-01", "ses-1")),
        ("sub-01_ses-a_b_T1W.nii.gz", ("sub-01", "ses-a_b")),
    ],
)
def test_labels_that_bids_forbids_are_said(tmp_path: Path, name: str, who: tuple[str, str]) -> None:
    folder(tmp_path, name)
    (scan,) = read_cohort(tmp_path).scans
    assert (scan.participant_id, scan.session_id) == who
    said = f"has a label with characters that BIDS forbids, read as {who[0]}"
    assert [(p.path, p.problem) for p in read_cohort(tmp_path).problems] == [(name, said)]


@pytest.mark.parametrize("name", ["b.NII", "b.NII.GZ", "b.nii.GZ"])
def test_endings_in_capitals_are_said(tmp_path: Path, name: str) -> None:
    cohort = read_cohort(folder(tmp_path, "sub-1_T1w.nii", name))
    assert [(p.path, p.problem) for p in cohort.problems] == [
        (name, "its ending has capitals, skipped")
    ]


def test_files_of_one_name_are_told_apart_by_the_paths_of_the_table(tmp_path: Path) -> None:
    folder(tmp_path, "p1/T1.nii", "p2/T1.nii", "p3/T1.nii")
    (tmp_path / "t.csv").write_text(
        "filename,id,age\np1/T1.nii,anna,60\n/data/p2/T1,bert,50\np4\\T1.nii,carl,40\n"
    )
    cohort = read_cohort(tmp_path)
    found = [(scan.source, scan.participant_id, scan.age) for scan in cohort.scans]
    assert found == [
        ("p1/T1.nii", "anna", 60.0), ("p2/T1.nii", "bert", 50.0), ("p3/T1.nii", "p3", None),
    ]  # fmt: skip
    assert ("p4\\T1.nii", "is in t.csv but is no image here") in [
        (problem.path, problem.problem) for problem in cohort.problems
    ]


def test_a_name_that_several_files_have_is_not_guessed(tmp_path: Path) -> None:
    folder(tmp_path, "p1/T1.nii", "p2/T1.nii")
    (tmp_path / "t.csv").write_text("filename,id\nT1.nii,anna\n")
    assert names(tmp_path) == [("p1", ""), ("p2", "")]
    said = ("T1.nii", "is ambiguous (p1/T1.nii, p2/T1.nii), not used")
    assert said in [(p.path, p.problem) for p in read_cohort(tmp_path).problems]


def test_a_file_of_two_participants_is_passed_over(tmp_path: Path) -> None:
    folder(tmp_path, "1.nii", "2.nii")
    (tmp_path / "t.csv").write_text("filename,id\n1.nii,anna\n1.nii,bert\n2.nii,carl\n")
    assert names(tmp_path) == [("carl", "")]
    said = ("1.nii", "has several participants or sessions in t.csv (anna, bert): skipped")
    assert said in [(p.path, p.problem) for p in read_cohort(tmp_path).problems]


def test_dates_and_slashes_are_identifiers_and_no_paths(tmp_path: Path) -> None:
    folder(tmp_path, "a.nii", "2006.nii", "b.nii")
    (tmp_path / "t.csv").write_text("id,age\n1/a,1\n4/18/2006,2\nb,3\n")
    assert [scan.age for scan in read_cohort(tmp_path).scans] == [None, None, 3.0]


def test_rows_for_each_visit(tmp_path: Path) -> None:
    folder(tmp_path, "sub-01_ses-1_T1w.nii", "sub-01_ses-2_T1w.nii")
    (tmp_path / "t.csv").write_text("id,session,age,dx\n01,1,60,MCI\n01,2,65,AD\n")
    found = [(scan.diagnosis, scan.age) for scan in read_cohort(tmp_path).scans]
    assert found == [("MCI", 60.0), ("AD", 65.0)]


def test_rows_of_several_tables_are_merged(tmp_path: Path) -> None:
    folder(tmp_path, "1.nii", "2.nii")
    (tmp_path / "participants.tsv").write_text("participant_id\tage\tsex\na\t60\tF\nb\tn/a\tM\n")
    (tmp_path / "clinic.csv").write_text("id;dx;age\na;AD;\nb;CN;70,5\nc;CN;1\n")
    (tmp_path / "files.csv").write_text("filename,id\n1.nii,a\n2.nii,b\n")
    (tmp_path / "notes.csv").write_text("word,count\nx,1\n")
    cohort = read_cohort(tmp_path)
    found = [(s.participant_id, s.diagnosis, s.sex, s.age) for s in cohort.scans]
    assert found == [("a", "AD", "F", 60.0), ("b", "CN", "M", 70.5)]
    said = "has no column that names participants or files (participant_id, filename), its first"
    assert [(p.path, p.problem) for p in cohort.problems] == [
        ("notes.csv", f"{said} line is word, count: skipped"),
        ("c", "has no T1 image"),
    ]


def test_tables_that_differ_leave_the_value_missing_and_one_may_be_named(tmp_path: Path) -> None:
    folder(tmp_path, "a.nii")
    (tmp_path / "x.csv").write_text("id,dx,sex\na,AD,F\n")
    (tmp_path / "y.csv").write_text("id,dx,sex\na,CN,F\n")
    (scan,) = read_cohort(tmp_path).scans
    assert (scan.diagnosis, scan.sex) == ("", "F")
    assert [(p.path, p.problem) for p in read_cohort(tmp_path).problems] == [
        ("a", "its rows differ in diagnosis"),
    ]
    named = read_cohort(tmp_path, table=tmp_path / "y.csv")
    assert (named.scans[0].diagnosis, named.problems) == ("CN", ())
    with pytest.raises(UsageError, match="--table z.csv: no such file"):
        read_cohort(tmp_path, table="z.csv")


@pytest.mark.parametrize("name", ["NA", "null", "nan"])
def test_words_for_missing_values_are_names_of_participants(tmp_path: Path, name: str) -> None:
    folder(tmp_path, "1.nii")
    (tmp_path / "t.csv").write_text(f"filename,id,age\n1.nii,{name},NA\n")
    (scan,) = read_cohort(tmp_path).scans
    assert (scan.participant_id, scan.age) == (name, None)


def test_a_flat_download_of_lonis_archive_is_joined_by_image_id(tmp_path: Path) -> None:
    folder(tmp_path, "PPMI_3001_MR_T1_S1_I216485.nii", "PPMI_3001_MR_T1_S2_I300.nii")
    (tmp_path / "PPMI.csv").write_text(
        '"Image Data ID","Subject","Group","Sex","Age","Visit"\n'
        '"I216485","3001","PD","M","60","1"\n"300","3001","PD","M","62","4"\n'
        '"I7","3002","PD","M","60","1"\n'
    )
    cohort = read_cohort(tmp_path)
    found = [(s.participant_id, s.session_id, s.diagnosis, s.age) for s in cohort.scans]
    assert found == [("3001", "1", "PD", 60.0), ("3001", "4", "PD", 62.0)]
    assert [(p.path, p.problem) for p in cohort.problems] == [
        ("I7", "is in PPMI.csv but has no file")
    ]
    assert cohort.notes == ()


def test_a_table_of_socioeconomic_status_has_no_sessions(tmp_path: Path) -> None:
    folder(tmp_path, "a.nii", "b.nii")
    (tmp_path / "t.csv").write_text("ID,M/F,SES,Age\na,F,2,70\nb,M,,71\n")
    found = [(scan.session_id, scan.age) for scan in read_cohort(tmp_path).scans]
    assert found == [("", 70.0), ("", 71.0)]


def test_results_of_this_package_are_no_source(tmp_path: Path) -> None:
    folder(tmp_path, "sub-1_T1w.nii", "run/2-slices/stacks/a_axial_T1w.nii")
    folder(tmp_path, "half/1-volumes/a_T1w.nii.gz", "out/a/a_desc-reconstruction_T1w.nii.gz")
    (tmp_path / "out" / "a" / "provenance.json").write_text('{"versions": {"monai-vqbrain": "1"}}')
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "provenance.json").write_text("{}")
    folder(tmp_path, "other/sub-2_T1w.nii", "run/sub-3_T1w.nii", "run/3-vqvae.partial/b.nii")
    cohort = read_cohort(tmp_path)
    assert [scan.participant_id for scan in cohort.scans] == ["sub-1", "sub-2", "sub-3"]
    said = "contains results of vqbrain, which are not a source"
    assert [(p.path, p.problem) for p in cohort.problems] == [
        ("half", said), ("out/a", said), ("run", said),
    ]  # fmt: skip
    with pytest.raises(UsageError, match="no readable NIfTI or DICOM"):
        read_cohort(tmp_path / "half")


def test_tables_in_sub_folders_are_not_read_and_this_is_listed(tmp_path: Path) -> None:
    folder(tmp_path, "siteA/sub-1_T1w.nii", "siteB/sub-2_T1w.nii")
    for site in ("siteA", "siteB"):
        (tmp_path / site / "participants.tsv").write_text("participant_id\tage\nsub-1\t60\n")
    cohort = read_cohort(tmp_path)
    assert [scan.age for scan in cohort.scans] == [None, None]
    assert [(p.path, p.problem) for p in cohort.problems] == [
        (
            "siteA/participants.tsv",
            "was not read, since it is in a sub-folder (the first of 2 such tables)",
        )
    ]
    named = read_cohort(tmp_path, table=tmp_path / "siteA" / "participants.tsv")
    assert [scan.age for scan in named.scans] == [60, None]
    assert not any("sub-folder" in problem.problem for problem in named.problems)
