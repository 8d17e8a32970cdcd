"""ADNI as LONI delivers it: a tree of that shape, built from simulated brains."""

from __future__ import annotations

import functools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from monai_vqbrain.cohorts import Scan, read_cohort
from monai_vqbrain.cohorts.phantom_brain import draw_body, phantom_brain
from monai_vqbrain.errors import UsageError, VQBrainError

PROCESSED = "MPR__GradWarp__B1_Correction__N3__Scaled"
HEADER = (
    "Image Data ID,Subject,Group,Sex,Age,Visit,Modality,Description,Type,Acq Date,Format,Downloaded"
)
FIRST, LATER = "2006-04-18_08_20_30.0", "2007-05-02_09_00_00.0"


@functools.cache
def brain(number: int) -> nib.Nifti1Image:
    """A simulated brain at 8 mm; 4D with one volume, as some exports are."""
    rng = np.random.default_rng(number)
    phantom = phantom_brain(draw_body(rng), 1, rng, resolution_mm=8)
    return nib.Nifti1Image(phantom.volume[..., None].astype(np.int16), phantom.affine)


def image(
    root: Path,
    person: str,
    series: str,
    date: str,
    number: int,
    leaf: str = "",
    study: str = "ADNI",
) -> Path:
    """One file of the tree."""
    folder = root / study / person / series / date / (leaf or f"S{number + 1}")
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{study}_{person}_MR_{series}_Br_20070319113623975_S{number + 1}_I{number}.nii"
    nib.save(brain(number), folder / name)
    return folder / name


def collection(root: Path, *rows: tuple[str, ...], name: str = "T1_6_18_2019.csv") -> None:
    """The collection CSV: (image id, subject, group, sex, age), every field quoted."""
    filler = ("bl", "MRI", "x", "Processed", "4/18/2006", "NiFTI", "6/18/2019")
    lines = [HEADER.split(","), *((*row, *filler) for row in rows)]
    text = "\n".join(",".join(f'"{value}"' for value in line) for line in lines)
    (root / name).write_text(text + "\n")


def only(root: Path) -> Scan:
    (scan,) = read_cohort(root, "loni").scans
    return scan


@pytest.mark.parametrize("image_id", ["I45108", "45108", "i45108"])
def test_rows_belong_to_files_by_image_id(tmp_path: Path, image_id: str) -> None:
    path = image(tmp_path, "002_S_0295", PROCESSED, FIRST, 45108)
    image(tmp_path, "002_S_0295", "Field_Mapping", FIRST, 1)
    collection(tmp_path, ("I1", "009_S_0001", "AD", "M", "50"),
               (image_id, "002_S_0295", "cn", "F", "85"))  # fmt: skip
    cohort = read_cohort(tmp_path)
    assert cohort.layout == "loni"
    assert [problem.path for problem in cohort.problems] == ["Field_Mapping"]
    assert cohort.columns == {"diagnosis": "Group", "sex": "Sex", "age": "Age"}
    assert cohort.scans == (
        Scan(
            participant_id="002_S_0295",
            session_id="2006-04-18",
            path=path,
            diagnosis="CN",
            sex="F",
            age=85.0,
            source=path.relative_to(tmp_path).as_posix(),
        ),
    )


@pytest.mark.parametrize("folder", ["", "ADNI"])
def test_the_folder_above_and_adni_itself_will_do(tmp_path: Path, folder: str) -> None:
    image(tmp_path, "002_S_0295", "MP-RAGE", FIRST, 13722, leaf="I13722")
    collection(tmp_path, ("I13722", "002_S_0295", "AD", "M", "70"))
    assert only(tmp_path / folder).diagnosis == "AD"


def test_visits_of_a_person_are_sessions_in_order_of_date(tmp_path: Path) -> None:
    image(tmp_path, "002_S_0295", "MP-RAGE", LATER, 20)
    image(tmp_path, "002_S_0295", "MP-RAGE", FIRST, 10)
    collection(tmp_path, ("10", "002_S_0295", "MCI", "M", "70"),
               ("20", "002_S_0295", "AD", "M", "71"))  # fmt: skip
    cohort = read_cohort(tmp_path)
    assert [s.name for s in cohort.scans] == ["002_S_0295_2006-04-18", "002_S_0295_2007-05-02"]
    (person,) = cohort.participants()
    assert (person.diagnosis, person.age) == ("MCI", 70)


def test_of_a_days_scans_the_most_processed_is_used_and_the_newest_of_these(tmp_path: Path) -> None:
    image(tmp_path, "002_S_0295", "MP-RAGE", FIRST, 1)
    image(tmp_path, "002_S_0295", f"{PROCESSED}_2", FIRST, 118671)
    image(tmp_path, "002_S_0295", PROCESSED, FIRST, 45108)
    image(tmp_path, "002_S_0295", PROCESSED.replace("MPR", "MPR-R"), FIRST, 2)
    collection(tmp_path, ("118671", "002_S_0295", "CN", "F", "85"))
    cohort = read_cohort(tmp_path)
    assert [scan.path.name.rpartition("_")[2] for scan in cohort.scans] == ["I118671.nii"]
    others = [
        p for p in cohort.problems if p.problem.startswith("another scan of the same session")
    ]
    assert len(others) == len(cohort.problems) == 3


@pytest.mark.parametrize(
    "series",
    [
        "Accelerated_Sagittal_MPRAGE",
        "MPRAGE_GRAPPA2",
        "MP-RAGE",
        "MP_RAGE_REPEAT",
        "MPR____N3__Scaled",
        "MT1__GradWarp__N3m",
        "IR-FSPGR",
        "Sag_IR-SPGR",
        "3D_T1",
        "t1_mprage_sag",
    ],
)
def test_t1_series(tmp_path: Path, series: str) -> None:
    image(tmp_path, "002_S_0295", series, FIRST, 1)
    assert only(tmp_path).participant_id == "002_S_0295"


def test_other_series_are_passed_over_and_listed(tmp_path: Path) -> None:
    for number, series in enumerate(
        ["MP-RAGE", "Field_Mapping", "Axial_FLAIR", "3_Plane_Localizer"]
    ):
        image(tmp_path, "002_S_0295", series, FIRST, number)
    collection(tmp_path, ("0", "002_S_0295", "CN", "F", "85"))
    cohort = read_cohort(tmp_path)
    assert len(cohort.scans) == 1
    said = [(p.path, p.problem) for p in cohort.problems]
    assert said == [
        (series, "not a T1 series, skipped (1 images)")
        for series in ("3_Plane_Localizer", "Axial_FLAIR", "Field_Mapping")
    ]


def test_without_the_csv_images_are_read_and_this_is_said(tmp_path: Path) -> None:
    image(tmp_path, "002_S_0295", "MP-RAGE", FIRST, 1)
    (problem,) = read_cohort(tmp_path).problems
    assert problem.problem.startswith("no collection CSV (Image Data ID, Subject")


def test_an_image_that_is_not_in_the_csv_is_listed(tmp_path: Path) -> None:
    image(tmp_path, "002_S_0295", "MP-RAGE", FIRST, 1)
    collection(tmp_path, ("I2", "002_S_0295", "CN", "F", "85"))
    not_listed, without_file = read_cohort(tmp_path).problems
    assert not_listed.problem == "its image id is not in the collection CSV"
    assert without_file.path == "I2"
    assert without_file.problem == "is in the collection CSV but has no file"


def test_the_subject_of_the_csv_goes_before_the_folder(tmp_path: Path) -> None:
    image(tmp_path, "002_S_0295", "MP-RAGE", FIRST, 1)
    collection(tmp_path, ("I1", "002_S_0296", "CN", "F", "85"))
    assert only(tmp_path).participant_id == "002_S_0296"


def test_a_column_may_be_named(tmp_path: Path) -> None:
    image(tmp_path, "002_S_0295", "MP-RAGE", FIRST, 1)
    collection(tmp_path, ("I1", "002_S_0295", "CN", "F", "85"))
    assert read_cohort(tmp_path, columns={"diagnosis": "visit"}).scans[0].diagnosis == "bl"
    with pytest.raises(
        UsageError, match="--column age=years: no such column, the columns are Image"
    ):
        read_cohort(tmp_path, columns={"age": "years"})


def test_a_download_without_t1_is_refused(tmp_path: Path) -> None:
    image(tmp_path, "002_S_0295", "Axial_FLAIR", FIRST, 1)
    with pytest.raises(VQBrainError, match="has no T1 series, only Axial_FLAIR"):
        read_cohort(tmp_path)


def test_a_folder_of_dicom_is_one_scan(tmp_path: Path) -> None:
    folder = tmp_path / "ADNI" / "002_S_0295" / "Accelerated_Sagittal_MPRAGE" / LATER / "I1221062"
    folder.mkdir(parents=True)
    for number in (2, 1):
        name = f"ADNI_002_S_0295_MR_br_raw_20190828115108376_{number}_S868733_I1221062.dcm"
        (folder / name).write_bytes(b"")
    collection(tmp_path, ("I1221062", "002_S_0295", "CN", "F", "85"))
    scan = only(tmp_path)
    assert (scan.form, scan.path, scan.age) == ("dicom", folder, 85)
    assert scan.files == tuple(sorted(folder.iterdir()))
    assert read_cohort(tmp_path).problems == ()


def test_nothing_to_read_is_refused(tmp_path: Path) -> None:
    image(tmp_path, "002_S_0295", "MP-RAGE", FIRST, 1).unlink()
    with pytest.raises(VQBrainError, match="has no NIfTI or DICOM in <participant>/<series>/"):
        read_cohort(tmp_path)


@pytest.mark.parametrize("study", ["PPMI", "AIBL", "OASIS3"])
@pytest.mark.parametrize("folder", ["", "study", "above"])
def test_other_studies_are_joined_by_image_id(
    tmp_path: Path, study: str, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "download"
    image(root, "3001", "SAG_3D_MPRAGE", FIRST, 216485, study=study)
    image(root, "3001", "SAG_3D_MPRAGE", LATER, 300000, study=study)
    image(root, "4", "Axial_FLAIR", FIRST, 5, study=study)
    collection(root, ("I216485", "3001", "PD", "M", "60"), ("300000", "3001", "PD", "M", "61"))
    source = {"": root, "study": root / study, "above": tmp_path}[folder]
    cohort = read_cohort(source)
    assert (cohort.layout, cohort.notes) == ("loni", ())
    found = [(s.name, s.diagnosis, s.sex, s.age) for s in cohort.scans]
    assert found == [("3001_2006-04-18", "PD", "M", 60.0), ("3001_2007-05-02", "PD", "M", 61.0)]
    assert [p.path for p in cohort.problems] == ["Axial_FLAIR"]
    monkeypatch.chdir(source)
    assert [scan.age for scan in read_cohort(".").scans] == [60.0, 61.0]


def test_rows_of_several_csvs_are_merged_or_said_to_differ(tmp_path: Path) -> None:
    image(tmp_path, "002_S_0295", "MP-RAGE", FIRST, 1)
    image(tmp_path, "002_S_0296", "MP-RAGE", FIRST, 2)
    collection(
        tmp_path, ("I1", "002_S_0295", "CN", "F", "85"), ("I2", "002_S_0296", "AD", "", "70")
    )
    collection(tmp_path, ("1", "002_S_0295", "", "F", ""), ("2", "002_S_0296", "MCI", "M", ""),
               name="T1_later.csv")  # fmt: skip
    cohort = read_cohort(tmp_path)
    found = [(s.diagnosis, s.sex, s.age) for s in cohort.scans]
    assert found == [("CN", "F", 85.0), ("", "M", 70.0)]
    assert [(p.path, p.problem) for p in cohort.problems] == [
        ("I2", "its rows differ in diagnosis")
    ]
    named = read_cohort(tmp_path, table=tmp_path / "T1_later.csv")
    assert [scan.diagnosis for scan in named.scans] == ["", "MCI"]


def test_an_image_of_two_subjects_is_said(tmp_path: Path) -> None:
    image(tmp_path, "002_S_0295", "MP-RAGE", FIRST, 1)
    collection(
        tmp_path, ("I1", "002_S_0295", "CN", "F", "85"), ("I1", "009_S_0001", "CN", "F", "85")
    )
    assert only(tmp_path).participant_id == "002_S_0295"
    assert ("I1", "its rows differ in subject") in [
        (problem.path, problem.problem) for problem in read_cohort(tmp_path).problems
    ]


def test_a_participant_of_two_studies_is_said(tmp_path: Path) -> None:
    image(tmp_path, "1", "MP-RAGE", FIRST, 1, study="AIBL")
    image(tmp_path, "1", "MP-RAGE", LATER, 2, study="PPMI")
    collection(tmp_path, ("I1", "1", "CN", "F", "85"), ("I2", "1", "PD", "F", "60"))
    assert [(p.path, p.problem) for p in read_cohort(tmp_path).problems] == [
        ("1", "is in several studies (AIBL, PPMI), treated as one participant")
    ]


def test_images_outside_of_the_tree_are_listed(tmp_path: Path) -> None:
    used = image(tmp_path, "002_S_0295", PROCESSED, FIRST, 1)
    image(tmp_path, "002_S_0295", "FLAIR", FIRST, 2)
    (tmp_path / "ADNI" / "stray.nii").touch()
    (used.parents[1] / "beside_I4.nii").touch()
    collection(tmp_path, ("I1", "002_S_0295", "AD", "M", "70"))
    problems = read_cohort(tmp_path).problems
    outside = "is not in <participant>/<series>/<date>/<image>, skipped"
    place = used.parents[1].relative_to(tmp_path).as_posix()
    assert {p.path for p in problems if p.problem == outside} == {
        f"{place}/beside_I4.nii",
        "ADNI/stray.nii",
    }
    assert [p.path for p in problems if p.problem != outside] == ["FLAIR"]


def test_an_image_in_the_folder_of_another_subject_is_listed(tmp_path: Path) -> None:
    image(tmp_path, "002_S_0295", PROCESSED, FIRST, 1)
    collection(tmp_path, ("I1", "003_S_0001", "AD", "M", "70"))
    cohort = read_cohort(tmp_path)
    assert [scan.participant_id for scan in cohort.scans] == ["003_S_0001"]
    assert [problem.problem for problem in cohort.problems] == [
        "is in the folder of 002_S_0295, but of 003_S_0001 by the collection CSV"
    ]
