"""Mixed precision: where it is used, and what comes out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_vqbrain.inferers import MixedPrecisionInferer, computes_in_bfloat16
from monai_vqbrain.networks import BrainVQVAE

CPU = torch.device("cpu")


class Spy(nn.Module):
    """Gives its product's type beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.seen: torch.dtype | None = None

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor], int]:
        y = self.layer(x)
        self.seen = y.dtype
        return y, [y], 3


@pytest.mark.parametrize(
    ("amp", "native", "expected"),
    [
        (True, False, torch.bfloat16),
        (False, True, torch.float32),
        ("auto", True, torch.bfloat16),
        ("auto", False, torch.float32),
    ],
)
def test_bfloat16_is_used_where_asked_or_where_the_device_has_it(
    monkeypatch: pytest.MonkeyPatch, amp: bool | str, native: bool, expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": native})
    spy = Spy()
    tensor, (listed,), number = MixedPrecisionInferer(amp)(torch.rand(2, 4), spy)
    assert spy.seen == expected
    assert (tensor.dtype, listed.dtype, number) == (torch.float32, torch.float32, 3)


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, True),
        ({"avx512_bf16": False, "amx_bf16": True}, True),
        ({"avx512_f": True}, False),
    ],
)
def test_a_cpu_computes_in_bfloat16_if_it_has_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch, features: dict[str, bool], expected: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features)
    assert computes_in_bfloat16(CPU) is expected


def test_other_devices_and_older_pytorch_stay_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not computes_in_bfloat16(torch.device("meta"))
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert not computes_in_bfloat16(CPU)


def test_a_vqvaes_gradient_comes_near_that_of_float32() -> None:
    torch.manual_seed(0)
    network = BrainVQVAE(width=8, blocks=(1, 1), num_codes=16).train()
    images, grads = torch.rand(4, 1, 32, 32), []
    network(images)  # the codebook's first batch
    for amp in (False, True):
        network.zero_grad()
        reconstruction, quantizer_loss = MixedPrecisionInferer(amp)(images, network)
        assert reconstruction.dtype == quantizer_loss.dtype == torch.float32
        (reconstruction - images).square().mean().backward()
        grads.append(torch.cat([p.grad.flatten() for p in network.decoder.parameters()]))
    assert torch.cosine_similarity(*grads, dim=0) > 0.95
    assert grads[1].dtype == torch.float32


def test_another_value_of_amp_is_named() -> None:
    with pytest.raises(ValueError, match="amp must be true, false or auto, got 'on'"):
        MixedPrecisionInferer("on")


@pytest.mark.cuda
def test_cuda_from_ampere_on_computes_in_bfloat16() -> None:
    expected = torch.cuda.get_device_capability() >= (8, 0)
    assert computes_in_bfloat16(torch.device("cuda")) is expected
