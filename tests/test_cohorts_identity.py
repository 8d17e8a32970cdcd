"""Participants that may be one, and scans that may be of two."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_vqbrain.cohorts import Cohort, Scan, read_cohort
from monai_vqbrain.cohorts.identity import identity_problems, similarity_key


def cohort(*scans: tuple[str, str]) -> Cohort:
    """Of (participant, sex)."""
    path = Path("x.nii")
    return Cohort(
        Path(), "bids", tuple(Scan(participant_id=name, sex=sex, path=path) for name, sex in scans)
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("sub-1", "sub-01"), ("sub-AA", "sub-aa"), ("01", "sub-01"), ("anna 1", "anna_1"),
        ("002_S_0295", "002_s_0295"), ("M\u00fcller", "Mu\u0308ller"),
    ],
)  # fmt: skip
def test_names_that_may_be_spellings_of_one_are_listed(one: str, other: str) -> None:
    (problem,) = identity_problems(cohort((one, ""), (other, "")))
    assert problem.path == other
    assert problem.problem.endswith("only case, zeros or separators differ")
    assert problem.advice == ("give both the same name if so; until then they may be in two splits")


@pytest.mark.parametrize(
    ("one", "other"),
    [("sub-1", "sub-10"), ("sub-1", "sub-11"), ("sub-1-1", "sub-11"), ("~", "-"), ("sub", "1")],
)
def test_other_names_are_not(one: str, other: str) -> None:
    assert identity_problems(cohort((one, ""), (other, ""))) == []
    assert similarity_key(one)


def test_two_scans_of_one_participant_are_no_two_participants() -> None:
    assert identity_problems(cohort(("sub-1", "F"), ("sub-1", ""), ("sub-1", "F"))) == []


def test_a_participant_of_two_sexes_is_listed(tmp_path: Path) -> None:
    for session in ("ses-1", "ses-2"):
        path = tmp_path / f"sub-1/{session}/anat/sub-1_{session}_T1w.nii"
        path.parent.mkdir(parents=True)
        path.touch()
    table = "participant_id\tsession\tsex\nsub-1\t1\tM\nsub-1\t2\tF\n"
    (tmp_path / "participants.tsv").write_text(table)
    assert [(p.path, p.problem) for p in read_cohort(tmp_path).problems] == [
        ("sub-1", "is M in one scan and F in another")
    ]
