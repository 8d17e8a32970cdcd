"""Columns under their usual names, and what their values mean."""

from __future__ import annotations

import pandas as pd
import pytest

from monai_vqbrain.cohorts.columns import (
    Facts,
    check_asked,
    choose_columns,
    describe_columns,
    facts,
    read_age,
    read_diagnosis,
)
from monai_vqbrain.errors import UsageError


def table(*columns: str) -> pd.DataFrame:
    return pd.DataFrame(columns=list(columns))


@pytest.mark.parametrize(
    ("columns", "chosen"),
    [
        (["diagnosis", "sex", "age"], {"diagnosis": "diagnosis", "sex": "sex", "age": "age"}),
        (["Group", "GENDER", "Age"], {"diagnosis": "Group", "sex": "GENDER", "age": "Age"}),
        (["DX", "age_bl"], {"diagnosis": "DX", "age": "age_bl"}),
        (["group", "diagnosis_sc"], {"diagnosis": "diagnosis_sc"}),
        (["handedness"], {}),
    ],
)
def test_usual_names_are_known_in_any_case(columns: list[str], chosen: dict[str, str]) -> None:
    assert choose_columns(table(*columns)) == chosen


def test_a_column_that_was_asked_for_goes_before_the_usual_names() -> None:
    chosen = choose_columns(table("diagnosis", "Cluster", "sex"), {"diagnosis": "cluster"})
    assert chosen == {"diagnosis": "Cluster", "sex": "sex"}


def test_an_unknown_column_is_refused_with_what_there_is() -> None:
    with pytest.raises(UsageError, match="diagnosis=dg: no such column, the columns are id, sex"):
        check_asked({"diagnosis": "dg"}, [table("id", "sex")])
    with pytest.raises(UsageError, match="diagnosis=dg: no such column, the source has no table"):
        check_asked({"diagnosis": "dg"}, [])


def test_an_unknown_role_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="iq=score: there are only diagnosis, sex, age"):
        check_asked({"iq": "score"}, [table("score")])


@pytest.mark.parametrize(
    ("text", "diagnosis"),
    [
        ("Dementia", "AD"),
        ("ad", "AD"),
        ("cn", "CN"),
        ("Mci", "MCI"),
        ("LMCI", "LMCI"),
        ("depr", "depr"),
        ("Patient", "Patient"),
        ("n/a", ""),
        ("", ""),
        ("-4", ""),
    ],
)
def test_diagnoses(text: str, diagnosis: str) -> None:
    assert read_diagnosis(text) == diagnosis


@pytest.mark.parametrize(
    ("text", "age"),
    [
        ("71", 71.0),
        ("71.4", 71.4),
        ("71,4", 71.4),
        ("71,4,1", None),
        ("89+", 89.0),
        ("n/a", None),
        ("-4", None),
        ("1931", None),
    ],
)
def test_ages(text: str, age: float | None) -> None:
    assert read_age(text) == age


@pytest.mark.parametrize(
    ("text", "sex"), [("m", "M"), ("Male", "M"), ("FEMALE", "F"), ("f", "F"), ("1", ""), ("X", "")]
)
def test_sexes(text: str, sex: str) -> None:
    assert facts({"s": text}, {"sex": "s"}).sex == sex


def test_facts_of_a_visit_go_before_those_of_the_person() -> None:
    visit, person = Facts(diagnosis="AD", age=75), Facts(diagnosis="MCI", sex="F", age=70)
    assert visit.or_else(person) == Facts(diagnosis="AD", sex="F", age=75)


def test_describe_says_which_column_is_asked_first() -> None:
    chosen = [{"diagnosis": "diagnosis", "age": "age"}, {"diagnosis": "diagnosis_sc", "age": "age"}]
    assert describe_columns(chosen) == {"diagnosis": "diagnosis, else diagnosis_sc", "age": "age"}
