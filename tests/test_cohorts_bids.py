"""BIDS: images, tables of people and visits, masks; also the real ds002748."""

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
    assert cohort.people()[0].diagnosis == "MCI"


def test_one_sessions_table_for_all(tmp_path: Path) -> None:
    dataset(tmp_path, "sub-1_ses-1_T1w.nii", "sub-1_ses-2_T1w.nii")
    write(tmp_path / "sessions.tsv", "participant_id session_id dx", "sub-1 ses-1 CN",
          "sub-1 ses-2 MCI")  # fmt: skip
    assert [scan.diagnosis for scan in by_name(tmp_path).values()] == ["CN", "MCI"]


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
    assert [p.problem for p in cohort.problems] == ["there is none, or it has no participant_id"]


def test_a_dataset_without_t1_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VQBrainError, match=r"has no \*_T1w.nii or .nii.gz below sub-"):
        read_cohort(dataset(tmp_path, "sub-1_T2w.nii"))


@pytest.mark.parametrize(("text", "simulated"), [('{"Simulated": {}}', True), ("{", False)])
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
