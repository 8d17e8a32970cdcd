"""Losses: each against an oracle, its gradient, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.losses import PatchAdversarialLoss
from monai.networks.nets import PatchDiscriminator
from skimage.metrics import structural_similarity
from torch import nn

from monai_vqbrain.losses import FeatureLoss, PatchAdversary, SliceSSIMLoss, VQVAELoss
from monai_vqbrain.metrics.ssim import similarity, ssim_map


def images(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A smooth target and a noisy prediction of it, (2, 1, 24, 17) each, in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    target = nn.functional.interpolate(torch.rand(2, 1, 8, 6, generator=generator), (24, 17))
    noise = torch.randn(target.shape, generator=generator)
    return (target + 0.1 * noise).clamp(0, 1), target


# Structural similarity.


def test_ssim_loss_is_scikit_images_mean_over_whole_slices() -> None:
    prediction, target = images()
    expected = [
        structural_similarity(
            p[0].numpy(),
            t[0].numpy(),
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1,
            full=True,
        )[1].mean()
        for p, t in zip(prediction, target, strict=True)
    ]
    assert SliceSSIMLoss()(prediction, target).item() == pytest.approx(
        1 - np.mean(expected), abs=1e-5
    )


def test_ssim_loss_has_the_gradient_of_its_values() -> None:
    prediction, target = images()
    loss, step = SliceSSIMLoss(), torch.randn(prediction.shape)
    prediction.requires_grad_()
    loss(prediction, target).backward()
    with torch.no_grad():
        difference = loss(prediction + 5e-3 * step, target) - loss(prediction - 5e-3 * step, target)
    assert (prediction.grad * step).sum().item() == pytest.approx(
        difference.item() / 1e-2, rel=0.02
    )


def test_a_stride_takes_every_other_pixel_and_hardly_turns_the_gradient() -> None:
    prediction, target = images()
    whole = ssim_map(prediction, target)
    torch.testing.assert_close(similarity(prediction, target, 2), whole[..., ::2, ::2])
    grads = []
    for stride in (1, 2):
        prediction.grad = None
        SliceSSIMLoss(stride)(prediction.requires_grad_(), target).backward()
        grads.append(prediction.grad.flatten())
    assert torch.cosine_similarity(*grads, dim=0) > 0.98


def test_a_pixel_out_of_range_is_drawn_back() -> None:
    target = torch.zeros(1, 1, 16, 16)
    prediction = torch.full_like(target, -0.3).requires_grad_()
    loss = SliceSSIMLoss()(prediction, target)
    loss.backward()
    assert loss > 0.1
    assert (prediction.grad < 0).all()


def test_ssim_loss_is_float32_under_autocast() -> None:
    prediction, target = images()
    with torch.autocast("cpu", torch.bfloat16):
        found = SliceSSIMLoss()(prediction.bfloat16(), target)
    assert found.item() == SliceSSIMLoss()(prediction.bfloat16().float(), target).item()


def test_ssim_loss_keeps_float64() -> None:
    prediction, target = (image[:1, :, :13, :12].double() for image in images())
    assert SliceSSIMLoss()(prediction, target).dtype == torch.float64
    loss = SliceSSIMLoss(2)
    assert torch.autograd.gradcheck(lambda x: loss(x, target), prediction.requires_grad_())


# The sum.


@pytest.mark.parametrize(
    ("loss", "expected", "parts"),
    [
        (VQVAELoss(), 0.5 + 2, {"l1": 0.5}),
        (VQVAELoss({"l2": nn.MSELoss()}, {"l2": 4}), 4 * 0.25 + 2, {"l2": 0.25}),
        (VQVAELoss({"a": nn.L1Loss(), "b": nn.MSELoss()}), 0.75 + 2, {"a": 0.5, "b": 0.25}),
        (VQVAELoss({"a": nn.L1Loss(), "b": nn.MSELoss()}, {"b": 0}), 0.5 + 2, {"a": 0.5}),
    ],
)
def test_the_vqvaes_loss_is_the_weighted_sum_of_its_parts(
    loss: VQVAELoss, expected: float, parts: dict[str, float]
) -> None:
    prediction = torch.full((2, 1, 4, 4), 0.5, requires_grad=True)
    found = loss((prediction, torch.tensor(2.0)), torch.zeros(2, 1, 4, 4))
    assert found.item() == pytest.approx(expected)
    assert found.requires_grad
    assert {name: value.item() for name, value in loss.parts.items()} == {"quantizer": 2, **parts}
    assert not any(value.requires_grad for value in loss.parts.values())


# Features.


def feature_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1))


def test_feature_loss_is_the_distance_of_unit_vectors() -> None:
    prediction, target = images()
    network = feature_network()

    def unit(grey: torch.Tensor, depth: int) -> np.ndarray:
        with torch.no_grad():
            found = network[:depth](((grey - 0.4) / 0.2).expand(-1, 3, -1, -1)).numpy()
        return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-6)

    expected = np.mean(
        [((unit(prediction, d) - unit(target, d)) ** 2).sum(1).mean() for d in (1, 3)]
    )
    loss = FeatureLoss(network, ["0", "2"], mean=0.4, std=0.2)
    assert loss(prediction, target).item() == pytest.approx(expected, rel=1e-5)
    assert loss(target, target).item() == 0


def test_feature_loss_has_a_gradient_and_its_network_none() -> None:
    prediction, target = images()
    loss = FeatureLoss(feature_network(), ["2"])
    loss(prediction.requires_grad_(), target).backward()
    assert prediction.grad.abs().sum() > 0
    assert not any(weight.requires_grad for weight in loss.parameters())
    assert not loss.network.training


def test_feature_weights_come_from_a_local_file(tmp_path: Path) -> None:
    trained, fresh = feature_network(), feature_network()
    nn.init.ones_(trained[0].weight)
    torch.save(trained.state_dict(), tmp_path / "weights.pt")
    loss = FeatureLoss(fresh, ["0"], tmp_path / "weights.pt")
    assert torch.equal(loss.network[0].weight, trained[0].weight)


class Anything:
    """An object whose unpickling would run code."""


# The adversary.


def adversary(**arguments: Any) -> PatchAdversary:
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(
        2, channels=4, in_channels=1, num_layers_d=2, norm="INSTANCE"
    )
    return PatchAdversary(discriminator, **arguments)


def test_the_vqvaes_side_wants_to_look_real_and_leaves_the_discriminator() -> None:
    prediction, target = images()
    both = adversary(criterion=PatchAdversarialLoss())
    loss = both(prediction.requires_grad_(), target)
    loss.backward()
    logits = both.discriminator(prediction)[-1]
    activated = nn.functional.leaky_relu(logits, 0.05)
    assert loss.item() == pytest.approx(((activated - 1) ** 2).mean().item(), rel=1e-5)
    assert prediction.grad.abs().sum() > 0
    weights = list(both.discriminator.parameters())
    assert all(weight.grad is None and weight.requires_grad for weight in weights)


def test_the_discriminators_side_tells_both_apart_and_leaves_the_prediction() -> None:
    prediction, target = images()
    both = adversary(criterion=PatchAdversarialLoss())
    loss = both.judge(prediction.requires_grad_(), target)
    loss.backward()
    fake, real = (
        nn.functional.leaky_relu(both.discriminator(x)[-1], 0.05) for x in (prediction, target)
    )
    expected = (fake.square().mean() + (real - 1).square().mean()) / 2
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert prediction.grad is None
    assert all(weight.grad is not None for weight in both.discriminator.parameters())


def test_an_adversary_that_waits_costs_nothing() -> None:
    both = adversary(inferer=lambda *_: pytest.fail("the discriminator was asked"))
    both.active = False
    assert both(*images()).item() == 0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda _: SliceSSIMLoss(0), "stride must be 1 or more, got 0"),
        (lambda _: SliceSSIMLoss()(torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 8, 8)), r"must both"),
        (lambda _: VQVAELoss({}), "terms must name at least one loss, such as l1, got none"),
        (lambda _: VQVAELoss(weights={"ssim": 1}), "weights must name terms, l1, not ssim"),
        (lambda _: VQVAELoss(weights={"l1": -1}), "weight of l1 must be 0 or more, got -1"),
        (lambda _: FeatureLoss(feature_network(), ["3"]), r"got \['3'\]; there are: 0, 1, 2"),
        (lambda _: FeatureLoss(feature_network(), []), r"layers must name modules, got \[\]"),
        (
            lambda folder: FeatureLoss(feature_network(), ["0"], folder / "none.pt"),
            "weights must be a local file, and .*none.pt is not there",
        ),
        (
            lambda folder: FeatureLoss(nn.Sequential(nn.Conv2d(3, 2, 1)), ["0"], folder / "w.pt"),
            "w.pt is no state dict of Sequential: .* Unexpected key",
        ),
        (
            lambda folder: FeatureLoss(feature_network(), ["0"], folder / "code.pt"),
            "code.pt is no state dict of Sequential: Weights only load failed",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, call: Any, words: str) -> None:
    torch.save(feature_network().state_dict(), tmp_path / "w.pt")
    torch.save(Anything(), tmp_path / "code.pt")
    with pytest.raises(ValueError, match=words):
        call(tmp_path)
