"""Muon for kernels, AdamW for the rest: against torch's own optimizers."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from monai_vqbrain.engines import MuonAdamW
from monai_vqbrain.engines.muon import orthogonal
from monai_vqbrain.networks import PixelCNN


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 6, 3), nn.GELU(), nn.Conv2d(6, 2, 1), nn.Flatten())


def train(net: nn.Module, *optimizers: torch.optim.Optimizer, steps: int = 3) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        loss = net(torch.rand(4, 1, 5, 5, generator=generator)).square().mean()
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()


@pytest.mark.parametrize("shape", [(8, 30), (30, 8), (7, 7), (1, 5)])
def test_singular_vectors_stay_and_values_come_near_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    found = left.T @ orthogonal(matrix) @ right.T
    scaled = values / values.norm()
    for _ in range(5):  # the iteration's polynomial
        scaled = 3.4445 * scaled - 4.7750 * scaled**3 + 2.0315 * scaled**5
    torch.testing.assert_close(found, torch.diag(scaled))


def test_nothing_gives_nothing() -> None:
    assert (orthogonal(torch.zeros(3, 4)) == 0).all()


def test_kernels_move_as_with_torchs_muon() -> None:
    ours, theirs = network(), network()
    flat = nn.Parameter(theirs[0].weight.detach().flatten(1))  # theirs takes matrices alone
    muon = torch.optim.Muon([flat], lr=0.02, weight_decay=0.1)
    others = [p for p in theirs.parameters() if p is not theirs[0].weight]
    adamw = torch.optim.AdamW(others, lr=0.01)
    optimizer = MuonAdamW(
        ours.parameters(), [ours[0].weight], lr=0.01, kernel_lr=0.02, kernel_decay=0.1
    )
    images = torch.rand(4, 1, 5, 5)
    for _ in range(3):
        ours(images).square().mean().backward()
        theirs(images).square().mean().backward()
        flat.grad = theirs[0].weight.grad.flatten(1)
        for one in (optimizer, muon, adamw):
            one.step()
        theirs[0].weight.data = flat.detach().view_as(theirs[0].weight).clone()
        for net in (ours, theirs):
            net.zero_grad()
    for found, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-3)  # theirs is in bfloat16
    torch.testing.assert_close(ours[2].bias, theirs[2].bias, rtol=1e-2, atol=1e-4)


def test_without_kernels_it_is_adamw() -> None:
    ours, theirs = network(), network()
    train(ours, MuonAdamW(ours.parameters(), [], lr=0.01, weight_decay=0.1))
    train(theirs, torch.optim.AdamW(theirs.parameters(), lr=0.01, weight_decay=0.1))
    for found, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(found, expected)


def test_a_state_that_is_restored_goes_on_bit_for_bit() -> None:
    whole, halves = network(), network()
    first = MuonAdamW(whole.parameters(), [whole[0].weight, whole[2].weight], lr=0.01)
    second = MuonAdamW(halves.parameters(), [halves[0].weight, halves[2].weight], lr=0.01)
    train(whole, first)
    train(halves, second)
    state = copy.deepcopy(second.state_dict())
    second = MuonAdamW(halves.parameters(), [halves[0].weight, halves[2].weight], lr=0.5)
    second.load_state_dict(state)
    train(whole, first)
    train(halves, second)
    for found, expected in zip(halves.parameters(), whole.parameters(), strict=True):
        assert torch.equal(found, expected)


def test_a_closure_is_called() -> None:
    net = network()
    optimizer = MuonAdamW(net.parameters(), [net[0].weight])

    def closure() -> float:
        loss = net(torch.ones(1, 1, 5, 5)).sum()
        loss.backward()
        return float(loss)

    before = net[0].weight.clone()
    assert math.isfinite(optimizer.step(closure))
    assert (net[0].weight != before).any()


@pytest.mark.parametrize("kernels", [[nn.Parameter(torch.zeros(3, 3))], "bias"])
def test_other_parameters_are_no_kernels(kernels: list[nn.Parameter] | str) -> None:
    net = network()
    chosen = [net[0].bias] if kernels == "bias" else kernels
    with pytest.raises(ValueError, match="kernels must have two dimensions or more and be among"):
        MuonAdamW(net.parameters(), chosen)


def test_the_priors_kernels_are_those_between_embedding_and_head() -> None:
    prior = PixelCNN(16, (4, 4), 8, 2, conditions={"age": [50.0, 90.0]}, neighbour=True, likeness=4)
    names = {id(parameter): name for name, parameter in prior.named_parameters()}
    found = {names[id(kernel)] for kernel in prior.hidden_kernels()}
    assert {"above.weight", "left.weight", "blocks.1.link.weight", "join.weight"} <= found
    assert any(name.startswith("neighbour.") for name in found)
    others = ("embedding", "within", "head", "position", "conditions", "likeness")
    assert not any(name.startswith(others) or name.endswith("bias") for name in found)
