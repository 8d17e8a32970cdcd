"""BrainVQVAE: shapes, MONAI's interface, export, learning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from monai.inferers import VQVAETransformerInferer
from monai.networks.nets import VQVAE, DecoderOnlyTransformer
from monai.utils.ordering import Ordering
from onnx.reference import ReferenceEvaluator

from monai_vqbrain.networks import BrainVQVAE
from monai_vqbrain.networks.vqvae import crop

SMALL = {"width": 8, "blocks": (1, 1), "num_codes": 16, "code_dim": 4}


def images(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("arguments", "size", "grid"),
    [
        ({}, (16, 24), (4, 6)),
        ({"factor": 8}, (16, 24), (2, 3)),
        ({}, (18, 21), (5, 6)),
        ({"factor": 3}, (9, 10), (3, 4)),
        ({"spatial_dims": 3}, (8, 12, 16), (2, 3, 4)),
        ({"spatial_dims": 3}, (7, 12, 13), (2, 3, 4)),
    ],
)
def test_shapes(arguments: dict[str, Any], size: tuple[int, ...], grid: tuple[int, ...]) -> None:
    network = BrainVQVAE(**{**SMALL, **arguments}).eval()
    assert network(images(*size)).shape == (2, 1, *size)
    assert network.index_quantize(images(*size)).shape == (2, *grid)


QUANTIZERS = pytest.mark.parametrize(
    ("arguments", "num_codes", "codes"),
    [
        ({}, 16, (2, 5, 4)),
        ({"groups": 2}, 16, (2, 2, 5, 4)),
        ({"num_codes": (4, 3, 2)}, 24, (2, 5, 4)),
    ],
    ids=["a codebook", "two codebooks", "levels"],
)


@QUANTIZERS
def test_any_quantizer_serves(
    arguments: dict[str, Any], num_codes: int, codes: tuple[int, ...]
) -> None:
    network = BrainVQVAE(**{**SMALL, **arguments}).train()
    x = images(18, 16)
    reconstruction, loss = network(x)
    assert reconstruction.shape == x.shape
    assert loss.ndim == 0
    network.eval()
    found = network.index_quantize(x)
    assert found.shape == codes
    assert found.max() < num_codes == network.num_codes
    assert torch.allclose(crop(network.decode_samples(found), x), network(x), atol=1e-6)
    again = BrainVQVAE(**network.settings).eval()
    again.load_state_dict(network.state_dict())
    assert torch.equal(again(x), network(x))


def test_default_size_is_small() -> None:
    assert sum(p.numel() for p in BrainVQVAE().parameters()) == 229_144


def test_it_offers_what_monais_vqvae_offers() -> None:
    theirs = {name for name in vars(VQVAE) if not name.startswith("_")}
    assert theirs <= set(dir(BrainVQVAE))
    network = BrainVQVAE(**SMALL).eval()
    x = images(16, 16)
    encodings = network.encode(x)
    quantised, loss = network.quantize(encodings)
    codes = network.index_quantize(x)
    assert network.num_embeddings == 16
    assert loss.ndim == 0
    assert torch.allclose(network.encode_stage_2_inputs(x), quantised, atol=1e-6)
    assert torch.allclose(network.decode(quantised), network(x), atol=1e-5)
    assert torch.allclose(network.decode_samples(codes), network(x), atol=1e-6)
    assert torch.allclose(network.decode_stage_2_outputs(encodings), network(x), atol=1e-6)


def test_monais_transformer_inferer_takes_it() -> None:
    network = BrainVQVAE(**SMALL).eval()
    transformer = DecoderOnlyTransformer(
        num_tokens=17, max_seq_len=16, attn_layers_dim=8, attn_layers_depth=1, attn_layers_heads=1
    )
    order = Ordering("raster_scan", 2, (1, 4, 4))
    inferer = VQVAETransformerInferer()
    logits = inferer(images(16, 16), network, transformer, order)
    assert logits.shape == (2, 16, 17)


def test_encoding_never_changes_the_codebook_even_in_training_mode() -> None:
    network = BrainVQVAE(**SMALL).train()
    network(images(16, 16))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    network.index_quantize(images(16, 16, seed=1))
    network.encode_stage_2_inputs(images(16, 16, seed=1))
    network.decode_stage_2_outputs(network.encode(images(16, 16, seed=1)))
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


@QUANTIZERS
def test_torchscript_and_export_give_the_same(
    arguments: dict[str, Any], num_codes: int, codes: tuple[int, ...]
) -> None:
    network = BrainVQVAE(**{**SMALL, **arguments}).eval()
    x = images(18, 16)
    assert torch.equal(torch.jit.script(network)(x), network(x))
    assert torch.allclose(torch.export.export(network, (x,)).module()(x), network(x), atol=1e-6)


@QUANTIZERS
@pytest.mark.parametrize("side", [18, 16])
def test_an_export_with_dynamic_sizes_takes_all(
    arguments: dict[str, Any], num_codes: int, codes: tuple[int, ...], side: int
) -> None:
    network = BrainVQVAE(**{**SMALL, **arguments}).eval()
    dynamic = dict.fromkeys((0, 2, 3), torch.export.Dim.AUTO)
    exported = torch.export.export(network, (images(side, side),), dynamic_shapes=(dynamic,))
    for size in ((18, 18), (21, 19), (16, 20), (5, 50)):
        x = images(*size).repeat(2, 1, 1, 1)
        assert torch.allclose(exported.module()(x), network(x), atol=1e-6)


class FromCodes(torch.nn.Module):
    """The decoder alone, as an ONNX file wants it: codes to images."""

    def __init__(self, network: BrainVQVAE) -> None:
        super().__init__()
        self.network = network

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        return self.network.decode_samples(codes)


@QUANTIZERS
def test_the_decoder_from_codes_goes_to_onnx(
    tmp_path: Path, arguments: dict[str, Any], num_codes: int, codes: tuple[int, ...]
) -> None:
    network = BrainVQVAE(**{**SMALL, **arguments}).eval()
    grids = torch.randint(num_codes, codes, generator=torch.Generator().manual_seed(0))
    path = tmp_path / "decoder.onnx"
    torch.onnx.export(FromCodes(network), (grids,), str(path), input_names=["codes"], dynamo=False)
    onnx.checker.check_model(str(path), full_check=True)
    (found,) = ReferenceEvaluator(str(path)).run(None, {"codes": grids.numpy()})
    assert np.allclose(found, network.decode_samples(grids).detach(), atol=1e-5)


def test_it_learns() -> None:
    torch.manual_seed(0)
    network = BrainVQVAE(**SMALL).train()
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    ramp = torch.linspace(0, 1, 16).expand(2, 1, 16, 16)
    errors = []
    for _ in range(60):
        reconstruction, loss = network(ramp)
        error = (reconstruction - ramp).abs().mean()
        optimizer.zero_grad()
        (error + loss).backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < 0.3 * errors[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"spatial_dims": 4}, "spatial_dims must be 2 or 3, got 4"),
        ({"factor": 1}, "factor must be 2 or more and width 1 or more, got 1 and 8"),
        ({"blocks": (1, -1)}, r"blocks must be two integers of 0 or more, got \(1, -1\)"),
        ({"blocks": 4}, "blocks must be two integers of 0 or more, got 4"),
        ({"blocks": (1.0, 4)}, r"blocks must be two integers of 0 or more, got \(1.0, 4\)"),
        ({"num_codes": 512.0}, r"must be an integer, or levels such as \(8, 8, 8\), got 512.0"),
        ({"num_codes": "512"}, "must be an integer, or levels such as .*, got '512'"),
        ({"num_codes": (8, 8), "groups": 2}, "with levels as num_codes, groups must be 1, got 2"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        BrainVQVAE(**{**SMALL, **arguments})


@pytest.mark.parametrize("shape", [(2, 1, 16, 16, 16), (2, 3, 16, 16), (1, 16, 16)])
def test_wrong_shapes_are_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"images must be \(B, 1, H, W\), got shape"):
        BrainVQVAE(**SMALL).eval()(torch.zeros(shape))
