"""What a prior may be asked for: rows of numbers, each column with a missing of its own."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from monai_vqbrain.networks.conditions import ConditionEncoder

KNOWN = {"diagnosis": ["AD", "CN", "MCI"], "sex": ["F", "M"], "age": [55.0, 90.0]}


def encoder() -> ConditionEncoder:
    torch.manual_seed(0)
    return ConditionEncoder(KNOWN, width=8)


@pytest.mark.parametrize(
    ("asked", "row"),
    [
        ({}, [math.nan, math.nan, math.nan]),
        ({"diagnosis": "MCI", "sex": "F", "age": 60}, [2, 0, 60]),
        ({"age": "75.5"}, [math.nan, math.nan, 75.5]),
        ({"sex": None, "age": 90.0}, [math.nan, math.nan, 90]),
    ],
)
def test_a_row_holds_places_numbers_and_nan(asked: dict[str, Any], row: list[float]) -> None:
    expected = torch.tensor(row, dtype=torch.float32)
    torch.testing.assert_close(encoder().row(asked), expected, equal_nan=True)


@torch.no_grad()
def test_every_value_and_every_missing_one_differs() -> None:
    network = encoder()
    asked: list[dict[str, Any]] = [{}, *({"diagnosis": value} for value in KNOWN["diagnosis"])]
    asked += [{"sex": "F"}, {"sex": "M"}, {"age": 55}, {"age": 56}, {"age": 90}]
    vectors = network(torch.stack([network.row(one) for one in asked]))
    distances = torch.cdist(vectors, vectors) + torch.eye(len(asked))
    assert distances.min() > 1e-3


@torch.no_grad()
def test_near_numbers_are_near() -> None:
    network = encoder()
    rows = torch.stack([network.row({"age": age}) for age in (70, 71, 85)])
    near, far = torch.cdist(network(rows[:1]), network(rows[1:]))[0].tolist()
    assert near < far


def test_gradients_reach_every_parameter_and_are_numbers() -> None:
    network = encoder()
    rows = torch.stack([network.row({"age": 70, "sex": "M"}), network.row({})])
    network(rows).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"weight": 3}, "no condition weight: it knows diagnosis, sex, age"),
        ({"diagnosis": "ad"}, "diagnosis=ad: this prior knows AD, CN, MCI"),
        ({"age": 120}, "age=120: this prior was trained on numbers from 55 to 90"),
        ({"age": "old"}, "age=old: this prior was trained on numbers from 55 to 90"),
    ],
)
def test_says_what_there_is(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        encoder().row(asked)


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({"sex": []}, "the condition sex has no values"),
        (
            {"age": [3.0, 3.0]},
            r"the range of age must be two numbers, low and high, got \[3.0, 3.0",
        ),
        ({"age": [1.0, 2.0, 3.0]}, "the range of age must be two numbers"),
    ],
)
def test_refuses_what_is_no_condition(known: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ConditionEncoder(known, 8)
