"""BIDS: images, tables of participants and visits, masks; also the real ds002748."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from monai_vqbrain.cohorts import Scan, read_cohort
from monai_vqbrain.errors import UsageError, VQBrainError


def dataset(root: Path, *images: str) -> Path:
    """Empty images by name: `sub-1_ses-2_T1w.nii` goes to sub-1/ses-2/anat."""
    for name in images:
        folders = [part for part in name.split("_") if part.startswith(("sub-", "ses-"))]
        path = Path(root, *folders, "anat", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def write(path: Path, *rows: str) -> None:
    path.write_text("".join(row.replace(" ", "\t") + "\n" for row in rows))


def by_name(root: Path) -> dict[str, Scan]:
    return {scan.name: scan for scan in read_cohort(root, "bids").scans}


def test_people_without_sessions(tmp_path: Path) -> None:
    dataset(tmp_path, "sub-1_T1w.nii.gz", "sub-10_T1w.nii", "sub-2_T1w.nii.gz", "sub-2_T2w.nii")
    write(tmp_path / "participants.tsv", "participant_id group gender age", "sub-1 depr m 50",
          "2 control f n/a", "sub-10 n/a n/a 31.5")  # fmt: skip
    cohort = read_cohort(tmp_path)
    facts = [(s.participant_id, s.diagnosis, s.sex, s.age) for s in cohort.scans]
    assert facts == [
        ("sub-1", "depr", "M", 50.0),
        ("sub-2", "control", "F", None),
        ("sub-10", "", "", 31.5),
    ]
    assert cohort.columns == {"diagnosis": "group", "sex": "gender", "age": "age"}
    assert cohort.problems == ()
    assert not cohort.simulated


def test_the_visit_goes_before_the_person(tmp_path: Path) -> None:
    dataset(tmp_path, "sub-1_ses-M000_T1w.nii", "sub-1_ses-M018_T1w.nii", "sub-2_ses-M000_T1w.nii")
    write(tmp_path / "participants.tsv", "participant_id sex age_bl diagnosis_sc",
          "sub-1 F 70 MCI", "sub-2 M 65 CN")  # fmt: skip
    write(tmp_path / "sub-1" / "sub-1_sessions.tsv", "session_id age diagnosis",
          "ses-M000 70.1 MCI", "M018 71.6 Dementia")  # fmt: skip
    scans = by_name(tmp_path)
    assert [(s.diagnosis, s.sex, s.age) for s in scans.values()] == [
        ("MCI", "F", 70.1),
        ("AD", "F", 71.6),
        ("CN", "M", 65.0),
    ]
    cohort = read_cohort(tmp_path)
    assert cohort.columns["diagnosis"] == "diagnosis, else diagnosis_sc"
    assert cohort.participants()[0].diagnosis == "MCI"


def test_one_sessions_table_for_all(tmp_path: Path) -> None:
    dataset(tmp_path, "sub-1_ses-1_T1w.nii", "sub-1_ses-2_T1w.nii")
    write(tmp_path / "sessions.tsv", "participant_id session_id dx", "sub-1 ses-1 CN",
          "sub-1 ses-2 MCI")  # fmt: skip
    assert [scan.diagnosis for scan in by_name(tmp_path).values()] == ["CN", "MCI"]


def facts(root: Path) -> dict[str, tuple[str, str, float | None]]:
    return {name: (s.diagnosis, s.sex, s.age) for name, s in by_name(root).items()}


def problems(root: Path) -> list[tuple[str, str]]:
    return [(p.path, p.problem) for p in read_cohort(root, "bids").problems]


@pytest.mark.parametrize("column", ["session", "session_id", "visit"])
@pytest.mark.parametrize("labels", [("1", "2"), ("ses-1", "ses-2"), ("01", "02"), ("1.0", "2.0")])
def test_a_row_for_each_visit(tmp_path: Path, column: str, labels: tuple[str, str]) -> None:
    dataset(tmp_path, "sub-01_ses-1_T1w.nii", "sub-01_ses-2_T1w.nii")
    write(tmp_path / "participants.tsv", f"participant_id {column} age sex dx",
          f"sub-01 {labels[0]} 60 F MCI", f"sub-01 {labels[1]} 65 n/a AD")  # fmt: skip
    assert facts(tmp_path) == {
        "sub-01_ses-1": ("MCI", "F", 60.0),
        "sub-01_ses-2": ("AD", "F", 65.0),
    }
    assert problems(tmp_path) == []


def test_rows_that_differ_and_name_no_visit_leave_the_value_missing(tmp_path: Path) -> None:
    dataset(tmp_path, "sub-01_ses-1_T1w.nii", "sub-02_ses-1_T1w.nii")
    write(tmp_path / "participants.tsv", "participant_id age sex dx", "sub-01 60 F MCI",
          "sub-01 65 F AD", "sub-02 70 M CN", "sub-02 n/a M CN")  # fmt: skip
    assert facts(tmp_path) == {
        "sub-01_ses-1": ("", "F", None),
        "sub-02_ses-1": ("CN", "M", 70.0),
    }
    assert problems(tmp_path) == [("sub-01 ses-1", "its rows differ in diagnosis, age")]


def test_a_visit_that_no_row_is_about_has_what_all_rows_agree_on(tmp_path: Path) -> None:
    dataset(tmp_path, "sub-01_ses-3_T1w.nii", "sub-02_T1w.nii", "sub-03_T1w.nii")
    write(tmp_path / "participants.tsv", "participant_id session age sex dx",
          "sub-01 1 60 F MCI", "sub-01 2 65 F MCI", "sub-02 1 50 M CN", "sub-02 2 51 M CN",
          "sub-03 1 40 F CN")  # fmt: skip
    assert facts(tmp_path) == {
        "sub-01_ses-3": ("MCI", "F", None),
        "sub-02": ("CN", "M", None),
        "sub-03": ("CN", "F", 40.0),
    }
    assert sorted(problems(tmp_path)) == [
        ("sub-01", "its rows about 1, 2 match no image"),
        ("sub-01 ses-3", "its rows differ in age"),
        ("sub-01 ses-3", "no row is about this visit, only about 1, 2"),
        ("sub-02", "its rows differ in age"),
    ]


def test_values_of_the_first_visit_are_not_those_of_a_visit_that_no_row_is_about(
    tmp_path: Path,
) -> None:
    dataset(tmp_path, "sub-01_ses-M000_T1w.nii", "sub-01_ses-M006_T1w.nii", "sub-01_T1w.nii")
    write(tmp_path / "participants.tsv", "participant_id sex age_bl diagnosis_sc", "sub-01 F 70 CN")
    write(tmp_path / "sub-01" / "sub-01_sessions.tsv", "session_id age diagnosis",
          "ses-M00 70 CN", "ses-M12 71 Dementia")  # fmt: skip
    assert facts(tmp_path) == {
        "sub-01": ("CN", "F", 70.0),
        "sub-01_ses-M000": ("CN", "F", 70.0),
        "sub-01_ses-M006": ("", "F", None),
    }
    assert sorted(problems(tmp_path)) == [
        ("sub-01", "its rows about ses-M12 match no image"),
        ("sub-01 ses-M006", "its rows differ in diagnosis, age"),
        ("sub-01 ses-M006", "no row is about this visit, only about ses-M00, ses-M12"),
    ]


def test_two_rows_of_one_visit_are_merged_or_said_to_differ(tmp_path: Path) -> None:
    dataset(tmp_path, "sub-01_ses-1_T1w.nii", "sub-02_ses-1_T1w.nii")
    write(tmp_path / "participants.tsv", "participant_id session age sex dx", "sub-01 1 60 F n/a",
          "sub-01 1 n/a n/a MCI", "sub-02 1 50 M CN", "sub-02 1 50 M AD")  # fmt: skip
    assert facts(tmp_path) == {
        "sub-01_ses-1": ("MCI", "F", 60.0),
        "sub-02_ses-1": ("", "M", 50.0),
    }
    assert problems(tmp_path) == [("sub-02 ses-1", "its rows differ in diagnosis")]


@pytest.mark.parametrize(
    ("first", "later"),
    [
        ("ses-M00", "ses-M12"),
        ("M000", "M012"),
        ("m0", "m12"),
        ("bl", "Month_12"),
        ("SES-m0", "Ses-M12"),
    ],
)
def test_labels_of_sessions_may_differ_in_form(tmp_path: Path, first: str, later: str) -> None:
    dataset(tmp_path, "sub-01_ses-M000_T1w.nii", "sub-01_ses-M012_T1w.nii")
    write(tmp_path / "participants.tsv", "participant_id sex age_bl diagnosis_sc", "sub-01 F 70 CN")
    write(tmp_path / "sub-01" / "sub-01_sessions.tsv", "session_id age diagnosis",
          f"{first} 70 MCI", f"{later} 71 Dementia", "ses-M24 72 Dementia")  # fmt: skip
    assert facts(tmp_path) == {
        "sub-01_ses-M000": ("MCI", "F", 70.0),
        "sub-01_ses-M012": ("AD", "F", 71.0),
    }
    assert problems(tmp_path) == [("sub-01", "its rows about ses-M24 match no image")]


def test_each_sessions_table_has_its_own_columns(tmp_path: Path) -> None:
    dataset(tmp_path, *(f"sub-{who}_ses-1_T1w.nii" for who in "123"))
    write(tmp_path / "participants.tsv", "participant_id", "1", "2", "3")
    write(tmp_path / "sub-1" / "sub-1_sessions.tsv", "session_id dx", "ses-1 AD")
    write(tmp_path / "sub-2" / "sub-2_sessions.tsv", "session group", "1 CN")
    write(tmp_path / "sub-3" / "sub-3_sessions.tsv", "when dx", "1 CN")
    assert [scan.diagnosis for scan in by_name(tmp_path).values()] == ["AD", "CN", ""]
    said = ("sub-3_sessions.tsv", "has no column for the session, skipped")
    assert problems(tmp_path) == [said]


def test_a_label_that_may_mean_two_sessions_means_none(tmp_path: Path) -> None:
    dataset(tmp_path, "sub-01_ses-M00_T1w.nii", "sub-01_ses-M000_T1w.nii")
    write(tmp_path / "participants.tsv", "participant_id", "sub-01")
    write(tmp_path / "sub-01" / "sub-01_sessions.tsv", "session_id age", "ses-M0 70", "ses-M00 71")
    assert facts(tmp_path) == {"sub-01_ses-M00": ("", "", 71.0), "sub-01_ses-M000": ("", "", None)}
    assert ("sub-01", "its rows about ses-M0 match no image") in problems(tmp_path)


@pytest.mark.parametrize("name", ["NA", "null", "nan", "None"])
def test_words_for_missing_values_are_names_of_participants(tmp_path: Path, name: str) -> None:
    dataset(tmp_path, f"sub-{name}_T1w.nii")
    write(tmp_path / "participants.tsv", "participant_id age dx", f"{name} 60 NA")
    assert facts(tmp_path) == {f"sub-{name}": ("", "", 60.0)}
    assert problems(tmp_path) == []


def test_a_table_without_a_header_is_said(tmp_path: Path) -> None:
    dataset(tmp_path, "sub-1_T1w.nii")
    write(tmp_path / "participants.tsv", "sub-1 60 F", "sub-2 50 M")
    assert facts(tmp_path) == {"sub-1": ("", "", None)}
    assert problems(tmp_path) == [("participants.tsv", "does not exist, or has no participant_id")]


def test_a_column_may_be_named(tmp_path: Path) -> None:
    dataset(tmp_path, "sub-1_T1w.nii")
    write(tmp_path / "participants.tsv", "participant_id cluster", "sub-1 B")
    assert read_cohort(tmp_path, columns={"diagnosis": "cluster"}).scans[0].diagnosis == "B"
    with pytest.raises(UsageError, match="no such column, the columns are participant_id, cluster"):
        read_cohort(tmp_path, columns={"sex": "gender"})


def test_one_scan_of_a_session_is_used_and_the_others_are_listed(tmp_path: Path) -> None:
    dataset(tmp_path, "sub-1_run-2_T1w.nii", "sub-1_run-1_T1w.nii", "sub-1_acq-a_run-1_T1w.nii")
    write(tmp_path / "participants.tsv", "participant_id", "sub-1")
    cohort = read_cohort(tmp_path)
    assert [scan.source for scan in cohort.scans] == ["sub-1/anat/sub-1_run-1_T1w.nii"]
    assert [problem.path.rpartition("/")[2] for problem in cohort.problems] == [
        "sub-1_run-2_T1w.nii",
        "sub-1_acq-a_run-1_T1w.nii",
    ]
    said = "another scan of the same session was used ({}): sub-1_run-1_T1w.nii"
    assert [problem.problem for problem in cohort.problems] == [
        said.format("first by name"),
        said.format("plainest name"),
    ]


@pytest.mark.parametrize(
    ("used", "other", "why"),
    [
        ("sub-1_acq-3D_run-2_T1w.nii", "sub-1_UNIT1.nii", "T1w before UNIT1"),
        ("sub-1_acq-3D_run-2_T1w.nii", "sub-1_ce-gd_T1w.nii", "without contrast agent before with"),
        ("sub-1_acq-3D_run-2_T1w.nii", "sub-1_part-phase_T1w.nii", "magnitude before phase"),
    ],
)
def test_the_choice_of_a_scan_has_its_reason(
    tmp_path: Path, used: str, other: str, why: str
) -> None:
    dataset(tmp_path, used, other)
    cohort = read_cohort(tmp_path)
    assert [scan.path.name for scan in cohort.scans] == [used]
    assert f"another scan of the same session was used ({why}): {used}" in {
        problem.problem for problem in cohort.problems
    }


def test_the_uni_image_of_mp2rage_is_a_t1(tmp_path: Path) -> None:
    dataset(tmp_path, "sub-1_UNIT1.nii", "sub-1_inv-2_MP2RAGE.nii", "sub-1_T1map.nii")
    assert [scan.path.name for scan in read_cohort(tmp_path).scans] == ["sub-1_UNIT1.nii"]


@pytest.mark.parametrize(
    ("image", "mask", "found"),
    [
        ("sub-1_T1w.nii", "sub-1/anat/sub-1_desc-brain_mask.nii.gz", True),
        ("sub-1_T1w.nii", "derivatives/sub-1/anat/sub-1_desc-brain_mask.nii.gz", True),
        ("sub-1_T1w.nii", "derivatives/fmriprep/sub-1/anat/sub-1_desc-brain_mask.nii.gz", True),
        ("sub-1_run-1_T1w.nii", "derivatives/x/sub-1/anat/sub-1_desc-brain_mask.nii", True),
        ("sub-1_ses-1_T1w.nii", "sub-1/ses-1/anat/sub-1_ses-1_desc-brain_mask.nii", True),
        ("sub-1_desc-preproc_T1w.nii", "sub-1/anat/sub-1_desc-brain_mask.nii", True),
        ("sub-1_T1w.nii", "sub-1/anat/sub-1_space-MNI_desc-brain_mask.nii.gz", False),
        ("sub-1_T1w.nii", "sub-1/anat/sub-1_run-2_desc-brain_mask.nii.gz", False),
        ("sub-1_T1w.nii", "sub-1/anat/sub-1_desc-lesion_mask.nii.gz", False),
        ("sub-1_ses-1_T1w.nii", "derivatives/x/sub-1/anat/sub-1_desc-brain_mask.nii", False),
    ],
)
def test_masks(tmp_path: Path, image: str, mask: str, found: bool) -> None:
    dataset(tmp_path, image)
    (tmp_path / mask).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / mask).touch()
    assert read_cohort(tmp_path).scans[0].mask_path == (tmp_path / mask if found else None)


def test_people_and_images_that_do_not_meet_are_listed(tmp_path: Path) -> None:
    dataset(tmp_path, "sub-1_T1w.nii", "sub-2_T1w.nii")
    write(tmp_path / "participants.tsv", "participant_id", "sub-1", "sub-3")
    said = [(p.path, p.problem) for p in read_cohort(tmp_path).problems]
    assert said == [("sub-3", "has no T1w image"), ("sub-2", "is not in participants.tsv")]


def test_a_dataset_without_participants_table_is_read(tmp_path: Path) -> None:
    cohort = read_cohort(dataset(tmp_path, "sub-1_T1w.nii"))
    assert len(cohort.scans) == 1
    assert [p.problem for p in cohort.problems] == ["does not exist, or has no participant_id"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("sub-2_T1W.nii.gz", "ends in T1W instead of T1w, skipped"),
        ("sub-2_t1w.nii", "ends in t1w instead of T1w, skipped"),
        ("sub-2_T1w.NII.GZ", "its ending has capitals, skipped"),
        ("sub-2_acq-mp_rage_T1w.nii", "its name or a label in it is not valid in BIDS, skipped"),
        ("sub-2_S_0295_T1w.nii", "its name or a label in it is not valid in BIDS, skipped"),
        ("sub-2_ses-a b_T1w.nii", "its name or a label in it is not valid in BIDS, skipped"),
        ("T1.nii", "its name or a label in it is not valid in BIDS, skipped"),
    ],
)
@pytest.mark.parametrize("folder", ["sub-2/anat", "sub-2/ses-1/anat"])
def test_names_that_are_passed_over_are_said(
    tmp_path: Path, name: str, said: str, folder: str
) -> None:
    dataset(tmp_path, "sub-1_T1w.nii", "sub-1_T2w.nii", "sub-1_desc-brain_mask.nii")
    write(tmp_path / "participants.tsv", "participant_id", "sub-1")
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / name).touch()
    assert list(by_name(tmp_path)) == ["sub-1"]
    assert problems(tmp_path) == [(f"{folder}/{name}", said)]


def test_images_outside_of_anat_are_said(tmp_path: Path) -> None:
    dataset(tmp_path, "sub-1_T1w.nii", "sub-1_run-2_T1w.nii")
    write(tmp_path / "participants.tsv", "participant_id", "sub-1")
    for place in (
        "sub-2/sub-2_T1w.nii",
        "derivatives/x/sub-1/sub-1_T1w.nii",
        "sub-1/dwi/a_dwi.nii",
    ):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
    assert problems(tmp_path)[1:] == [
        ("sub-2/sub-2_T1w.nii", "is not in sub-*/[ses-*/]anat, skipped")
    ]


def test_a_dataset_of_wrong_names_only_says_the_first(tmp_path: Path) -> None:
    words = r"\[ses-\*/\]anat; sub-1/anat/sub-1_T1W.nii ends in T1W instead of T1w"
    with pytest.raises(VQBrainError, match=words):
        read_cohort(dataset(tmp_path, "sub-1_T1W.nii", "sub-2_T1W.nii"))


def test_a_table_may_be_named(tmp_path: Path) -> None:
    dataset(tmp_path, "sub-1_T1w.nii")
    write(tmp_path / "participants.tsv", "participant_id age", "sub-1 60")
    write(tmp_path / "clinic.tsv", "id age", "1 61", "2 50")
    cohort = read_cohort(tmp_path, table=tmp_path / "clinic.tsv")
    assert [scan.age for scan in cohort.scans] == [61.0]
    assert [(p.path, p.problem) for p in cohort.problems] == [("sub-2", "has no T1w image")]


def test_a_dataset_without_t1_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VQBrainError, match=r"has no \*_T1w.nii or .nii.gz below sub-"):
        read_cohort(dataset(tmp_path, "sub-1_T2w.nii"))


@pytest.mark.parametrize(
    ("text", "simulated"),
    [('{"Simulated": {}}', True), ("{", False), ("[" * 100_000, False), ("[]", False)],
)
def test_a_simulated_dataset_says_so(tmp_path: Path, text: str, simulated: bool) -> None:
    dataset(tmp_path, "sub-1_T1w.nii")
    (tmp_path / "dataset_description.json").write_text(text)
    assert read_cohort(tmp_path).simulated is simulated


def test_a_real_dataset(shared_data: Path) -> None:
    cohort = read_cohort(shared_data / "ds002748")
    assert (cohort.layout, len(cohort.scans), cohort.problems) == ("bids", 48, ())
    assert cohort.columns == {"diagnosis": "group", "sex": "gender", "age": "age"}
    assert {scan.diagnosis for scan in cohort.scans} == {"depr", "control"}
    assert all(scan.path.is_file() and scan.sex and scan.age for scan in cohort.scans)
    assert json.dumps(cohort.columns)
