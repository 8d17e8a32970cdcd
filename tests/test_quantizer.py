"""The quantizer: nearest codes, gradients, and a codebook that moves only when it should."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import pairwise_distances_argmin

from monai_vqbrain.networks.quantizer import CodebookQuantizer, k_means, nearest, rotate


def encodings(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("chunk_bytes", [1, 4096, 4 << 20])
def test_nearest_agrees_with_scikit_learn(chunk_bytes: int) -> None:
    vectors, codebook = encodings(300, 8), encodings(64, 8, seed=1)
    found = nearest(vectors, codebook, chunk_bytes)
    assert np.array_equal(found, pairwise_distances_argmin(vectors.numpy(), codebook.numpy()))


def test_a_tie_goes_to_the_first_code() -> None:
    codebook = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    assert nearest(torch.tensor([[2.0, 0.0]]), codebook).tolist() == [0]


@pytest.mark.parametrize("grid", [(4, 4), (3, 5), (2, 3, 4)])
def test_codes_and_embed_invert_each_other_on_any_grid(grid: tuple[int, ...]) -> None:
    quantizer = CodebookQuantizer(16, 4).eval()
    codes = torch.randint(16, (2, *grid), generator=torch.Generator().manual_seed(0))
    assert torch.equal(quantizer.codes(quantizer.embed(codes)), codes)


@pytest.mark.parametrize("rotation_trick", [True, False])
def test_forward_gives_the_codebook_vectors(rotation_trick: bool) -> None:
    quantizer = CodebookQuantizer(16, 4, rotation_trick=rotation_trick).eval()
    quantised, loss, codes = quantizer(encodings(2, 4, 5, 3))
    assert torch.allclose(quantised, quantizer.embed(codes), atol=1e-6)
    expected = 0.25 * (encodings(2, 4, 5, 3) - quantizer.embed(codes)).square().mean()
    assert torch.isclose(loss, expected)


def test_rotation_turns_and_scales_the_gradient() -> None:
    vectors = torch.tensor([[2.0, 0.0]], requires_grad=True)
    out = rotate(vectors, torch.tensor([[0.0, 1.0]]))  # a quarter turn, half the length
    assert torch.allclose(out, torch.tensor([[0.0, 1.0]]), atol=1e-6)
    out[0, 1].backward()
    assert torch.allclose(vectors.grad, torch.tensor([[0.5, 0.0]]), atol=1e-6)


def test_straight_through_copies_the_gradient() -> None:
    quantizer = CodebookQuantizer(16, 4, rotation_trick=False).eval()
    x = encodings(1, 4, 2, 2).requires_grad_()
    quantizer(x)[0].sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))


def test_the_first_training_batch_initialises_and_does_not_explode() -> None:
    torch.manual_seed(0)
    quantizer = CodebookQuantizer(32, 4).train()
    for step in range(5):
        quantizer(5 + encodings(4, 4, 8, 8, seed=step))
    assert quantizer.initialised
    assert quantizer.codebook.norm(dim=1).max() < 20  # MONAI's reaches 5e5 here
    assert len(quantizer.codes(5 + encodings(4, 4, 8, 8)).unique()) == 32


def test_only_a_training_forward_moves_the_codebook() -> None:
    quantizer = CodebookQuantizer(16, 4).train()
    quantizer(encodings(2, 4, 8, 8))
    before = {key: value.clone() for key, value in quantizer.state_dict().items()}
    quantizer.codes(encodings(2, 4, 8, 8, seed=1))
    quantizer.embed(torch.zeros(1, 2, 2))
    quantizer.eval()(encodings(2, 4, 8, 8, seed=1))
    assert all(torch.equal(before[key], value) for key, value in quantizer.state_dict().items())
    quantizer.train()(encodings(2, 4, 8, 8, seed=1))
    assert not torch.equal(before["codebook"], quantizer.codebook)


def test_dead_codes_are_redrawn_from_the_batch() -> None:
    torch.manual_seed(0)
    quantizer = CodebookQuantizer(8, 2, decay=0.5).train()
    quantizer(encodings(4, 2, 8, 8))
    with torch.no_grad():
        quantizer.codebook[0] = quantizer.sums[0] = 1e3  # nobody's nearest
        quantizer.counts[0] = 1
    for step in range(4):
        quantizer(encodings(4, 2, 8, 8, seed=step))
    assert quantizer.redrawn > 0
    assert quantizer.codebook[0].abs().max() < 10


def test_moving_average_follows_the_paper() -> None:
    quantizer = CodebookQuantizer(2, 1, decay=0.9).train()
    quantizer.initialised.fill_(True)
    for tensor, values in (("codebook", [0.0, 10.0]), ("sums", [0.0, 10.0])):
        getattr(quantizer, tensor).copy_(torch.tensor(values)[:, None])
    quantizer(torch.tensor([1.0, 1.0, 9.0]).view(1, 1, 3))
    counts = torch.tensor([0.9 + 0.1 * 2, 0.9 + 0.1])
    assert torch.allclose(quantizer.counts, counts)
    assert torch.allclose(quantizer.codebook[:, 0], torch.tensor([0.2, 9.9]) / counts)


def test_float32_inside_autocast() -> None:
    quantizer = CodebookQuantizer(512, 8).eval()
    x = encodings(2, 8, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        codes, quantised = quantizer.codes(x), quantizer(x)[0]
    assert torch.equal(codes, quantizer.codes(x))
    assert quantised.dtype == torch.float32


def test_k_means_finds_separate_clusters() -> None:
    torch.manual_seed(1)  # Lloyd's algorithm may start two centres in one cluster
    centres = torch.tensor([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    points = (centres[:, None] + 0.1 * encodings(3, 20, 2)).flatten(0, 1)
    found = {tuple(row.round().tolist()) for row in k_means(points, 3)}
    assert found == {tuple(row.tolist()) for row in centres}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_codes": 1}, "num_codes must be 2 or more"),
        ({"code_dim": 0}, "code_dim 1 or more"),
        ({"decay": 1.0}, r"decay must lie in \[0, 1\), got 1.0"),
    ],
)
def test_wrong_numbers_are_named(arguments: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        CodebookQuantizer(**arguments)
