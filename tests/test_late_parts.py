"""The order in which a prior learns: slices by themselves first, its late parts at last."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from ignite.engine import Engine

from monai_vqbrain.engines import CodeBitsLoss, MuonAdamW, PriorBatch
from monai_vqbrain.handlers import LateParts, StopWithoutProgress, TrainingBudget
from monai_vqbrain.networks import PixelCNN

CODES = torch.randint(6, (4, 3, 5), generator=torch.Generator().manual_seed(0))


def step(network: PixelCNN, batch: PriorBatch, optimizer: torch.optim.Optimizer) -> None:
    data = {"codes": CODES, "neighbour": CODES.flip(0), "condition": ROWS}
    inputs, codes, _, given = batch(data, torch.device("cpu"))
    optimizer.zero_grad(set_to_none=False)  # as MONAI's trainer does
    CodeBitsLoss()(network(inputs, **given), codes).backward()
    optimizer.step()


def values(network: PixelCNN) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in network.named_parameters()}


KNOWN = {"sex": ["F", "M"], "age": [55.0, 90.0], "position_rel": [0.0, 1.0]}
ROWS = torch.tensor([[0, 60, 0.1], [1, 80, 0.5], [math.nan, 70, 0.9], [0, math.nan, 0.5]])


def prior(**settings: Any) -> PixelCNN:
    torch.manual_seed(0)
    return PixelCNN(6, (3, 5), 8, 2, conditions=KNOWN, late_conditions=["sex", "age"], **settings)


class Budget(TrainingBudget):
    """A budget of which as much is spent as a test says."""

    def __init__(self, network: PixelCNN) -> None:
        super().__init__(torch.optim.SGD(network.parameters(), 1.0), restart=0.75, what=None)
        self.spent_share = 0.0

    def fraction(self, engine: Engine) -> float:
        return min(1.0, self.spent_share + self.skipped)


class Best:
    """Counts how often the best weights are restored."""

    restored = 0

    def restore_best(self) -> None:
        self.restored += 1


def test_late_parts_are_trained_last_and_nothing_else_is() -> None:
    network = prior(neighbour=True)
    batch, budget, best = PriorBatch(), Budget(network), Best()
    handler = LateParts(network, batch, budget, best)  # type: ignore[arg-type]
    optimizer = MuonAdamW(network.parameters(), network.hidden_kernels(), weight_decay=0.3)
    moved: dict[float, set[str]] = {}
    for share in (0.0, 0.74, 0.76):
        budget.spent_share = share
        handler(Engine(lambda *_: None))
        before = values(network)
        for _ in range(3):
            step(network, batch, optimizer)
        moved[share] = {n for n, p in values(network).items() if not torch.equal(p, before[n])}
    names = {name for name, p in network.named_parameters() if p.numel() and "missing" not in name}
    late = {name for name in names if name.startswith("neighbour") or "late_" in name}
    late |= {n for n in names if n.startswith(("conditions.encoders.0", "conditions.encoders.1"))}
    assert moved[0.0] - {"conditions.encoders.2.missing"} == names - late
    assert moved[0.74] - {"conditions.encoders.2.missing"} == names - late
    assert moved[0.76] - {"conditions.encoders.1.missing"} == late
    assert best.restored == 1


def test_early_stopping_ends_the_first_part_alone() -> None:
    network = prior()
    budget, engine = Budget(network), Engine(lambda *_: None)
    engine.state.epoch, budget.spent_share = 9, 0.6
    validator: Any = Engine(lambda *_: None)
    validator.state.best_metric_epoch = 5
    stop = StopWithoutProgress(validator, 4, budget)
    stop(engine)
    assert not engine.should_terminate
    assert budget.fraction(engine) == 0.75
    assert budget.begin_restart(engine)
    assert not budget.begin_restart(engine)  # once
    stop(engine)
    assert engine.should_terminate


def test_what_was_given_up_is_given_up_after_resuming() -> None:
    budget = Budget(prior())
    budget.skip_to_restart(Engine(lambda *_: None))
    assert budget.begin_restart(Engine(lambda *_: None))
    resumed = Budget(prior())
    resumed.load_state_dict(budget.state_dict())
    assert resumed.fraction(Engine(lambda *_: None)) == 0.75
    assert not resumed.begin_restart(Engine(lambda *_: None))


@torch.no_grad()
def test_late_conditions_say_nothing_before_they_are_learnt() -> None:
    network = prior()
    without = ROWS.clone()
    without[:, :2] = torch.nan
    assert torch.equal(network(CODES, ROWS), network(CODES, without))
    for block in network.blocks:
        torch.nn.init.normal_(block.late_condition.weight)
    assert not torch.equal(network(CODES, ROWS), network(CODES, without))


@torch.no_grad()
def test_late_conditions_are_added() -> None:
    encoder = prior().conditions
    assert encoder is not None
    rows = [[0, math.nan, 0.5], [math.nan, 70, 0.5], [0, 70, 0.5], [math.nan, math.nan, 0.5]]
    sex, age, both, neither = encoder(torch.tensor(rows))[:, encoder.width :]
    torch.testing.assert_close(sex + age, both)
    assert not neither.any()


def test_a_late_condition_must_be_one() -> None:
    with pytest.raises(ValueError, match="there is no condition iq that could be late"):
        PixelCNN(6, (3, 5), 8, 2, conditions=KNOWN, late_conditions=["iq"])


def test_a_prior_that_has_not_learnt_to_read_it_gives_what_it_gives_without() -> None:
    network = PixelCNN(6, (3, 5), 8, 2, neighbour=True)
    assert torch.equal(network(CODES, None, CODES.flip(0)), network(CODES))
