"""Codebooks to MONAI's EMAQuantizer and back: the same codes, and no explosion afterwards."""

from __future__ import annotations

import pytest
import torch
from monai.networks.layers.vector_quantizer import EMAQuantizer

from monai_vqbrain.interop import from_monai, to_monai
from monai_vqbrain.networks import CodebookQuantizer


def encodings(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def trained_ours(steps: int = 3) -> CodebookQuantizer:
    torch.manual_seed(0)
    quantizer = CodebookQuantizer(64, 4).train()
    for step in range(steps):
        quantizer(encodings(2, 4, 8, 8, seed=step))
    return quantizer


def trained_monais(steps: int) -> EMAQuantizer:
    torch.manual_seed(0)
    quantizer = EMAQuantizer(2, 64, 4).train()
    for step in range(steps):
        quantizer(encodings(2, 4, 8, 8, seed=step))
    return quantizer


def monais(quantizer: CodebookQuantizer, spatial_dims: int = 2) -> EMAQuantizer:
    theirs = EMAQuantizer(spatial_dims, quantizer.num_codes, quantizer.code_dim)
    theirs.load_state_dict(to_monai(quantizer))
    return theirs


def ours(quantizer: EMAQuantizer) -> CodebookQuantizer:
    converted = CodebookQuantizer(quantizer.num_embeddings, quantizer.embedding_dim)
    converted.load_state_dict(from_monai(quantizer.state_dict()))
    return converted


@pytest.mark.parametrize("grid", [(9, 8), (4, 5, 6)])
def test_our_codes_are_monais(grid: tuple[int, ...]) -> None:
    quantizer = trained_ours().eval()
    theirs = monais(quantizer, len(grid)).eval()
    x = encodings(2, 4, *grid, seed=7)
    assert torch.equal(theirs(x)[2], quantizer(x)[2])
    assert torch.equal(theirs.embed(theirs(x)[2]), quantizer.embed(quantizer.codes(x)))


@pytest.mark.parametrize("steps", [0, 1, 20])
def test_monais_codes_are_ours(steps: int) -> None:
    theirs = trained_monais(steps).eval()
    x = encodings(2, 4, 9, 8, seed=7)
    assert torch.equal(ours(theirs).eval()(x)[2], theirs(x)[2])


def test_there_and_back_nothing_is_lost() -> None:
    quantizer = trained_ours()
    back = ours(monais(quantizer))
    assert back.initialised
    for name in ("codebook", "sums", "counts"):
        assert torch.allclose(getattr(back, name), getattr(quantizer, name), rtol=1e-5)


def test_in_monais_next_step_the_codebook_moves_as_ours_does() -> None:
    quantizer = trained_ours()
    theirs = monais(quantizer).train()
    x = encodings(2, 4, 8, 8, seed=7)
    theirs(x)
    quantizer(x)
    assert quantizer.redrawn == 0
    assert torch.allclose(theirs.embedding.weight, quantizer.codebook, atol=1e-3)  # it smooths


@pytest.mark.parametrize("steps", [0, 1, 20])
def test_in_our_next_steps_monais_lost_codes_are_found_again(steps: int) -> None:
    theirs = trained_monais(steps)
    converted = ours(theirs).train()
    for step in range(60):  # three are enough if MONAI's took 50
        converted(encodings(2, 4, 8, 8, seed=7 + step))
    assert converted.redrawn > 0
    assert converted.codebook.norm(dim=1).max() < 50
    theirs(encodings(2, 4, 8, 8, seed=7))
    assert theirs.embedding.weight.norm(dim=1).max() > 1e4  # what becomes of them without us


def test_a_larger_batch_in_our_next_step_redraws_no_code_that_lives() -> None:
    theirs = monais(trained_ours()).train()
    for step in range(20):
        theirs(encodings(2, 4, 8, 8, seed=7 + step))
    converted = ours(theirs).train()
    assert converted.share == theirs.ema_cluster_size.mean()
    converted(encodings(64, 4, 32, 32, seed=7))
    assert converted.redrawn == 0  # all 64 were


def test_groups_have_no_place_in_monais() -> None:
    with pytest.raises(ValueError, match=r"has one codebook, this quantizer 2: only one with gro"):
        to_monai(CodebookQuantizer(8, 4, groups=2))


@pytest.mark.parametrize(
    ("state", "got"),
    [({}, "an empty one"), (CodebookQuantizer(8, 4).state_dict(), "codebook, sums, counts")],
)
def test_another_state_dict_is_refused(state: dict[str, torch.Tensor], got: str) -> None:
    with pytest.raises(ValueError, match=f"must be the state dict of an EMAQuantizer.*got {got}"):
        from_monai(state)
