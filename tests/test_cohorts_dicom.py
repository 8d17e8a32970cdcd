"""Folders of DICOM, written with pydicom."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from monai_vqbrain.cohorts import read_cohort
from monai_vqbrain.errors import UsageError, VQBrainError

pydicom = pytest.importorskip("pydicom")


def slices(folder: Path, number: int = 1, ending: str = ".dcm", **head: Any) -> list[Path]:
    """Two files of one series without pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    known = {"PatientID": "anna_1", "StudyDate": "20060418", "PatientSex": "F"}
    known |= {"PatientAge": "070Y", "SeriesDescription": "t1_mprage_sag"}
    paths = []
    for index in range(2):
        dataset = pydicom.Dataset()
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = pydicom.uid.MRImageStorage
        dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.{number}.{index}"
        dataset.SeriesInstanceUID, dataset.SeriesNumber = f"1.2.{number}", number
        for name, value in (known | head).items():
            setattr(dataset, name, value)
        paths.append(folder / f"{number}_{index}{ending}")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


@pytest.mark.parametrize("ending", [".dcm", ".IMA", ""])
def test_headers_say_who_and_when(tmp_path: Path, ending: str) -> None:
    files = slices(tmp_path / "a", ending=ending)
    cohort = read_cohort(tmp_path)
    (scan,) = cohort.scans
    assert (cohort.layout, cohort.problems) == ("dicom", ())
    assert (scan.participant_id, scan.session_id) == ("anna_1", "2006-04-18")
    assert (scan.sex, scan.age, scan.diagnosis) == ("F", 70, "")
    assert (scan.form, scan.files, scan.source) == (
        "dicom",
        tuple(files),
        "a: t1_mprage_sag (1)",
    )


def test_participants_whose_ids_differ_in_a_blank_are_two(tmp_path: Path) -> None:
    slices(tmp_path / "a", PatientID="anna 1")
    slices(tmp_path / "b", number=2, PatientID="anna_1")
    (tmp_path / "people.csv").write_text("id,dx\nanna 1,AD\nanna_1,CN\n")
    scans = {scan.path.name: scan for scan in read_cohort(tmp_path).scans}
    assert (scans["a"].participant_id, scans["b"].participant_id) == ("anna 1", "anna_1")
    assert (scans["a"].diagnosis, scans["b"].diagnosis) == ("AD", "CN")


def test_a_table_goes_before_the_headers(tmp_path: Path) -> None:
    slices(tmp_path / "a")
    slices(tmp_path / "b", number=2, PatientID="ben")
    (tmp_path / "people.csv").write_text("id,dx,age\nanna_1,AD,71\n")
    cohort = read_cohort(tmp_path)
    anna, ben = cohort.scans
    assert (anna.diagnosis, anna.age, anna.sex) == ("AD", 71, "F")
    assert (ben.diagnosis, ben.age) == ("", 70)
    assert [p.problem for p in cohort.problems] == ["is not in people.csv"]


def test_rows_for_each_visit_are_found_by_date(tmp_path: Path) -> None:
    slices(tmp_path / "a")
    slices(tmp_path / "b", number=2, StudyDate="20070502")
    (tmp_path / "t.tsv").write_text(
        "participant_id\tsession\tdx\nanna_1\t20060418\tMCI\nanna_1\t2007-05-02\tAD\n"
    )
    cohort = read_cohort(tmp_path)
    assert [scan.diagnosis for scan in cohort.scans] == ["MCI", "AD"]
    assert (cohort.problems, cohort.notes) == ((), ())


def test_identifiers_of_headers_are_no_paths(tmp_path: Path) -> None:
    slices(tmp_path / "a", PatientID="../../X")
    slices(tmp_path / "b", number=2, PatientID="X")
    found = [scan.participant_id for scan in read_cohort(tmp_path).scans]
    assert found[0] == "X"
    assert found[1].startswith("X~")


def test_series_of_one_folder_are_parted_and_t1_is_chosen(tmp_path: Path) -> None:
    slices(tmp_path, 1, SeriesDescription="localizer")
    slices(tmp_path, 2)
    slices(tmp_path, 3, SeriesDescription="t1_mprage REPEAT")
    newest = slices(tmp_path, 4)
    cohort = read_cohort(tmp_path)
    assert [scan.files for scan in cohort.scans] == [tuple(newest)]
    said = [(problem.path, problem.problem) for problem in cohort.problems]
    used = "another series of the same day was used: .: t1_mprage_sag (4)"
    assert said == [
        (".: t1_mprage_sag (2)", used),
        (".: t1_mprage REPEAT (3)", used),
        (".: localizer (1)", "not a T1 series, passed over"),
    ]


def test_without_an_id_the_folder_names_the_person(tmp_path: Path) -> None:
    slices(tmp_path / "p7", PatientID="", StudyDate="", PatientAge="")
    cohort = read_cohort(tmp_path)
    (scan,) = cohort.scans
    assert (scan.name, scan.age) == ("p7", None)
    (note,) = cohort.notes
    assert note.startswith("1 of 1 series count as one participant each")


def test_no_t1_is_refused_by_what_there_is(tmp_path: Path) -> None:
    slices(tmp_path, SeriesDescription="Axial FLAIR")
    with pytest.raises(VQBrainError, match="no T1 series among its DICOM files, only Axial FLAIR"):
        read_cohort(tmp_path)


def test_without_pydicom_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slices(tmp_path)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(UsageError, match=r"pip install 'monai-vqbrain\[dicom\]'"):
        read_cohort(tmp_path)
