"""Inferers of both networks: the results of samplers, code_bits and networks in MONAI's form."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.inferers import Inferer
from monai.networks.nets import VQVAE
from torch import Tensor

from monai_vqbrain.engines import CodeBitsLoss, PriorBatch
from monai_vqbrain.inferers import (
    AncestralSampler,
    PixelCNNInferer,
    VolumeSampler,
    VQVAEInferer,
    code_bits,
)
from monai_vqbrain.networks import BrainVQVAE, PixelCNN

K, GRID = 16, (4, 6)
CONDITIONS = {"age": [50.0, 90.0]}
AGES = torch.tensor([[60.0], [70.0], [torch.nan]])


def prior(grid: tuple[int, ...] = GRID, **options: Any) -> PixelCNN:
    """A small prior whose logits are not nearly equal; left in training mode, with dropout."""
    torch.manual_seed(0)
    network = PixelCNN(K, grid, 8, 2, dropout=0.2, **options)
    torch.nn.init.normal_(network.head.weight)
    return network


def vqvae(groups: int = 1) -> BrainVQVAE:
    torch.manual_seed(0)
    return BrainVQVAE(width=8, blocks=(1, 1), num_codes=K, code_dim=4, groups=groups)


def codes_of(network: PixelCNN, seed: int = 1) -> Tensor:
    shape = (3, *network.settings["grid"])
    return torch.randint(K, shape, generator=torch.Generator().manual_seed(seed))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


PRIORS: list[dict[str, Any]] = [
    {},
    {"conditions": CONDITIONS, "neighbour": True},
    {"grid": (2, 4, 6)},
]


def given(network: PixelCNN) -> dict[str, Tensor]:
    """The conditions and previous slices that a prior takes."""
    found = {"condition": AGES} if network.conditions is not None else {}
    if network.neighbour is not None:
        found["neighbour"] = codes_of(network, seed=2)
    return found


@pytest.mark.parametrize("settings", PRIORS, ids=str)
def test_the_call_gives_the_priors_logits(settings: dict[str, Any]) -> None:
    network = prior(**settings).eval()
    codes = codes_of(network)
    logits = PixelCNNInferer()(codes, network, **given(network))
    assert logits.shape == (3, K, *network.settings["grid"])
    assert torch.equal(logits, network(codes, **given(network)))
    assert logits.requires_grad


def test_the_call_is_in_bfloat16_where_asked() -> None:
    network = prior().eval()
    codes, seen = codes_of(network), []
    network.join.register_forward_hook(lambda *of: seen.append(of[2].dtype))
    logits = PixelCNNInferer(amp=True)(codes, network)
    assert logits.dtype == torch.float32
    PixelCNNInferer()(codes, network)
    PixelCNNInferer(amp=True).get_likelihood(codes, network)
    assert seen == [torch.bfloat16, torch.float32, torch.float32]


def test_another_value_of_amp_is_named() -> None:
    with pytest.raises(ValueError, match="amp must be true, false or auto, got 'on'"):
        PixelCNNInferer(amp="on")


@pytest.mark.parametrize("settings", PRIORS, ids=str)
def test_the_likelihood_is_that_of_code_bits(settings: dict[str, Any]) -> None:
    network = prior(**settings)
    codes = codes_of(network)
    bits = PixelCNNInferer().get_likelihood(codes, network, **given(network))
    assert bits.dtype == torch.float32
    assert torch.equal(bits, code_bits(network, codes, **given(network)))
    assert network.training


@pytest.mark.parametrize("settings", PRIORS, ids=str)
@pytest.mark.parametrize("options", [{}, {"temperature": 2.0, "top_p": 0.6}], ids=str)
def test_samples_are_the_samplers_codes_decoded(
    settings: dict[str, Any], options: dict[str, Any]
) -> None:
    network, sampler = prior(**settings), AncestralSampler(**options)
    decoder = vqvae(network.groups)
    inferer = PixelCNNInferer(sampler)
    images, codes = inferer.sample(
        network, decoder, 3, seeded(), return_codes=True, **given(network)
    )
    assert torch.equal(codes, sampler(network, 3, seeded(), **given(network)))
    with torch.no_grad():
        assert torch.equal(images, decoder.eval().decode_samples(codes).clamp(0, 1))
    assert images.min() >= 0
    assert images.max() <= 1
    assert torch.equal(inferer.sample(network, decoder, 3, seeded(), **given(network)), images)


def test_known_codes_and_a_base_of_guidance_reach_the_sampler() -> None:
    network, sampler = prior(conditions=CONDITIONS), AncestralSampler(guidance=2.0)
    known = codes_of(network)
    known[:, 2:] = -1
    asked = {"condition": AGES, "known": known, "base": AGES.flip(0)}
    _, codes = PixelCNNInferer(sampler).sample(
        network, vqvae(), 3, seeded(), return_codes=True, **asked
    )
    assert torch.equal(codes, sampler(network, 3, seeded(), **asked))
    assert torch.equal(codes[:, :2], known[:, :2])


@pytest.mark.parametrize("grid", [GRID, (2, 4, 6)], ids=str)
def test_volumes_are_the_volume_samplers_decoded_slice_by_slice(grid: tuple[int, ...]) -> None:
    network = prior(grid, conditions=CONDITIONS, neighbour=True)
    sampler, decoder = VolumeSampler(AncestralSampler()), vqvae(network.groups)
    images, codes = PixelCNNInferer(sampler).sample(
        network, decoder, 2, seeded(), return_codes=True, condition=AGES
    )
    assert torch.equal(codes, sampler(network, 2, seeded(), AGES))
    assert images.shape == (2, 1, 16, 24, 3)
    with torch.no_grad():
        for index, part in enumerate(codes.unbind(1)):
            expected = decoder.eval().decode_samples(part).clamp(0, 1)
            assert torch.equal(images[..., index], expected)


def test_sampling_leaves_the_networks_modes_and_global_randomness_alone() -> None:
    network, decoder = prior(), vqvae().train()
    before = torch.get_rng_state()
    images = PixelCNNInferer().sample(network, decoder, 2, seeded())
    assert network.training
    assert decoder.training
    assert not images.requires_grad
    assert torch.equal(torch.get_rng_state(), before)


def code_batch() -> dict[str, Any]:
    network = prior(conditions=CONDITIONS, neighbour=True)
    return {"codes": codes_of(network), "condition": AGES, "neighbour": codes_of(network, seed=2)}


def test_monais_supervised_evaluator_takes_the_priors_inferer() -> None:
    network, batch = prior(conditions=CONDITIONS, neighbour=True), code_batch()
    inferer = PixelCNNInferer()
    assert isinstance(inferer, Inferer)
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=[batch],
        network=network,
        prepare_batch=PriorBatch(),
        inferer=inferer,
        decollate=False,
    )
    evaluator.run()
    with torch.no_grad():
        expected = network.eval()(batch["codes"], batch["condition"], batch["neighbour"])
    assert torch.equal(evaluator.state.output["pred"], expected)


def test_monais_supervised_trainer_takes_the_priors_inferer() -> None:
    network, losses = prior(conditions=CONDITIONS, neighbour=True), []
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=40,
        train_data_loader=[code_batch()],
        network=network,
        optimizer=torch.optim.Adam(network.parameters(), 0.01),
        loss_function=CodeBitsLoss(),
        prepare_batch=PriorBatch(),
        inferer=PixelCNNInferer(amp=True),
        decollate=False,
    )
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: losses.append(float(engine.state.output["loss"]))
    )
    trainer.run()
    assert losses[-1] < 0.5 * losses[0]


def test_the_vqvaes_inferer_gives_codes_and_reconstructions() -> None:
    network, images = vqvae().eval(), torch.rand(2, 1, 18, 15, generator=seeded())
    inferer = VQVAEInferer()
    assert isinstance(inferer, Inferer)
    with torch.no_grad():
        codes = inferer.encode(images, network)
        assert torch.equal(codes, network.index_quantize(images))
        assert torch.equal(inferer.decode(codes, network, like=images), network(images))
        assert torch.equal(inferer(images, network), network(images))


def test_the_vqvaes_inferer_takes_monais_network() -> None:
    torch.manual_seed(0)
    network = VQVAE(2, 1, 1, (8,), 1, (8,), ((2, 4, 1, 1),), ((2, 4, 1, 1, 0),), K, 4).eval()
    images = torch.rand(2, 1, 16, 12, generator=seeded())
    with torch.no_grad():
        torch.testing.assert_close(VQVAEInferer()(images, network), network(images)[0])


def test_monais_supervised_evaluator_takes_the_vqvaes_inferer() -> None:
    network, images = vqvae(), torch.rand(2, 1, 16, 16, generator=seeded())
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=[{"image": images, "label": images}],
        network=network,
        inferer=VQVAEInferer(),
        decollate=False,
    )
    evaluator.run()
    with torch.no_grad():
        assert torch.equal(evaluator.state.output["pred"], network.eval()(images))
