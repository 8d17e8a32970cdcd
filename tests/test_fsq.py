"""Finite scalar quantization, against the paper's formulas in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_vqbrain.networks import ScalarQuantizer

LEVELS = [(8, 8, 8), (7, 5, 5, 5), (2, 3, 4), (8,)]


def encodings(*shape: int) -> torch.Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def paper(z: np.ndarray, levels: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Appendix A.1: quantised (..., D) and indexes (...) of z (..., D)."""
    count = np.asarray(levels)
    half_l = (count - 1) * (1 - 1e-3) / 2
    offset = np.where(count % 2 == 1, 0.0, 0.5)
    bounded = np.tanh(z + np.tan(offset / half_l)) * half_l - offset
    half_width = count // 2
    quantised = np.round(bounded) / half_width
    basis = np.concatenate(([1], np.cumprod(count[:-1])))
    return quantised, ((quantised * half_width + half_width) * basis).sum(-1).astype(int)


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("grid", [(40, 50), (9, 10, 11)])
def test_it_is_the_papers(levels: tuple[int, ...], grid: tuple[int, ...]) -> None:
    x = encodings(2, len(levels), *grid)
    quantised, loss, codes = ScalarQuantizer(levels)(x)
    expected, indexes = paper(np.moveaxis(x.double().numpy(), 1, -1), levels)
    assert np.allclose(quantised.movedim(1, -1), expected, atol=1e-6)
    assert np.array_equal(codes, indexes)
    assert loss.item() == 0


@pytest.mark.parametrize("levels", LEVELS)
def test_codes_and_embed_are_inverse_on_every_code(levels: tuple[int, ...]) -> None:
    quantizer = ScalarQuantizer(levels)
    assert quantizer.num_codes == np.prod(levels)
    codes = torch.arange(quantizer.num_codes).view(1, -1, 1)
    embedded = quantizer.embed(codes)
    assert len(embedded.flatten(2)[0].t().unique(dim=0)) == quantizer.num_codes
    # What lies on a level before it is bounded; the outermost level is bounded at infinity.
    level = embedded.movedim(1, -1) * (quantizer.levels // 2) + quantizer.offset
    inside = torch.atanh((level / quantizer.reach).clamp(-0.99999, 0.99999)) - quantizer.shift
    assert torch.equal(quantizer.codes(inside.movedim(-1, 1)), codes)


def test_codes_embed_and_forward_agree_scripted_too() -> None:
    quantizer = ScalarQuantizer((8, 5, 4)).train()
    x = encodings(2, 3, 6, 7)
    quantised, _, codes = quantizer(x)
    scripted = torch.jit.script(Codes(quantizer))
    for found in (quantizer.codes(x), scripted(x), torch.jit.script(Codes(quantizer.eval()))(x)):
        assert torch.equal(found, codes)
    assert torch.equal(quantizer.embed(codes.to(torch.uint8)), quantised)
    assert quantizer.state_dict() == {}


class Codes(torch.nn.Module):
    """Codes, and back and there again, which TorchScript must take."""

    def __init__(self, quantizer: ScalarQuantizer) -> None:
        super().__init__()
        self.quantizer = quantizer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        codes = self.quantizer.codes(x)
        return codes + 0 * self.quantizer.embed(codes).sum(1).long()


def test_gradients_pass_the_rounding_but_not_the_bound() -> None:
    x = encodings(1, 2, 3, 3).requires_grad_()
    quantizer = ScalarQuantizer((8, 5))
    quantizer(x)[0].sum().backward()
    shift, slope = quantizer.shift[:, None, None], quantizer.reach / (quantizer.levels // 2)
    expected = slope[:, None, None] / torch.cosh(x.detach() + shift) ** 2
    assert torch.allclose(x.grad[0], expected[0], atol=1e-6)


def test_float32_inside_autocast() -> None:
    quantizer = ScalarQuantizer()
    x = encodings(2, 3, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        quantised, loss, codes = quantizer(x)
        again = quantizer.codes(x)
    assert quantised.dtype == loss.dtype == torch.float32
    assert torch.equal(codes, quantizer(x)[2])
    assert torch.equal(codes, again)


def test_what_is_not_finite_has_a_code_too() -> None:
    quantizer = ScalarQuantizer((8, 5, 4))
    x = torch.tensor([torch.nan, torch.inf, -torch.inf]).repeat(1, 3, 1)
    for codes in (quantizer.codes(x), quantizer(x)[2]):
        assert codes.tolist() == [[4 + 8 * 2 + 40 * 2, 159, 0]]


@pytest.mark.parametrize("levels", [(), (8, 1)])
def test_too_few_levels_are_named(levels: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"levels must all be 2 or more, such as \(8, 8, 8\), got"):
        ScalarQuantizer(levels)
