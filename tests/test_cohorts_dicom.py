"""Folders of DICOM, written with pydicom."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from monai_vqbrain.cohorts import read_cohort
from monai_vqbrain.errors import UsageError, VQBrainError

pydicom = pytest.importorskip("pydicom")


MR = "1.2.840.10008.5.1.4.1.1.4"


def slices(
    folder: Path,
    number: int = 1,
    ending: str = ".dcm",
    places: Sequence[float | None] = (None, None),
    stored: str = MR,
    **head: Any,
) -> list[Path]:
    """Files of one series without pixels, two unless there are `places` (mm) of the slices."""
    folder.mkdir(parents=True, exist_ok=True)
    known = {"PatientID": "anna_1", "StudyDate": "20060418", "PatientSex": "F"}
    known |= {"PatientAge": "070Y", "SeriesDescription": "t1_mprage_sag"}
    paths = []
    for index, place in enumerate(places):
        dataset = pydicom.Dataset()
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = stored
        dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.{number}.{index}"
        dataset.SeriesInstanceUID, dataset.SeriesNumber = f"1.2.{number}", number
        dataset.SOPInstanceUID = f"1.2.{number}.{place or index}"
        if place is not None:
            dataset.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
            dataset.ImagePositionPatient = [-place, 20, 30]
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
    used = "another series of the same day was used ({}): .: t1_mprage_sag (4)"
    assert said == [
        (".: t1_mprage_sag (2)", used.format("highest series number")),
        (".: t1_mprage REPEAT (3)", used.format("no repeat")),
        (".: localizer (1)", "not a T1 series, skipped"),
    ]


def test_without_an_id_the_folder_names_the_person(tmp_path: Path) -> None:
    slices(tmp_path / "p7", PatientID="", StudyDate="", PatientAge="")
    cohort = read_cohort(tmp_path)
    (scan,) = cohort.scans
    assert (scan.name, scan.age) == ("p7", None)
    (note,) = cohort.notes
    assert note.startswith("1 of 1 series are assumed to be one participant each")


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


PRESENTATION, REPORT = "1.2.840.10008.5.1.4.1.1.11.1", "1.2.840.10008.5.1.4.1.1.88.11"
DIRECTORY, CAPTURE = "1.2.840.10008.1.3.10", "1.2.840.10008.5.1.4.1.1.7"


@pytest.mark.parametrize("stored", [PRESENTATION, REPORT, DIRECTORY, CAPTURE])
def test_only_mr_images_count(tmp_path: Path, stored: str) -> None:
    """A report of the same description and a higher number replaced the images once."""
    files = slices(tmp_path, 1)
    slices(tmp_path, 9, stored=stored)
    cohort = read_cohort(tmp_path)
    assert [scan.files for scan in cohort.scans] == [tuple(files)]
    assert [p.problem for p in cohort.problems] == ["not an MR image, skipped"]


def test_another_modality_is_no_mr_image(tmp_path: Path) -> None:
    slices(tmp_path, 1, Modality="MR")
    slices(tmp_path, 2, Modality="CT", stored=MR)
    assert [scan.source for scan in read_cohort(tmp_path).scans] == [".: t1_mprage_sag (1)"]


def test_an_image_of_a_screen_in_the_series_is_left_out_and_the_rest_used(tmp_path: Path) -> None:
    (screen, _) = slices(tmp_path / "a_screen", 1, stored=CAPTURE, places=(90, 91))
    files = slices(tmp_path / "images", 1, places=(1, 2, 3))
    cohort = read_cohort(tmp_path)
    assert [scan.files for scan in cohort.scans] == [tuple(files)]
    assert screen not in cohort.scans[0].files


def test_one_series_in_two_folders_is_one(tmp_path: Path) -> None:
    """Both halves made one scan each once, and the larger went in as a whole brain."""
    first = slices(tmp_path / "disk1", 1, places=range(1, 37))
    second = slices(tmp_path / "disk2", 1, places=range(37, 49))
    cohort = read_cohort(tmp_path)
    (scan,) = cohort.scans
    assert sorted(scan.files) == sorted([*first, *second])
    assert cohort.problems == ()


def test_copies_of_a_series_count_once_and_are_listed(tmp_path: Path) -> None:
    files = slices(tmp_path / "a", 1, places=range(1, 6))
    slices(tmp_path / "copy", 1, places=range(1, 6))
    cohort = read_cohort(tmp_path)
    assert [scan.files for scan in cohort.scans] == [tuple(files)]
    (problem,) = cohort.problems
    assert problem.problem == "5 files are copies of its images and were left out"


def test_one_series_id_of_two_participants_is_two_series(tmp_path: Path) -> None:
    slices(tmp_path, 1, places=(1, 2))
    slices(tmp_path, 1, ending=".IMA", places=(1, 2), PatientID="ben")
    cohort = read_cohort(tmp_path)
    assert [scan.participant_id for scan in cohort.scans] == ["anna_1", "ben"]
    assert len({scan.source for scan in cohort.scans}) == 2


GAPS = {
    "in the middle": ([1, 2, 3, 6, 7, 8, 9], {}, 2),
    "two gaps": ([1, 2, 4, 5, 6, 8, 9, 10], {}, 2),
    "every second": ([1, 3, 5, 7, 9], {"SpacingBetweenSlices": 1, "SliceThickness": 1}, 4),
}


@pytest.mark.parametrize("case", GAPS)
def test_a_series_with_gaps_is_refused(tmp_path: Path, case: str) -> None:
    places, head, missing = GAPS[case]
    slices(tmp_path, 2, places=places, **head)
    words = f"no complete T1 series: .: t1_mprage_sag \\(2\\): {missing} of {len(places) + missing}"
    with pytest.raises(VQBrainError, match=words):
        read_cohort(tmp_path)
    whole = slices(tmp_path, 1, places=range(1, 11))
    cohort = read_cohort(tmp_path)
    assert [scan.files for scan in cohort.scans] == [tuple(whole)]
    assert "slices are missing between the others" in cohort.problems[0].problem


@pytest.mark.parametrize(
    ("places", "head"),
    [
        ([2.2, 1.1, 3.3, 4.4], {}),
        ([0, 5.5, 11, 16.5], {"SpacingBetweenSlices": 0.5, "SliceThickness": 5}),  # 0.5 is the gap
        ([1, 1.0001, 2, 2.0001, 3, 3.0001], {}),
    ],
)
def test_even_slices_have_no_gaps(
    tmp_path: Path, places: list[float], head: dict[str, float]
) -> None:
    slices(tmp_path, 1, places=places, **head)
    assert len(read_cohort(tmp_path).scans) == 1


AGES: dict[str, tuple[dict[str, str], float | None]] = {
    "years": ({"PatientAge": "070Y"}, 70),
    "months": ({"PatientAge": "018M"}, 1.5),
    "weeks": ({"PatientAge": "026W"}, 0.5),
    "days": ({"PatientAge": "073D"}, 0.2),
    "a number": ({"PatientAge": "42"}, 42),
    "zeros in front": ({"PatientAge": "042"}, 42),
    "two digits": ({"PatientAge": "42Y"}, 42),
    "birth date": ({"PatientAge": "", "PatientBirthDate": "19360417"}, 70),
    "birth date with dots": ({"PatientAge": "000Y", "PatientBirthDate": "1936.04.17"}, 70),
    "no birth date": ({"PatientAge": "", "PatientBirthDate": "19000101"}, None),
    "born later": ({"PatientAge": "", "PatientBirthDate": "20360417"}, None),
    "impossible": ({"PatientAge": "999Y"}, None),
    "words": ({"PatientAge": "old"}, None),
}


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
@pytest.mark.filterwarnings("ignore:The value length")
@pytest.mark.parametrize("case", AGES)
def test_ages_in_all_forms(tmp_path: Path, case: str) -> None:
    head, age = AGES[case]
    slices(tmp_path, **head)
    (scan,) = read_cohort(tmp_path).scans
    assert scan.age == (None if age is None else pytest.approx(age, abs=0.01))


CHOICES: list[tuple[dict[str, Any], dict[str, Any], str]] = [  # the first is used
    ({"SeriesDescription": "t1_mprage_sag_iso"}, {"SeriesDescription": "MPR AX FLAIR"}, "not a T1"),
    ({"SeriesDescription": "t1_mprage_sag_iso"}, {"SeriesDescription": "MPR COR 3D T2"}, "not a"),
    ({}, {"ImageType": ["ORIGINAL", "PRIMARY", "M", "LOCALIZER"]}, "a localizer or map"),
    ({"SeriesDescription": "mp2rage_UNI"}, {"SeriesDescription": "mp2rage_INV2"}, "not a T1"),
    ({"SeriesDescription": "mp2rage_UNI"},
     {"SeriesDescription": "mp2rage", "ImageType": ["DERIVED", "PRIMARY", "T1 MAP"]}, "or map"),
    ({}, {"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]}, "not a magnitude image"),
    ({"SeriesDescription": "", "EchoTime": "3.1"}, {"SeriesDescription": "", "EchoTime": "98"},
     "an echo time of 98 ms"),
    ({}, {"ImageType": ["DERIVED", "SECONDARY", "MPR"]}, "(original before reformatted)"),
    ({"SeriesDescription": "3D BRAVO", "MRAcquisitionType": "3D"},
     {"SeriesDescription": "AX T1 +C", "MRAcquisitionType": "2D"}, "(3D before 2D)"),
    ({}, {"ContrastBolusAgent": "Gadovist"}, "(without contrast agent before with)"),
    ({}, {"SeriesDescription": "", "MRAcquisitionType": "3D"}, "(named T1 before unnamed)"),
]  # fmt: skip


@pytest.mark.parametrize(("used", "other", "words"), CHOICES)
def test_the_t1_is_chosen_by_its_headers(
    tmp_path: Path, used: dict[str, Any], other: dict[str, Any], words: str
) -> None:
    files = slices(tmp_path, 1, **used)
    slices(tmp_path, 2, **other)  # the newer one
    cohort = read_cohort(tmp_path)
    assert [scan.files for scan in cohort.scans] == [tuple(files)]
    assert words in cohort.problems[0].problem


def test_files_are_known_by_their_first_bytes_where_the_ending_is_a_number(tmp_path: Path) -> None:
    slices(tmp_path, ending=".2.840")
    assert len(read_cohort(tmp_path).scans[0].files) == 2


def spoil(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))


@pytest.mark.parametrize(
    "position", [b"-3.6\\20.0\\\x000.0", b"-3.6\\2\xa90\\30.0 ", b"-3.6\\20.0\\nan  "]
)
def test_a_slice_whose_position_is_damaged_is_missing(tmp_path: Path, position: bytes) -> None:
    files = slices(tmp_path / "a", places=[0.0, 1.2, 2.4, 3.6, 4.8])
    spoil(files[3], b"-3.6\\20.0\\30.0", position)
    with pytest.raises(VQBrainError, match="1 of 6 slices are missing between the others"):
        read_cohort(tmp_path)


@pytest.mark.parametrize(("tag", "value"), [("PatientAge", b"AS"), ("PatientSex", b"CS")])
def test_a_value_that_cannot_be_decoded_is_unknown(tmp_path: Path, tag: str, value: bytes) -> None:
    for file in slices(tmp_path / "a"):
        number = pydicom.datadict.tag_for_keyword(tag)
        start = number.to_bytes(4, "little")[2:] + number.to_bytes(4, "little")[:2]
        spoil(file, start + value, start + b"U\x15")
    (scan,) = read_cohort(tmp_path).scans
    assert (scan.participant_id, scan.age if tag == "PatientAge" else scan.sex or None) == (
        "anna_1",
        None,
    )


def test_without_a_study_date_the_date_of_the_series_or_image_is_the_visit(tmp_path: Path) -> None:
    slices(tmp_path / "a", StudyDate="", SeriesDate="20060418", AcquisitionDate="20060419")
    slices(tmp_path / "b", number=2, StudyDate="", AcquisitionDate="20070502",
           PatientAge="", PatientBirthDate="19370502")  # fmt: skip
    first, later = read_cohort(tmp_path).scans
    assert (first.session_id, later.session_id) == ("2006-04-18", "2007-05-02")
    assert later.age == pytest.approx(70, abs=0.01)
