"""Sampling and likelihood: exact, repeatable, and one with the network's own forward."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from monai_vqbrain.inferers import AncestralSampler, CachedLogits, PlainSampler, code_bits
from monai_vqbrain.inferers.sampling import choose, exact_running_sum, keep_top
from monai_vqbrain.networks.pixelcnn import PixelCNN

GRIDS = [(5, 7), (7, 4), (1, 5), (5, 1)]


def prior(grid: tuple[int, ...] = (5, 7), num_codes: int = 6, **options: Any) -> PixelCNN:
    """A small prior in float64 whose logits are not nearly equal; left in training mode."""
    torch.manual_seed(0)
    network = PixelCNN(num_codes, grid, 8, 3, dropout=0.2, **options).double()
    for parameter in network.parameters():  # biases too, which a fresh network has near 0
        torch.nn.init.normal_(parameter, std=0.3)
    torch.nn.init.normal_(network.head.weight)
    network.set_code_features(torch.rand(network.groups, num_codes, 2))
    return network


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def given(network: PixelCNN, batch_size: int) -> dict[str, Tensor]:
    """Conditions and slices before, some missing, for a prior that takes them."""
    found = {}
    if network.conditions is not None:
        found["condition"] = torch.tensor([[0.0, 60.0], [torch.nan, 80.5], [1.0, torch.nan]])
        found["condition"] = found["condition"].repeat(batch_size, 1)[:batch_size]
    if network.neighbour is not None:
        shape = (batch_size, *network.settings["grid"])
        found["neighbour"] = torch.randint(network.num_codes, shape, generator=seeded(5))
        found["neighbour"][-1] = -1
    return found


def walked(network: PixelCNN, codes: Tensor) -> Tensor:
    """The cached logits along given codes, as the network's forward gives them."""
    walk = CachedLogits(network, len(codes), **given(network, len(codes)))
    raster = network.to_raster(codes)
    logits = torch.empty(len(codes), network.num_codes, *raster.shape[1:])
    rows, columns = network.raster
    for row in range(rows):
        walk.begin_row(row)
        for column in range(columns):
            for group in range(network.groups):
                logits[:, :, group, row, column] = walk.logits(column, group)
                walk.write(column, raster[:, group, row, column], group)
    return network.from_raster(logits)


AD = {"diagnosis": "AD"}
CONDITIONS = {"diagnosis": ["AD", "CN"], "age": [55.0, 90.0]}
PRIORS: list[dict[str, Any]] = [
    *({"grid": grid} for grid in GRIDS),
    {"scan": "columns"},
    {"conditions": CONDITIONS},
    {"neighbour": True},
    {"grid": (2, 4, 3)},
    {"likeness": 3},
    {"horizontal_channels": 5},
    {"grid": (2, 3, 4), "scan": "columns", "conditions": CONDITIONS, "neighbour": True}
    | {"likeness": 3, "horizontal_channels": 5},
]
OPTIONS: list[dict[str, float]] = [
    {},
    {"temperature": 2.0, "top_p": 0.6},
    {"guidance": 1.5},
    {"neighbour_guidance": 1.5},
    {"guidance": 1.5, "neighbour_guidance": 2.0},
]


@pytest.mark.parametrize("settings", PRIORS, ids=str)
@torch.no_grad()
def test_cached_logits_are_the_networks(settings: dict[str, Any]) -> None:
    network = prior(**settings).float().eval()
    codes = torch.randint(6, (3, *network.settings["grid"]), generator=seeded())
    expected = network(codes, **given(network, 3))
    scale = expected.abs().max()  # about 10: what is promised holds for logits of order 1
    torch.testing.assert_close(walked(network, codes) / scale, expected / scale, atol=1e-5, rtol=0)


@pytest.mark.parametrize("settings", PRIORS, ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_cached_and_plain_draw_the_same(settings: dict[str, Any], options: dict[str, Any]) -> None:
    network = prior(**settings)
    if "guidance" in options and network.conditions is None:
        pytest.skip("guidance needs conditions")
    one, two = seeded(), seeded()
    cached = AncestralSampler(**options)(network, 4, one, **given(network, 4))
    plain = PlainSampler(**options)(network, 4, two, **given(network, 4))
    assert cached.shape == (4, *network.settings["grid"])
    assert cached.dtype == torch.long
    assert cached.min() >= 0
    assert torch.equal(cached, plain)
    assert torch.equal(one.get_state(), two.get_state())


def test_cached_and_plain_draw_the_same_on_a_grid_of_22_by_26() -> None:
    network = prior((22, 26), conditions=CONDITIONS)
    ask = network.conditions.row({"age": 70})[None]
    cached = AncestralSampler(guidance=1.5)(network, 2, seeded(), ask)
    assert torch.equal(cached, PlainSampler(guidance=1.5)(network, 2, seeded(), ask))


def test_guidance_goes_from_no_condition_to_the_condition_and_beyond() -> None:
    network = prior(conditions=CONDITIONS)
    ask = network.conditions.row({"diagnosis": "AD"}).expand(64, -1)
    drawn = {g: AncestralSampler(guidance=g)(network, 64, seeded(), ask) for g in (0.0, 1.0, 8.0)}
    assert torch.equal(drawn[0.0], AncestralSampler()(network, 64, seeded()))
    advantage = {}
    for g, codes in drawn.items():  # how much likelier the samples are with what was asked
        advantage[g] = (code_bits(network, codes) - code_bits(network, codes, ask)).mean()
    assert advantage[0.0] < advantage[1.0] < advantage[8.0]


def test_neighbour_guidance_goes_from_no_slice_before_to_it_and_beyond() -> None:
    network = prior(neighbour=True)
    before = torch.randint(6, (64, *network.settings["grid"]), generator=seeded())
    drawn = {
        g: AncestralSampler(neighbour_guidance=g)(network, 64, seeded(), neighbour=before)
        for g in (0.0, 1.0, 8.0)
    }
    assert torch.equal(drawn[0.0], AncestralSampler()(network, 64, seeded()))
    advantage = [
        (code_bits(network, c) - code_bits(network, c, neighbour=before)).mean()
        for c in drawn.values()
    ]
    assert advantage[0] < advantage[1] < advantage[2]


def test_guidance_may_go_from_other_conditions_than_none() -> None:
    network = prior(conditions=CONDITIONS)
    rows = [network.conditions.row(asked)[None] for asked in ({"age": 60}, {"age": 60} | AD)]
    guided = AncestralSampler(guidance=3.0)(network, 8, seeded(), rows[1], base=rows[0])
    assert not torch.equal(guided, AncestralSampler(guidance=3.0)(network, 8, seeded(), rows[1]))
    same = AncestralSampler(guidance=3.0)(network, 8, seeded(), rows[1], base=rows[1])
    assert torch.equal(same, AncestralSampler()(network, 8, seeded(), rows[1]))


@pytest.mark.parametrize("settings", PRIORS, ids=str)
def test_known_codes_are_kept_and_the_others_follow_them(settings: dict[str, Any]) -> None:
    network = prior(**settings)
    whole = AncestralSampler()(network, 4, seeded(), **given(network, 4))
    known = torch.where(torch.rand(whole.shape, generator=seeded(3)) < 0.5, whole, -1)
    # the same draws given the same codes before: what was hidden comes again
    assert torch.equal(
        AncestralSampler()(network, 4, seeded(), **given(network, 4), known=known), whole
    )
    other = torch.where(known < 0, -1, (known + 1) % 6)
    drawn = AncestralSampler()(network, 4, seeded(), **given(network, 4), known=other)
    assert torch.equal(drawn[other >= 0], other[other >= 0])
    assert torch.equal(
        drawn, PlainSampler()(network, 4, seeded(), **given(network, 4), known=other)
    )


@pytest.mark.parametrize("settings", PRIORS, ids=str)
def test_rows_known_as_a_whole_need_no_logits(settings: dict[str, Any]) -> None:
    network = prior(**settings)
    whole = AncestralSampler()(network, 4, seeded(), **given(network, 4))
    known = whole.clone()
    known[..., 1:, 1:] = -1
    again = AncestralSampler()(network, 4, seeded(), **given(network, 4), known=known)
    assert torch.equal(again, whole)


def test_a_grid_known_as_a_whole_comes_back() -> None:
    known = torch.randint(6, (2, 5, 7), generator=seeded(2))
    assert torch.equal(AncestralSampler()(prior(), 2, seeded(), known=known), known)


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
    assert choose(logits, torch.tensor([[draw]]).double() - 1e-9, 1.0, 1.0).tolist() == [[code]]


@pytest.mark.parametrize("draw", [2**-24, 0.5, 1.0])
def test_impossible_codes_are_never_drawn(draw: float) -> None:
    logits = torch.tensor([[0.0, 0.5, 0.0, 0.5, 0.0]]).log()
    assert choose(logits, torch.tensor([[draw]]), 1.0, 1.0).item() in (1, 3)


def test_sums_of_whole_numbers_are_those_of_any_order() -> None:
    probabilities = torch.rand(3, 500, generator=seeded()).softmax(-1)
    sums = exact_running_sum(probabilities)
    assert torch.allclose(sums, probabilities.double().cumsum(-1), atol=1e-9)
    order = torch.randperm(500, generator=seeded())
    assert torch.equal(exact_running_sum(probabilities[:, order])[:, -1], sums[:, -1])
    draws = torch.rand(3, 1, generator=seeded())
    found = torch.searchsorted(sums, sums[:, -1:] * draws)
    assert torch.equal(found, choose(probabilities.log(), draws, 1.0, 1.0))


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


def test_one_thread_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(
        "monai_vqbrain.inferers.sampling.choose",
        lambda logits, *_: (seen.append(torch.get_num_threads()), logits.argmax(1, keepdim=True))[
            1
        ],
    )
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        AncestralSampler()(prior(), 1, seeded())
        assert set(seen) == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_progress_names_the_step(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("monai_vqbrain.progress.LOG_EVERY", 0.0)
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
        ({"guidance": -0.5}, "guidance is -0.5: it must be 0 or more"),
        ({"neighbour_guidance": -1}, "neighbour_guidance is -1: it must be 0 or more"),
    ],
)
def test_refuses_options_by_their_values(options: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        AncestralSampler(**options)


def test_refuses_codes_and_conditions_of_another_prior() -> None:
    network = prior(conditions=CONDITIONS)
    with pytest.raises(ValueError, match="known codes reach to 6, but this prior knows 0 to 5"):
        AncestralSampler()(network, 1, seeded(), known=torch.full((1, 5, 7), 6))
    with pytest.raises(ValueError, match="rows of 3 conditions: this prior has others"):
        AncestralSampler()(network, 1, seeded(), torch.zeros(1, 3))


def test_refuses_an_empty_batch() -> None:
    with pytest.raises(ValueError, match="batch_size is 0: it must be at least 1"):
        AncestralSampler()(prior(), 0, seeded())


def test_says_that_guidance_needs_a_condition() -> None:
    with pytest.raises(ValueError, match="guidance is 2.0, and no condition is given"):
        AncestralSampler(guidance=2.0)(prior(conditions=CONDITIONS), 1, seeded())
