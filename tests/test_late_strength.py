"""How strongly a prior follows each condition of participants: chosen by validation slices."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine
from torch.utils.data import DataLoader

from monai_vqbrain.engines import PriorEvaluator
from monai_vqbrain.handlers import LateStrength, ResumableCheckpoint
from monai_vqbrain.handlers.late_strength import best_strength
from monai_vqbrain.inferers import code_bits
from monai_vqbrain.networks import PixelCNN

KNOWN = {"sex": ["F", "M"], "age": [55.0, 90.0], "position_rel": [0.0, 1.0]}
ROWS = torch.tensor([[0, 60, 0.1], [1, 80, 0.5], [math.nan, 70, 0.9], [0, math.nan, 0.5]])


def prior(size: float, seed: int = 0) -> PixelCNN:
    """A prior whose late conditions have random effects of a size."""
    torch.manual_seed(seed)
    network = PixelCNN(6, (3, 5), 8, 2, conditions=KNOWN, late_conditions=["sex", "age"])
    torch.nn.init.normal_(network.head.weight)
    for block in network.blocks:
        torch.nn.init.normal_(block.late_condition.weight, std=size)
    return network


def drawn(network: PixelCNN, sex: float, age: float) -> torch.Tensor:
    """Codes that follow the prior's conditions at given strengths, 50 grids per row."""
    set_strength(network, sex, age)
    torch.manual_seed(1)
    rows = ROWS.repeat(50, 1)
    codes = torch.zeros(len(rows), 3, 5, dtype=torch.long)
    for i in range(3):
        for j in range(5):
            with torch.no_grad():
                chances = network(codes, rows)[:, :, i, j].softmax(1)
            codes[:, i, j] = torch.multinomial(chances, 1)[:, 0]
    return codes


def set_strength(network: PixelCNN, sex: float, age: float) -> None:
    assert network.conditions is not None
    network.conditions.strength.copy_(torch.tensor([sex, age, 1]))


def trained(network: PixelCNN, codes: torch.Tensor, folder: Path) -> LateStrength:
    """The handler of a training whose best epoch has been saved."""
    rows = ROWS.repeat(50, 1)
    items = [{"codes": c, "condition": r} for c, r in zip(codes, rows, strict=True)]
    loader = DataLoader(items, batch_size=64)  # type: ignore[arg-type]
    validator = PriorEvaluator(device=torch.device("cpu"), val_data_loader=loader, network=network)
    checkpoint = ResumableCheckpoint(folder, {"network": network}, validator)
    validator.state.best_metric_epoch = 1
    checkpoint.save_best()
    return LateStrength(validator, checkpoint)


@pytest.mark.parametrize("true", [(0, 0), (0, 1), (1, 0), (0.5, 0.5), (1, 1)])
def test_effects_are_as_strong_as_in_validation_slices(
    tmp_path: Path, true: tuple[float, float], caplog: pytest.LogCaptureFixture
) -> None:
    network = prior(0.15)
    codes = drawn(network, *true)
    set_strength(network, 1, 1)
    with caplog.at_level("INFO"):
        trained(network, codes, tmp_path)(Engine(lambda *_: None))
    weights = torch.load(tmp_path / "model.pt", weights_only=True)
    sex, age, position = weights["conditions.strength"].tolist()
    assert (sex, age) == pytest.approx(true, abs=0.3)
    assert position == 1  # is not late
    assert f"holds for validation participants: sex {sex:.2f}, age {age:.2f}" in caplog.text
    bits = {}
    for tried in ((0, 0), (sex, age), (1, 1)):
        set_strength(network, *tried)
        bits[tried] = float(code_bits(network, codes, ROWS.repeat(50, 1)).mean())
    assert bits[sex, age] <= min(bits.values()) + 0.002


def test_effects_of_few_participants_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    network = prior(0.15)
    handler = trained(network, drawn(network, 1, 1), tmp_path)
    handler.leave_out = True
    with caplog.at_level("INFO"):
        handler(Engine(lambda *_: None))
    assert "sex, age act through the plan alone: the participants are few" in caplog.text
    weights = torch.load(tmp_path / "model.pt", weights_only=True)
    assert weights["conditions.strength"].tolist() == [0, 0, 1]


def test_a_training_without_any_epoch_has_no_strength(tmp_path: Path) -> None:
    network = prior(0.3)
    handler = trained(network, drawn(network, 0, 0), tmp_path)
    (tmp_path / "model.pt").unlink()
    handler.validator.state.best_metric_epoch = -1
    handler(Engine(lambda *_: None))
    assert not (tmp_path / "model.pt").exists()


@torch.no_grad()
def test_a_strength_scales_the_part_of_its_condition_alone() -> None:
    network = prior(0.3)
    encoder = network.conditions
    assert encoder is not None
    whole, no_age = encoder(ROWS), ROWS.clone()
    no_age[:, 1] = math.nan
    without = encoder(no_age)
    encoder.strength[1] = 0.5
    half = encoder(ROWS)
    torch.testing.assert_close(half, (whole + without) / 2)
    assert torch.equal(half[:, : encoder.width], whole[:, : encoder.width])
    assert not torch.equal(half, whole)


def test_weights_without_a_strength_have_the_whole_effect() -> None:
    network = prior(0.3)
    weights = network.state_dict()
    del weights["conditions.strength"]
    set_strength(network, 0.2, 0.2)
    network.load_state_dict(weights)
    assert network.conditions is not None
    assert network.conditions.strength.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("bits", "strength"),
    [((3, 2, 3), 0.5), ((2, 2.5, 4), 0.0), ((4, 2.5, 2), 1.0), ((3, 3, 2), 1.0), ((2, 3, 3), 0.0),
     ((2, 2, 2), 1.0), ((2.125, 2.0, 2.125), 0.5), ((2.02, 2.0, 2.1), 0.33)],
)  # fmt: skip
def test_the_least_bits_of_a_parabola(bits: Any, strength: float) -> None:
    assert best_strength(dict(zip((0.0, 0.5, 1.0), bits, strict=True))) == strength
