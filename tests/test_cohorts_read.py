"""The door to every layout: which one is taken, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_vqbrain.cohorts import Cohort, Participant, Scan, read_cohort
from monai_vqbrain.cohorts.cohort import natural
from monai_vqbrain.cohorts.names import parse_name
from monai_vqbrain.errors import UsageError, VQBrainError


def touch(root: Path, *names: str) -> Path:
    """Empty files: reading a cohort opens no image."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


LONI = "ADNI/002_S_0295/MP-RAGE/2006-04-18_08_20_30.0/S13408/ADNI_002_S_0295_br_raw_1_I13722.nii"


@pytest.mark.parametrize(
    ("file", "layout"),
    [
        ("sub-1/anat/sub-1_T1w.nii.gz", "bids"),
        ("sub-1/ses-M000/anat/sub-1_ses-M000_T1w.nii", "bids"),
        (LONI, "loni"),
        (f"download/{LONI}", "loni"),
        (LONI.removeprefix("ADNI/"), "loni"),
        ("a.nii", "folder"),
        ("deep/down/a.nii.gz", "folder"),
    ],
)
def test_layouts_are_recognised(tmp_path: Path, file: str, layout: str) -> None:
    cohort = read_cohort(touch(tmp_path, file))
    assert cohort.layout == layout
    assert [scan.source for scan in cohort.scans] == [file]
    assert read_cohort(tmp_path, layout) == cohort


def test_a_layout_may_be_forced(tmp_path: Path) -> None:
    touch(tmp_path, "sub-1/anat/sub-1_T1w.nii.gz")
    assert read_cohort(tmp_path, "folder").layout == "folder"


@pytest.mark.parametrize(
    ("files", "layout", "words"),
    [
        ([], "auto", "is not a source of T1 volumes: it is empty"),
        (["a.txt", "b.png"], "auto", "it has a.txt, b.png, no readable NIfTI or DICOM"),
        (
            [f"{i}.txt" for i in range(9)],
            "auto",
            "it has 0.txt, .*, 4.txt and 4 more, no readable NIfTI",
        ),
        (["._a.nii"], "auto", "no readable NIfTI"),
        (["a.nii"], "bids", "is not the layout 'bids': it has a.nii"),
        (
            ["a.nii"],
            "bisd",
            "unknown layout 'bisd': choose auto, caps, bids, loni, ad_nc, oasis, folder, dicom",
        ),
    ],
)
def test_what_cannot_be_read_is_said(
    tmp_path: Path, files: list[str], layout: str, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        read_cohort(touch(tmp_path, *files), layout)


def test_a_wrong_path_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere does not exist: name the folder"):
        read_cohort(tmp_path / "nowhere")
    touch(tmp_path, "a.nii")
    with pytest.raises(UsageError, match=r"a\.nii is a file: name the folder"):
        read_cohort(tmp_path / "a.nii")


def test_people_are_as_first_seen() -> None:
    scans = [
        Scan(participant_id="b", session_id="ses-10", path=Path("x"), diagnosis="AD", age=80),
        Scan(participant_id="b", session_id="ses-2", path=Path("y"), diagnosis="MCI", sex="F"),
        Scan(participant_id="a", path=Path("z")),
    ]
    people = Cohort(Path(), "folder", tuple(scans)).participants()
    assert people == (Participant("a"), Participant("b", "MCI", "F", 80))


def test_natural_order() -> None:
    names = ["ses-M006", "ses-M000", "ses-M120", "ses-bl", "2", "10"]
    assert sorted(names, key=natural) == ["2", "10", "ses-M000", "ses-M006", "ses-M120", "ses-bl"]


@pytest.mark.parametrize(
    "name", ["a.nii", "T1w.nii", "ses-1_T1w.nii", "sub-1_x_T1w.nii", "sub-.nii"]
)
def test_other_names_are_not_bids(name: str) -> None:
    assert parse_name(Path(name)) is None


def test_dicom_by_its_name_alone_is_none(tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    (tmp_path / "series").mkdir()
    (tmp_path / "series" / "0001.dcm").touch()
    words = "no T1 series among its DICOM files, only nothing readable"
    with pytest.raises(VQBrainError, match=words):
        read_cohort(tmp_path)
