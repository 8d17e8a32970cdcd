"""The learnt codebook: codes, gradients, groups, and a codebook that moves only when it should."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from ignite.engine import Engine
from largest_tensor import LargestTensor

from monai_vqbrain.handlers.codebook import CodesRedrawn
from monai_vqbrain.networks import CodebookQuantizer, ScalarQuantizer
from monai_vqbrain.networks.quantizer import Quantizer


def encodings(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def trained(*shape: int, steps: int = 3, **arguments: Any) -> CodebookQuantizer:
    torch.manual_seed(0)
    quantizer = CodebookQuantizer(**{"num_codes": 16, "code_dim": shape[1], **arguments}).train()
    for step in range(steps):
        quantizer(encodings(*shape, seed=step))
    return quantizer


def state(quantizer: CodebookQuantizer) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in quantizer.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, other[key]) for key, value in one.items())


# Codes


@pytest.mark.parametrize("quantizer", [CodebookQuantizer(), ScalarQuantizer()])
def test_both_quantizers_keep_the_protocol(quantizer: Quantizer) -> None:
    assert isinstance(quantizer, Quantizer)
    x = encodings(2, quantizer.code_dim, 4, 5)
    quantised, loss, codes = quantizer(x)
    assert (quantised.shape, loss.shape) == (x.shape, ())
    assert codes.shape == (2, *(() if quantizer.groups == 1 else (quantizer.groups,)), 4, 5)
    assert quantizer.num_codes == 512


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("grid", [(4, 4), (3, 5), (2, 3, 4)])
def test_codes_and_embed_invert_each_other_on_any_grid(grid: tuple[int, ...], groups: int) -> None:
    quantizer = CodebookQuantizer(16, 4, groups=groups).eval()
    shape = (2, *grid) if groups == 1 else (2, groups, *grid)
    codes = torch.randint(16, shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(quantizer.codes(quantizer.embed(codes)), codes)
    assert torch.equal(quantizer.embed(codes.to(torch.uint8)), quantizer.embed(codes))


def test_each_group_is_a_quantizer_of_its_own() -> None:
    quantizer = trained(2, 6, 5, 4, groups=2).eval()
    x = encodings(2, 6, 5, 4, seed=9)
    codes = quantizer.codes(x)
    for group, channels in enumerate((slice(0, 3), slice(3, 6))):
        alone = CodebookQuantizer(16, 3).eval()
        alone.codebook.copy_(quantizer.codebook[16 * group : 16 * (group + 1)])
        assert torch.equal(alone.codes(x[:, channels]), codes[:, group])
        assert torch.equal(alone.embed(codes[:, group]), quantizer.embed(codes)[:, channels])


@pytest.mark.parametrize("wrong", [16, -1])
def test_a_code_of_the_next_group_is_refused(wrong: int) -> None:
    codes = torch.zeros(1, 2, 3, 3, dtype=torch.long)
    codes[0, 0, 0, 0] = wrong
    low, high = min(wrong, 0), max(wrong, 0)
    words = rf"codes of each group must lie in 0..15, got {low} to {high}"
    with pytest.raises(ValueError, match=words):
        CodebookQuantizer(16, 4, groups=2).embed(codes)


def test_scripted_and_exported_it_gives_the_same_codes() -> None:
    for groups in (1, 2):
        network = ThereAndBack(CodebookQuantizer(300, 4, groups=groups)).eval()
        x = encodings(2, 4, 6, 5)
        assert torch.equal(torch.jit.script(network)(x), network(x))
        batch, rows = torch.export.Dim("batch"), torch.export.Dim("rows")
        exported = torch.export.export(network, (x,), dynamic_shapes=({0: batch, 2: rows},))
        larger = encodings(9, 4, 40, 5)
        assert torch.equal(exported.module()(larger), network(larger))


class ThereAndBack(torch.nn.Module):
    def __init__(self, quantizer: CodebookQuantizer) -> None:
        super().__init__()
        self.quantizer = quantizer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.quantizer.embed(self.quantizer.codes(x))


# Gradients


@pytest.mark.parametrize("rotation_trick", [True, False])
def test_forward_gives_the_codebook_vectors_and_their_distance(rotation_trick: bool) -> None:
    quantizer = CodebookQuantizer(16, 4, rotation_trick=rotation_trick).eval()
    x = encodings(2, 4, 5, 3).requires_grad_()
    quantised, loss, codes = quantizer(x)
    assert torch.equal(quantised, quantizer.embed(codes))
    assert torch.isclose(loss, F.mse_loss(x, quantised))
    loss.backward()
    assert torch.allclose(x.grad, 2 * (x - quantised).detach() / x.numel())


def test_straight_through_copies_the_gradient() -> None:
    x = encodings(1, 4, 2, 2).requires_grad_()
    CodebookQuantizer(16, 4).eval()(x)[0].sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("grid", [(6, 5), (2, 3, 4)])
def test_rotation_turns_and_scales_the_gradient(grid: tuple[int, ...], groups: int) -> None:
    quantizer = CodebookQuantizer(16, 8, groups=groups, rotation_trick=True).eval()
    x, sent = encodings(3, 8, *grid).requires_grad_(), encodings(3, 8, *grid, seed=1)
    quantised = quantizer(x)[0]
    quantised.backward(sent)
    z, q, back = (
        t.unflatten(1, (groups, -1)).movedim(2, -1) for t in (x, quantised.detach(), sent)
    )
    (expected,) = torch.autograd.grad(rotated(z, q), x, back)
    assert torch.allclose(x.grad, expected, atol=1e-5)


def rotated(z: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """Section 4.2 of the paper, vectors last: R z, where rotation and scale are constants."""
    a, b = (F.normalize(t.detach(), dim=-1) for t in (z, q))
    half_way = F.normalize(a + b, dim=-1)
    turned = z - 2 * (z * half_way).sum(-1, keepdim=True) * half_way
    turned = turned + 2 * (z * a).sum(-1, keepdim=True) * b
    turned = turned * (q.norm(dim=-1, keepdim=True) / z.detach().norm(dim=-1, keepdim=True))
    assert torch.allclose(turned, q, atol=1e-4)
    return turned


def test_opposite_and_zero_vectors_have_finite_gradients() -> None:
    quantizer = CodebookQuantizer(2, 2, rotation_trick=True).eval()
    quantizer.codebook.copy_(torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    x = torch.tensor([[-1.0, 0.0], [0.0, 0.0], [-1.0, 1e-4]]).t()[None].requires_grad_()
    quantizer(x)[0].sum().backward()
    assert x.grad.isfinite().all()


def test_float32_inside_autocast() -> None:
    quantizer = trained(2, 8, 16, 16, num_codes=64, steps=1)
    plain = trained(2, 8, 16, 16, num_codes=64, steps=1)
    x = encodings(2, 8, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        codes, (quantised, loss, _) = quantizer.codes(x), quantizer(x)
    assert torch.equal(codes, plain.codes(x))  # 10 % differ under MONAI's
    assert quantised.dtype == loss.dtype == torch.float32
    plain(x)
    assert same(state(plain), state(quantizer))


def test_a_step_makes_no_tensor_of_all_vectors_by_all_codes() -> None:
    quantizer = CodebookQuantizer(1024, 8).train()
    x = encodings(16, 8, 32, 32).requires_grad_()
    with LargestTensor() as largest:
        quantised, loss, _ = quantizer(x)
        (quantised.mean() + loss).backward()
    assert largest.bytes <= 4 << 20  # 64 MB if it did


# The codebook


@pytest.mark.parametrize("initialisation", ["k-means", "data"])
def test_the_first_training_batch_initialises_and_does_not_explode(initialisation: str) -> None:
    quantizer = CodebookQuantizer(32, 4, initialisation=initialisation).train()
    torch.manual_seed(0)
    for step in range(5):
        quantizer(5 + encodings(4, 4, 8, 8, seed=step))
    assert quantizer.initialised
    assert quantizer.codebook.norm(dim=1).max() < 20  # MONAI's reaches 5e5 here
    assert len(quantizer.codes(5 + encodings(4, 4, 8, 8)).unique()) == 32


def test_data_takes_rows_of_the_batch() -> None:
    quantizer = CodebookQuantizer(8, 4, groups=2, initialisation="data").train()
    quantizer.decay = 1.0  # so that the first step leaves the codebook where it began
    x = encodings(2, 4, 3, 3)
    quantizer(x)
    rows = x.unflatten(1, (2, 2)).movedim((1, 2), (0, -1)).flatten(1, -2)
    for book, group in zip(quantizer.codebook.view(2, 8, 2), rows, strict=True):
        assert torch.cdist(book, group).amin(1).max() < 1e-6


def test_only_a_training_forward_moves_the_codebook() -> None:
    quantizer = trained(2, 4, 8, 8, steps=1)
    before = state(quantizer)
    quantizer.codes(encodings(2, 4, 8, 8, seed=1))
    quantizer.embed(torch.zeros(1, 2, 2))
    quantizer.eval()(encodings(2, 4, 8, 8, seed=1))
    assert same(before, state(quantizer))
    quantizer.train()(encodings(2, 4, 8, 8, seed=1))
    assert not torch.equal(before["codebook"], quantizer.codebook)


def test_a_step_quantises_before_the_codebook_moves() -> None:
    quantizer = trained(2, 4, 8, 8)
    x = encodings(2, 4, 8, 8, seed=9)
    expected = quantizer.embed(quantizer.codes(x))
    assert torch.equal(quantizer(x)[0], expected)
    assert not torch.equal(quantizer.embed(quantizer.codes(x)), expected)


def test_moving_average_follows_the_paper() -> None:
    quantizer = CodebookQuantizer(2, 1, decay=0.9).train()
    quantizer.initialised.fill_(True)
    for tensor, values in (("codebook", [0.0, 10.0]), ("sums", [0.0, 10.0])):
        getattr(quantizer, tensor).copy_(torch.tensor(values)[:, None])
    quantizer(torch.tensor([1.0, 1.0, 9.0]).view(1, 1, 3))
    counts = torch.tensor([0.9 + 0.1 * 2, 0.9 + 0.1])
    assert torch.allclose(quantizer.counts, counts)
    assert torch.allclose(quantizer.codebook[:, 0], torch.tensor([0.2, 9.9]) / counts)


def test_dead_codes_are_redrawn_from_the_batch_of_their_group_and_counted() -> None:
    quantizer = trained(4, 4, 8, 8, num_codes=8, groups=2, steps=1, decay=0.5)
    metric = CodesRedrawn(quantizer)
    for row in (3, 8):  # one in each group
        quantizer.codebook[row] = quantizer.sums[row] = 1e3  # no participant's nearest
        quantizer.counts[row] = 1
    shift = torch.tensor([0.0, 0.0, 50.0, 50.0])[:, None, None]
    for step in range(6):
        quantizer(encodings(4, 4, 8, 8, seed=step) + shift)
    assert quantizer.redrawn >= 2
    assert quantizer.codebook[:8].abs().max() < 10
    assert (quantizer.codebook[8:] - 50).abs().max() < 10
    validation = Engine(lambda *_: None)
    metric.attach(validation, "codes_redrawn")
    seen = [validation.run([0, 0]).metrics["codes_redrawn"] for _ in range(2)]
    assert seen == [int(quantizer.redrawn), 0]  # each is reported once
    assert CodesRedrawn(ScalarQuantizer()).compute() == 0


class JudgedByTheBatch(CodebookQuantizer):
    """As it was: what is dead is judged by the share of this very batch."""

    def _move(self, vectors: torch.Tensor, rows: torch.Tensor) -> None:
        hits, sums = self._seen(vectors, rows)
        drawn = self._draw(vectors)
        self.counts.lerp_(hits, 1 - self.decay)
        self.sums.lerp_(sums, 1 - self.decay)
        dead = self.counts < 0.03 * hits.mean()
        self.counts.copy_(torch.where(dead, 0.05 * hits.mean(), self.counts))
        self.sums.copy_(torch.where(dead[:, None], 0.05 * hits.mean() * drawn, self.sums))
        self.codebook.copy_(self.sums / self.counts[:, None].clamp_min(1e-5))
        self.redrawn += dead.sum()


@pytest.mark.parametrize(("num_codes", "groups", "decay"), [(64, 1, 0.9), (37, 2, 0.3)])
def test_batches_of_one_size_are_judged_by_their_own_share(
    num_codes: int, groups: int, decay: float
) -> None:
    found = []
    for kind in (CodebookQuantizer, JudgedByTheBatch):
        torch.manual_seed(0)
        quantizer = kind(num_codes, 4, decay, groups=groups).train()
        for step in range(30):
            quantizer((1 + step) * encodings(3, 4, 7, 5, seed=step))
        found.append(quantizer)
    ours, before = found
    assert ours.redrawn == before.redrawn > 0
    assert all(torch.equal(state(ours)[key], state(before)[key]) for key in ("codebook", "counts"))
    assert ours.share == torch.tensor(3 * 7 * 5 / num_codes)


def test_one_larger_batch_redraws_no_code_that_lives() -> None:
    quantizer = trained(2, 4, 8, 8, steps=20)
    quantizer.redrawn.zero_()
    quantizer(encodings(64, 4, 32, 32, seed=20))
    assert quantizer.redrawn == 0  # all 16 were


@pytest.mark.parametrize("side", [2, 4, 32])
def test_codes_that_win_their_share_live_however_large_the_batch(side: int) -> None:
    quantizer = trained(4, 4, side, side, num_codes=4, steps=6)
    assert quantizer.redrawn == 0  # counts that begin at 1 are under 3 % of a large batch's share


def test_a_loaded_codebook_is_not_initialised_again_and_an_empty_one_is() -> None:
    source, other = trained(2, 4, 8, 8), CodebookQuantizer(16, 4)
    fresh = state(other)
    other.load_state_dict(source.state_dict())
    other.train()(encodings(2, 4, 8, 8, seed=7))
    source(encodings(2, 4, 8, 8, seed=7))
    assert torch.equal(other.counts, source.counts)
    other.load_state_dict(fresh)
    other(100 + encodings(2, 4, 8, 8))
    assert other.codebook.min() > 50


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_the_same_seed_gives_the_same_bits(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    states = []
    for _ in range(2):
        torch.manual_seed(0)
        quantizer = CodebookQuantizer(128, 8, groups=2).to(device).train()
        for step in range(4):
            quantizer(encodings(8, 8, 16, 16, seed=step).to(device))
        states.append(state(quantizer))
    assert same(*states)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_codes": 1}, "num_codes must be 2 or more"),
        ({"code_dim": 0}, "code_dim 1 or more"),
        ({"decay": 1.0}, r"decay must lie in \[0, 1\), got 1.0"),
        ({"groups": 3}, "groups must divide code_dim, got 3 groups of 8 channels"),
        ({"groups": 0}, "groups must divide code_dim, got 0 groups"),
        ({"initialisation": "zeros"}, r"must be one of \('k-means', 'data'\), got 'zeros'"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        CodebookQuantizer(**arguments)
