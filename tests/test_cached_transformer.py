"""Cached sampling from MONAI's transformer: its logits, its codes, and nothing computed twice."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.inferers import VQVAETransformerInferer
from monai.networks.nets import VQVAE, DecoderOnlyTransformer
from monai.utils.ordering import Ordering
from torch import Tensor, nn

from monai_vqbrain.interop import CachedTransformer, CachedTransformerInferer

NUM_CODES, WIDTH = 16, 12
NETWORKS = [
    pytest.param({}, id="plain"),
    pytest.param({"use_flash_attention": True}, id="flash"),
    pytest.param({"use_combined_linear": True}, id="combined"),
    pytest.param({"include_fc": False}, id="no-fc"),
    pytest.param({"with_cross_attention": True}, id="cross"),
    pytest.param({"with_cross_attention": True, "use_flash_attention": True}, id="cross-flash"),
]
ORDERINGS = [
    pytest.param((4, 6), {"ordering_type": "raster_scan"}, id="raster"),
    pytest.param(
        (5, 3),
        {"ordering_type": "s_curve", "transpositions_axes": ((1, 0),)},
        id="transposed-s-curve",
    ),
    pytest.param((2, 3, 4), {"ordering_type": "random"}, id="random-3d"),
]


def transformer(max_seq_len: int = 24, **options: Any) -> DecoderOnlyTransformer:
    """A small transformer in float64 whose logits are not nearly equal; left in training mode."""
    torch.manual_seed(0)
    network = DecoderOnlyTransformer(
        NUM_CODES + 1, max_seq_len, WIDTH, 2, 3, embedding_dropout_rate=0.3, **options
    )
    nn.init.normal_(network.to_logits.weight)
    return network.double()


def condition(network: DecoderOnlyTransformer, batch_size: int) -> Tensor | None:
    """A conditioning of five tokens, where the network takes one."""
    if not network.with_cross_attention:
        return None
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch_size, 5, WIDTH, generator=generator, dtype=torch.float64)


class Codes(nn.Module):
    """Stands for a VQVAE whose images are the codes themselves."""

    num_embeddings = NUM_CODES

    def decode_samples(self, codes: Tensor) -> Tensor:
        assert not self.training
        return codes


def arguments(network: Any, batch_size: int = 3, **changes: Any) -> dict[str, Any]:
    """What `sample` takes, for a grid of 4 by 6."""
    given = {
        "latent_spatial_dim": (4, 6),
        "starting_tokens": torch.full((batch_size, 1), NUM_CODES),
        "vqvae_model": Codes().eval(),
        "transformer_model": network,
        "ordering": Ordering("raster_scan", 2, (1, 4, 6)),
        "verbose": False,
    }
    return given | changes


def drawn(inferer: VQVAETransformerInferer, given: dict[str, Any], seed: int = 0) -> Tensor:
    """What an inferer samples from a seed, and last the number that the generator yields next."""
    torch.manual_seed(seed)
    sample = inferer.sample(**given).double()
    return torch.cat((sample.flatten(), torch.rand(1, dtype=torch.float64)))


def assert_the_same_is_drawn(given: dict[str, Any]) -> None:
    """Ours from a network in training mode is MONAI's own from one in evaluation mode."""
    ours = drawn(CachedTransformerInferer(), given)
    given["transformer_model"].eval()
    assert torch.equal(ours, drawn(VQVAETransformerInferer(), given))
    assert not torch.equal(ours, drawn(VQVAETransformerInferer(), given, seed=1))


@pytest.mark.parametrize("options", NETWORKS)
@pytest.mark.parametrize("batch_size", [1, 3])
@torch.no_grad()
def test_cached_logits_are_the_networks(options: dict[str, Any], batch_size: int) -> None:
    network = transformer(**options).float().eval()
    context = condition(network, batch_size)
    context = None if context is None else context.float()
    tokens = torch.randint(NUM_CODES + 1, (batch_size, 24))
    walk = CachedTransformer(network, batch_size, 24, context)
    logits = torch.stack([walk.logits(token) for token in tokens.T], dim=1)
    torch.testing.assert_close(logits, network(tokens, context), atol=1e-5, rtol=0)


@pytest.mark.parametrize("options", NETWORKS)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_seed_draws_monais_codes(options: dict[str, Any], batch_size: int) -> None:
    network = transformer(**options)
    context = condition(network, batch_size)
    assert_the_same_is_drawn(arguments(network, batch_size, conditioning=context))


@pytest.mark.parametrize(("grid", "options"), ORDERINGS)
def test_every_ordering_is_reverted(grid: tuple[int, ...], options: dict[str, Any]) -> None:
    ordering = Ordering(spatial_dims=len(grid), dimensions=(1, *grid), **options)
    given = arguments(transformer(), latent_spatial_dim=grid, ordering=ordering)
    assert CachedTransformerInferer().sample(**given).shape == (3, *grid)
    assert_the_same_is_drawn(given)


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": 0.5},
        {"temperature": 2.0, "top_k": 5},
        {"top_k": 1000},  # more than there are
    ],
    ids=str,
)
def test_temperature_and_top_k_mean_the_same(changes: dict[str, Any]) -> None:
    assert_the_same_is_drawn(arguments(transformer(), **changes))


def test_equal_logits_all_stay_within_the_top() -> None:
    network = transformer()
    nn.init.zeros_(network.to_logits.weight)
    nn.init.zeros_(network.to_logits.bias)
    assert_the_same_is_drawn(arguments(network, top_k=2))


def test_given_codes_are_kept() -> None:
    network = transformer(max_seq_len=26)
    start = torch.tensor([[NUM_CODES, 3, 1], [NUM_CODES, 7, 7]])
    given = arguments(network, starting_tokens=start)
    sample = CachedTransformerInferer().sample(**given)
    assert torch.equal(sample[:, 0, :2], start[:, 1:])
    assert_the_same_is_drawn(given)


def test_one_conditioning_serves_a_batch() -> None:
    network = transformer(with_cross_attention=True)
    assert_the_same_is_drawn(arguments(network, conditioning=condition(network, 1)))


def test_without_cross_attention_conditioning_is_not_looked_at() -> None:
    assert_the_same_is_drawn(arguments(transformer(), conditioning=torch.zeros(2, 5, WIDTH)))


@pytest.mark.parametrize(("max_seq_len", "calls"), [(24, 0), (23, 24)])
def test_only_what_is_too_long_is_computed_again(max_seq_len: int, calls: int) -> None:
    network = transformer(max_seq_len)
    seen = []
    hook = network.register_forward_hook(lambda *_: seen.append(1))
    given = arguments(network)
    CachedTransformerInferer().sample(**given)
    hook.remove()
    assert len(seen) == calls
    assert_the_same_is_drawn(given)


def test_images_are_the_vqvaes() -> None:
    strides = (((2, 4, 1, 1),), ((2, 4, 1, 1, 0),))
    vqvae = VQVAE(2, 1, 1, (8,), 1, (8,), *strides, NUM_CODES, 4, dropout=0.5)
    given = arguments(transformer(), vqvae_model=vqvae)
    ours = CachedTransformerInferer().sample(**given)
    assert ours.shape == (3, 1, 8, 12)
    assert vqvae.training
    vqvae.eval()
    assert_the_same_is_drawn(given)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("max_seq_len", [24, 10])
def test_training_modes_are_restored(training: bool, max_seq_len: int) -> None:
    network, codes = transformer(max_seq_len).train(training), Codes().train(training)
    CachedTransformerInferer().sample(**arguments(network, vqvae_model=codes))
    assert network.training == network.embedding_dropout.training == codes.training == training


def test_samples_can_be_trained_on() -> None:
    network = transformer()
    sample = CachedTransformerInferer().sample(**arguments(network))
    assert not sample.requires_grad
    network(sample.flatten(1)).sum().backward()
    assert network.to_logits.weight.grad is not None


@pytest.mark.parametrize("verbose", [True, False])
def test_progress_names_the_step(
    verbose: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("monai_vqbrain.progress.LOG_EVERY", 0.0)
    CachedTransformerInferer().sample(**arguments(transformer(), verbose=verbose))
    assert ("sample" in capsys.readouterr().err) == verbose


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_a_seed_draws_monais_codes() -> None:
    network = transformer(with_cross_attention=True).cuda()
    start = torch.full((3, 1), NUM_CODES, device="cuda")
    context = torch.ones(3, 5, WIDTH, dtype=torch.float64, device="cuda")
    assert_the_same_is_drawn(arguments(network, starting_tokens=start, conditioning=context))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"temperature": 0.0}, "temperature is 0.0: it must be above 0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_k": 0}, "top_k is 0: it must be at least 1, or None for all tokens"),
        (
            {"transformer_model": nn.Linear(1, 1)},
            "the transformer is a Linear: .* for MONAI's DecoderOnlyTransformer alone",
        ),
    ],
)
def test_refuses_arguments_by_their_values(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        CachedTransformerInferer().sample(**arguments(transformer(), **changes))


@pytest.mark.parametrize("max_seq_len", [24, 10])
@pytest.mark.parametrize(
    ("context", "words"),
    [
        (None, "conditioning is None: this transformer's cross-attention needs a"),
        (torch.zeros(2, 5, WIDTH), r"conditioning is \(2, 5, 12\): .* B being 3 .* or 1"),
        (torch.zeros(3, WIDTH), r"conditioning is \(3, 12\): .* needs a \(B, n, C\) tensor"),
    ],
)
def test_refuses_conditioning_that_does_not_fit(
    context: Tensor | None, words: str, max_seq_len: int
) -> None:
    network = transformer(max_seq_len, with_cross_attention=True)
    with pytest.raises(ValueError, match=words):
        CachedTransformerInferer().sample(**arguments(network, conditioning=context))


def test_refuses_an_adapter_around_a_layer() -> None:
    class LowRank(nn.Linear):
        pass

    network = transformer()
    network.blocks[1].mlp.linear1 = LowRank(WIDTH, 4 * WIDTH)
    with pytest.raises(ValueError, match="holds a LowRank in the place of a Linear .* merge it"):
        CachedTransformer(network, 1, 24)


def test_refuses_a_walk_longer_than_the_positions_known() -> None:
    with pytest.raises(ValueError, match="length is 25: max_seq_len is 24"):
        CachedTransformer(transformer(), 1, 25)
