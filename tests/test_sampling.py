"""Sampling and likelihood: exact, repeatable, and one with the network's own forward."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from monai_vqbrain.inferers import AncestralSampler, CachedLogits, PlainSampler, code_bits
from monai_vqbrain.inferers.sampling import choose, keep_top
from monai_vqbrain.networks.pixelcnn import PixelCNN

GRIDS = [(5, 7), (7, 4), (1, 5), (5, 1)]


def prior(grid: tuple[int, int] = (5, 7), num_codes: int = 6) -> PixelCNN:
    """A small prior in float64 whose logits are not nearly equal; left in training mode."""
    torch.manual_seed(0)
    network = PixelCNN(num_codes, grid, channels=8, layers=3, dropout=0.2).double()
    torch.nn.init.normal_(network.head.weight)
    return network


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def walked(network: PixelCNN, codes: Tensor) -> Tensor:
    """The cached logits along given codes, (B, K, h, w)."""
    walk = CachedLogits(network, len(codes))
    logits = torch.empty(len(codes), network.num_codes, *codes.shape[1:])
    for row in range(network.height):
        walk.begin_row(row)
        for column in range(network.width):
            logits[:, :, row, column] = walk.logits(column)
            walk.write(column, codes[:, row, column])
    return logits


@pytest.mark.parametrize("grid", GRIDS)
@torch.no_grad()
def test_cached_logits_are_the_networks(grid: tuple[int, int]) -> None:
    network = prior(grid).float().eval()
    codes = torch.randint(6, (3, *grid), generator=seeded())
    torch.testing.assert_close(walked(network, codes), network(codes), atol=1e-5, rtol=0)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("options", [{}, {"temperature": 0.5}, {"temperature": 2.0, "top_p": 0.6}])
def test_cached_and_plain_draw_the_same(grid: tuple[int, int], options: dict[str, Any]) -> None:
    one, two = seeded(), seeded()
    cached = AncestralSampler(**options)(prior(grid), 4, one)
    plain = PlainSampler(**options)(prior(grid), 4, two)
    assert cached.shape == (4, *grid)
    assert cached.dtype == torch.long
    assert torch.equal(cached, plain)
    assert torch.equal(one.get_state(), two.get_state())


def test_a_seed_repeats_and_another_differs() -> None:
    sampler = AncestralSampler()
    first = sampler(prior(), 4, seeded())
    assert torch.equal(first, sampler(prior(), 4, seeded()))
    assert not torch.equal(first, sampler(prior(), 4, seeded(1)))


def test_one_generator_goes_on_from_batch_to_batch() -> None:
    generator = seeded()
    first, second = (AncestralSampler()(prior(), 4, generator) for _ in range(2))
    assert not torch.equal(first, second)


def test_global_randomness_and_training_mode_are_left_alone() -> None:
    network = prior()
    before = torch.get_rng_state()
    AncestralSampler()(network, 2, seeded())
    assert torch.equal(torch.get_rng_state(), before)
    assert network.training


def test_grids_come_as_often_as_the_prior_says() -> None:
    network = prior(grid=(1, 3), num_codes=2)
    every = torch.tensor(list(itertools.product((0, 1), repeat=3))).view(8, 1, 3)
    expected = torch.exp2(-code_bits(network, every).sum(dim=(1, 2)))
    count = 20_000
    drawn = AncestralSampler()(network, count, seeded()).view(count, 3)
    seen = torch.bincount(drawn @ torch.tensor([4, 2, 1]), minlength=8) / count
    assert (seen - expected).abs().max() < 4 * (0.25 / count) ** 0.5


def test_probabilities_of_all_grids_sum_to_one() -> None:
    every = torch.tensor(list(itertools.product((0, 1), repeat=6))).view(64, 2, 3)
    bits = code_bits(prior(grid=(2, 3), num_codes=2), every)
    assert float(torch.exp2(-bits.sum(dim=(1, 2))).sum()) == pytest.approx(1, abs=1e-6)


def test_code_bits_are_read_off_the_softmax() -> None:
    network = prior()
    codes = torch.randint(6, (2, 5, 7), generator=seeded())
    with torch.no_grad():
        probabilities = network.eval()(codes).softmax(dim=1)
    expected = -probabilities.gather(1, codes[:, None])[:, 0].log2()
    bits = code_bits(network.train(), codes[:, None].to(torch.uint8))
    assert network.training
    assert bits.dtype == torch.float32
    torch.testing.assert_close(bits, expected.float())


def test_low_temperature_and_low_top_p_draw_the_likeliest() -> None:
    network = prior()
    cold = AncestralSampler(temperature=1e-9)(network, 3, seeded())
    with torch.no_grad():
        assert torch.equal(network.eval()(cold).argmax(dim=1), cold)
    assert torch.equal(AncestralSampler(top_p=1e-9)(network, 3, seeded(1)), cold)


@pytest.mark.parametrize(
    ("draw", "code"), [(1e-8, 0), (0.09, 0), (0.11, 1), (0.4, 1), (0.6, 3), (1.0, 3)]
)
def test_a_code_is_where_the_cumulative_distribution_passes_the_draw(
    draw: float, code: int
) -> None:
    logits = torch.tensor([[0.1, 0.4, 0.0, 0.5]], dtype=torch.float64).log()
    assert choose(logits, torch.tensor([draw]) - 1e-9, 1.0, 1.0).tolist() == [code]


@pytest.mark.parametrize("draw", [2**-24, 0.5, 1.0])
def test_impossible_codes_are_never_drawn(draw: float) -> None:
    logits = torch.tensor([[0.0, 0.5, 0.0, 0.5, 0.0]]).log()
    assert choose(logits, torch.tensor([draw]), 1.0, 1.0).item() in (1, 3)


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [
        (0.4, [0, 0.5, 0, 0]),
        (0.6, [0, 0.5, 0, 0.25]),
        (0.8, [0.125, 0.5, 0, 0.25]),  # of two alike, the first
        (0.99, [0.125, 0.5, 0.125, 0.25]),
    ],
)
def test_top_p_keeps_the_fewest_that_reach_it(top_p: float, kept: list[float]) -> None:
    probabilities = torch.tensor([[0.125, 0.5, 0.125, 0.25]])
    assert keep_top(probabilities, top_p).tolist() == [kept]


def test_progress_names_the_step(capsys: pytest.CaptureFixture[str]) -> None:
    AncestralSampler(progress=True)(prior(), 1, seeded())
    assert "sample" in capsys.readouterr().err


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_draws_are_those_of_the_generator() -> None:
    network = prior().cuda()
    drawn = AncestralSampler()(network, 4, seeded())
    assert drawn.is_cuda
    assert torch.equal(drawn, PlainSampler()(network, 4, seeded()))
    assert torch.equal(drawn.cpu(), AncestralSampler()(prior(), 4, seeded()))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temperature": 0.0}, "temperature is 0.0: it must be above 0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_p": 0.0}, "top_p is 0.0: it must be above 0 and at most 1"),
        ({"top_p": 1.5}, "top_p is 1.5"),
    ],
)
def test_refuses_options_by_their_values(options: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        AncestralSampler(**options)


def test_refuses_an_empty_batch() -> None:
    with pytest.raises(ValueError, match="batch_size is 0: it must be at least 1"):
        AncestralSampler()(prior(), 0, seeded())
