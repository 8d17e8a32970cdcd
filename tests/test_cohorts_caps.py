"""CAPS as Clinica's t1-linear leaves it: empty files of those names."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_vqbrain.cohorts import read_cohort

SPACE = "space-MNI152NLin2009cSym"


def image(root: Path, person: str, session: str, what: str = "desc-Crop_res-1x1x1") -> Path:
    folder = root / "subjects" / person / session / "t1_linear"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{person}_{session}_{SPACE}_{what}_T1w.nii.gz"
    path.touch()
    return path


@pytest.fixture
def caps(tmp_path: Path) -> Path:
    """Two participants, one of them twice, with the tables of the BIDS dataset beside them."""
    root = tmp_path / "caps"
    for person, session in (("sub-A", "ses-M000"), ("sub-A", "ses-M018"), ("sub-B", "ses-M000")):
        image(root, person, session)
    (root / "participants.tsv").write_text(
        "participant_id\tsex\tage_bl\tdiagnosis_sc\nsub-A\tF\t70\tMCI\nsub-B\tM\t60\tCN\n"
    )
    (root / "subjects" / "sub-A" / "sub-A_sessions.tsv").write_text(
        "session_id\tage\tdiagnosis\nses-M000\t70.2\tMCI\nses-M018\t71.7\tDementia\n"
    )
    return root


@pytest.mark.parametrize("place", ["caps", "", "caps/subjects"])
def test_it_is_read_from_its_root_from_above_and_from_within(caps: Path, place: str) -> None:
    cohort = read_cohort(caps.parent / place)
    assert (cohort.layout, cohort.problems) == ("caps", ())
    found = [(s.name, s.diagnosis, s.sex, s.age) for s in cohort.scans]
    assert found == [
        ("sub-A_ses-M000", "MCI", "F", 70.2),
        ("sub-A_ses-M018", "AD", "F", 71.7),
        ("sub-B_ses-M000", "CN", "M", 60),
    ]
    assert {scan.space for scan in cohort.scans} == {"MNI152NLin2009cSym"}


def test_the_cropped_image_of_a_session_is_used(caps: Path) -> None:
    whole = image(caps, "sub-B", "ses-M000", "res-1x1x1")
    cohort = read_cohort(caps)
    assert "desc-Crop" in cohort.scans[2].source
    (problem,) = cohort.problems
    assert problem.path == whole.relative_to(caps).as_posix()
    assert problem.problem.startswith("another scan of the same session was used: sub-B")


def test_without_tables_people_are_read_and_this_is_said(tmp_path: Path) -> None:
    image(tmp_path, "sub-A", "ses-M000")
    cohort = read_cohort(tmp_path)
    assert [scan.diagnosis for scan in cohort.scans] == [""]
    (problem,) = cohort.problems
    assert problem.problem == "does not exist, or has no participant_id"


def test_names_that_are_passed_over_are_said(caps: Path) -> None:
    wrong = image(caps, "sub-B", "ses-M000", "desc-Crop_res-1x1x1_x")
    problems = [(p.path, p.problem) for p in read_cohort(caps).problems]
    said = "its name or a label in it is not valid in BIDS, skipped"
    assert (wrong.relative_to(caps).as_posix(), said) in problems


def test_raw_images_of_visits_without_t1_linear_are_listed(caps: Path) -> None:
    """Of a BIDS dataset in the same folder, and of one beside it."""
    for name in ("sub-A_ses-M000", "sub-C_ses-M000"):
        participant, session = name.split("_")
        for root in (caps, caps.parent / "bids"):
            path = root / participant / session / "anat" / f"{name}_T1w.nii.gz"
            path.parent.mkdir(parents=True)
            path.touch()
    for source, below in ((caps, ""), (caps.parent, "bids/")):
        said = {p.path: p.problem for p in read_cohort(source).problems}
        path = f"{below}sub-C/ses-M000/anat/sub-C_ses-M000_T1w.nii.gz"
        assert said[path] == "its visit has no image of t1-linear, skipped"
        assert not any("sub-A" in path for path in said)
