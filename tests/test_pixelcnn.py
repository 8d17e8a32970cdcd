"""The prior's network: strictly causal, whole in what it sees, valid where MONAI feeds it."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from monai_vqbrain.networks import likeness
from monai_vqbrain.networks.likeness import code_features
from monai_vqbrain.networks.pixelcnn import PixelCNN

GRIDS = [(5, 7), (7, 4), (1, 7), (6, 1)]


def prior(grid: tuple[int, int] = (5, 7), num_codes: int = 6, **options: Any) -> PixelCNN:
    """A small prior in float64 whose logits are not nearly equal, as a fresh one's are."""
    torch.manual_seed(0)
    network = PixelCNN(num_codes, grid, **{"channels": 8, "layers": 3} | options).double()
    torch.nn.init.normal_(network.head.weight)
    if network.neighbour is not None:
        torch.nn.init.normal_(network.neighbour.out.weight)  # which is 0 in a fresh one
    return network.eval()


def random_codes(network: PixelCNN, batch_size: int = 3, seed: int = 1) -> Tensor:
    shape = (batch_size, *network.settings["grid"])
    return torch.randint(network.num_codes, shape, generator=torch.Generator().manual_seed(seed))


KNOWN = {"diagnosis": ["AD", "CN"], "age": [55.0, 90.0]}


@pytest.mark.parametrize("grid", [*GRIDS, (2, 4, 3), (3, 1, 4)])
@pytest.mark.parametrize("scan", ["rows", "columns"])
@torch.no_grad()
def test_a_code_moves_all_later_logits_and_no_other(grid: tuple[int, ...], scan: str) -> None:
    network = prior(grid, scan=scan)
    size = math.prod(grid)
    codes = random_codes(network, 1)
    changed = codes.repeat(size, *[1] * len(grid)).flatten(1)
    changed += torch.eye(size, dtype=torch.long)  # the n-th grid differs in the n-th code alone
    changed = (changed % network.num_codes).view(size, *grid)

    moved = (network(changed) - network(codes)).abs().amax(dim=1) > 1e-14  # (size, *grid)

    # its place in time: by position as scanned, and group after group at each
    places = torch.arange(size).view(grid if len(grid) == 3 else (1, *grid))
    order = (places.permute(1, 2, 0) if scan == "rows" else places.permute(2, 1, 0)).flatten()
    later = torch.ones(size, size, dtype=torch.bool).triu(diagonal=1)
    assert torch.equal(moved.flatten(1)[order][:, order], later)


def test_codes_that_stand_for_nearly_the_same_have_nearly_the_same_features() -> None:
    vectors = torch.rand(40, 3, generator=torch.Generator().manual_seed(0))
    features = code_features(vectors, 50)
    assert features.shape == (40, 50)
    assert not features[:, 40:].any()
    assert features[:, :40].std() == pytest.approx(1, abs=0.01)
    apart, unlike = torch.cdist(vectors, vectors), torch.cdist(features, features)
    near, far = apart[apart > 0].quantile(0.05), apart.quantile(0.9)
    assert unlike[(apart > 0) & (apart < near)].max() < 0.6 * unlike[apart > far].min()
    assert not code_features(torch.ones(5, 2), 4).isnan().any()  # all alike


def test_what_is_learnt_of_a_code_is_learnt_of_those_alike() -> None:
    torch.manual_seed(0)
    network = PixelCNN(6, (3, 4), 8, 2, likeness=4)
    with pytest.raises(ValueError, match="shape \\[1, 5, 2\\]: this prior has 1 x 6 codes"):
        network.set_code_features(torch.rand(5, 2))
    network.set_code_features(torch.tensor([[0.0], [0.01], [1.0], [1.01], [2.0], [3.0]]))
    before = network.head_weight().detach()
    for parameter in (network.head.weight, network.embedding.weight):
        parameter.requires_grad_(False)  # what a code has for itself
    logits = network(torch.zeros(1, 3, 4, dtype=torch.long))
    logits[:, 0].sum().backward()
    torch.optim.SGD(network.likeness.parameters(), 0.1).step()
    moved = (network.head_weight().detach() - before).norm(dim=1)
    assert moved[0] == pytest.approx(float(moved[1]), rel=0.05)
    assert moved[0] > 2 * moved[3]


@torch.no_grad()
def test_conditions_and_the_slice_before_move_every_logit() -> None:
    network = prior(conditions=KNOWN, neighbour=True)
    codes, before = random_codes(network, 1), random_codes(network, 1, seed=2)
    plain = network(codes)
    row = network.conditions.row({"diagnosis": "AD"})[None]
    for given in ({"condition": row}, {"neighbour": before}):
        assert ((network(codes, **given) - plain).abs().amax(dim=1) > 1e-14).all()
    changed = before.clone()
    changed[0, 4, 6] = (before[0, 4, 6] + 1) % 6  # later in the scan, and known all the same
    moved = (network(codes, None, changed) - network(codes, None, before)).abs().amax(dim=1)
    assert moved[0, 3, 5] > 1e-14


@torch.no_grad()
def test_what_is_missing_is_the_same_as_what_is_not_given() -> None:
    network = prior(conditions=KNOWN, neighbour=True)
    codes = random_codes(network)
    nothing = torch.full((3, 2), torch.nan), torch.full((3, 5, 7), -1)
    assert torch.allclose(network(codes, *nothing), network(codes), atol=1e-12)


def test_refuses_what_it_was_not_built_for() -> None:
    network = prior()
    codes = random_codes(network)
    with pytest.raises(ValueError, match="trained without conditions: give none"):
        network(codes, torch.zeros(3, 2))
    with pytest.raises(ValueError, match="trained without neighbouring slices: give none"):
        network(codes, None, codes)


@torch.no_grad()
def test_sees_layers_and_three_codes_far() -> None:
    network = prior(grid=(1, 9), layers=2)
    codes = random_codes(network, 1)
    changed = codes.clone()
    changed[0, 0, 0] = (codes[0, 0, 0] + 1) % network.num_codes
    moved = (network(changed) - network(codes)).abs().amax(dim=1).flatten() > 1e-14
    assert moved.nonzero().flatten().tolist() == [1, 2, 3, 4, 5]


@torch.no_grad()
def test_position_is_known_where_nothing_else_is() -> None:
    logits = prior()(torch.zeros(1, 5, 7, dtype=torch.long))
    assert len(set(logits[0, 0].flatten().tolist())) == 35


def test_starts_nearly_uniform() -> None:
    network = PixelCNN(num_codes=512, grid=(6, 5), channels=16, layers=2)
    bits = F.cross_entropy(network(random_codes(network)), random_codes(network)) / math.log(2)
    assert float(bits) == pytest.approx(9, abs=0.02)


def test_has_400_000_parameters_by_default() -> None:
    assert sum(p.numel() for p in PixelCNN().parameters()) == 400_096


@pytest.mark.parametrize("kind", [torch.uint8, torch.int32, torch.long, torch.float32])
def test_takes_codes_of_any_type_with_or_without_a_channel(kind: torch.dtype) -> None:
    network = prior()
    codes = random_codes(network)
    expected = network(codes)
    assert expected.shape == (3, 6, 5, 7)
    assert torch.equal(network(codes.to(kind)), expected)
    assert torch.equal(network(codes[:, None].to(kind)), expected)


def test_takes_what_verify_net_in_out_feeds() -> None:
    network = prior().float()
    assert network(torch.rand(1, 1, 5, 7)).shape == (1, 6, 5, 7)


@pytest.mark.parametrize(
    "options",
    [
        {"likeness": 3},
        {"scan": "columns", "conditions": KNOWN, "neighbour": True, "horizontal_channels": 5},
        {"grid": (2, 5, 7)},
    ],
    ids=["plain", "conditions", "groups"],
)
def test_scripted_and_reloaded_it_gives_the_same_logits(options: dict[str, Any]) -> None:
    network = prior(**options)
    codes = random_codes(network)
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(network), file)
    file.seek(0)
    assert torch.allclose(torch.jit.load(file)(codes), network(codes), atol=1e-12)
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    twin = PixelCNN(**network.settings).double()
    twin.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(twin.eval()(codes), network(codes))


def test_dropout_acts_in_training_only() -> None:
    network = prior(dropout=0.5)
    codes = random_codes(network)
    assert torch.equal(network(codes), network(codes))
    network.train()
    assert not torch.equal(network(codes), network(codes))


def test_learns_a_pattern_by_heart() -> None:
    torch.manual_seed(0)
    network = PixelCNN(4, (6, 5), channels=16, layers=2)
    codes = (torch.arange(6)[:, None] + 2 * torch.arange(5)).remainder(4)[None].repeat(2, 1, 1)
    codes[1] = codes[1].flip(0)  # two patterns: the first code tells which
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        loss = F.cross_entropy(network(codes), codes)
        loss.backward()
        optimiser.step()
    assert float(loss) < 0.05  # ln(2) / 30 = 0.023 is the least


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((2, 7, 5), r"shape \[2, 7, 5\], but this prior's grid is 5x7: give \(B, 5, 7\)"),
        ((2, 2, 5, 7), r"shape \[2, 2, 5, 7\]"),
        ((5, 7), r"shape \[5, 7\]"),
    ],
)
def test_says_which_grid_it_wants(shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        prior()(torch.zeros(shape, dtype=torch.long))


@pytest.mark.parametrize("code", [-1, 6])
def test_says_which_codes_it_knows(code: int) -> None:
    codes = torch.zeros(1, 5, 7, dtype=torch.long)
    codes[0, 2, 3] = code
    with pytest.raises(ValueError, match="this prior knows 0 to 5: use the codes of the VQ-VAE"):
        prior()(codes)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_codes": 1}, "num_codes is 1: a prior needs at least 2 codes"),
        ({"grid": (0, 4)}, r"grid is \(0, 4\): give two numbers of at least 1"),
        ({"grid": (4,)}, r"grid is \(4,\): give two numbers"),
        ({"scan": "spiral"}, "scan is spiral: choose rows or columns"),
        ({"channels": 0}, "channels is 0 and layers 6: both must be at least 1"),
        ({"horizontal_channels": 0}, "channels is 0 and layers 6: both must be at least 1"),
        ({"plan_channels": 0}, "channels is 0 and layers 6: both must be at least 1"),
        ({"layers": 0}, "channels is 32 and layers 0: both must be at least 1"),
        ({"dropout": 1.0}, r"dropout is 1.0: give a probability in \[0, 1\)"),
    ],
)
def test_refuses_arguments_by_their_values(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PixelCNN(**options)


def test_features_of_many_codes_need_little_memory_and_are_those_of_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vectors = torch.rand(600, 3, generator=torch.Generator().manual_seed(0))
    vectors *= torch.tensor([4.0, 1.0, 0.3])  # components that have an order
    exact = code_features(vectors, 4)
    monkeypatch.setattr(likeness, "LANDMARKS", 300)
    monkeypatch.setattr(likeness, "CHUNK", 128)
    near = code_features(vectors, 4)
    likenesses = torch.stack([(each @ each.T).flatten() for each in (exact, near)])
    assert torch.corrcoef(likenesses)[0, 1] > 0.98
    monkeypatch.setattr(likeness, "LANDMARKS", 64)
    monkeypatch.setattr(likeness, "CHUNK", 4096)
    many = code_features(torch.rand(100_000, 8), 16)  # 80 GB of squared distances
    assert many.shape == (100_000, 16)
    assert many.isfinite().all()
    assert many.std() == pytest.approx(1, abs=1e-3)
