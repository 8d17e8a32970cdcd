"""The order in which a prior learns: slices by themselves first, its late parts at last."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ignite.engine import Engine

from monai_vqbrain.engines import CodeBitsLoss, MuonAdamW, PriorBatch
from monai_vqbrain.handlers import LateParts
from monai_vqbrain.networks import PixelCNN

CODES = torch.randint(6, (4, 3, 5), generator=torch.Generator().manual_seed(0))


def step(network: PixelCNN, batch: PriorBatch, optimizer: torch.optim.Optimizer) -> None:
    data = {"codes": CODES, "neighbour": CODES.flip(0)}
    inputs, codes, _, given = batch(data, torch.device("cpu"))
    optimizer.zero_grad(set_to_none=False)  # as MONAI's trainer does
    CodeBitsLoss()(network(inputs, **given), codes).backward()
    optimizer.step()


def values(network: PixelCNN) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in network.named_parameters()}


def test_late_parts_are_trained_last_and_nothing_else_is() -> None:
    torch.manual_seed(0)
    network = PixelCNN(6, (3, 5), 8, 2, neighbour=True, early_exit=1)
    batch = PriorBatch()
    progress: Any = SimpleNamespace(fraction=lambda _: share)
    handler = LateParts(network, batch, progress, share=0.25)
    optimizer = MuonAdamW(network.parameters(), network.hidden_kernels(), weight_decay=0.3)
    moved: dict[float, set[str]] = {}
    for share in (0.0, 0.74, 0.76):
        handler(Engine(lambda *_: None))
        before = values(network)
        step(network, batch, optimizer)
        step(network, batch, optimizer)
        moved[share] = {n for n, p in values(network).items() if not torch.equal(p, before[n])}
    names = {name for name, p in network.named_parameters() if p.numel()}
    late = {name for name in names if name.startswith(("neighbour", "early"))}
    assert moved[0.0] == moved[0.74] == names - late
    assert moved[0.76] == late


def test_a_prior_that_has_not_learnt_to_read_it_gives_what_it_gives_without() -> None:
    network = PixelCNN(6, (3, 5), 8, 2, neighbour=True)
    assert torch.equal(network(CODES, None, CODES.flip(0)), network(CODES))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_share_is_a_part(share: float) -> None:
    network = PixelCNN(6, (3, 5), 8, 2, neighbour=True)
    with pytest.raises(ValueError, match=rf"share must lie in \(0, 1\), got {share}"):
        LateParts(network, PriorBatch(), SimpleNamespace(), share)
