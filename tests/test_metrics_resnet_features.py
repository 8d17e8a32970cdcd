"""A ResNet's weights from a local file: names of torchvision and RadImageNet, and other files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.networks.nets import resnet18
from safetensors.torch import save_file

from monai_vqbrain.metrics.resnet_features import MEAN, SD, ResNetFeatures

IMAGES = np.random.default_rng(0).random((3, 40, 48), dtype=np.float32)


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    made: torch.nn.Module = resnet18(
        spatial_dims=2, n_input_channels=3, conv1_t_stride=2, feed_forward=False, shortcut_type="B",
        bias_downsample=False,
    )  # fmt: skip
    return made.eval()


def saved(weights: dict[str, torch.Tensor], path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file({name: value.contiguous() for name, value in weights.items()}, path)
    else:
        torch.save({"state_dict": weights}, path)
    return path


def radimagenet(name: str) -> str:
    parts = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
    first, rest = name.split(".", 1)
    return f"backbone.{parts.index(first)}.{rest}"


@pytest.mark.parametrize("ending", ["safetensors", "pt"])
@pytest.mark.parametrize("rename", [str, radimagenet, "module.{}".format])
def test_features_are_the_networks_own(
    network: torch.nn.Module, ending: str, rename: object, tmp_path: Path
) -> None:
    weights = {rename(name): value for name, value in network.state_dict().items()}  # type: ignore[operator]
    weights["fc.weight"] = torch.zeros(10, 512)  # a classifier is left out
    features = ResNetFeatures(saved(weights, tmp_path / f"w.{ending}"))(IMAGES)
    image = torch.nn.functional.interpolate(
        torch.from_numpy(IMAGES)[:, None], (224, 224), mode="bilinear", align_corners=False
    )
    mean, sd = (torch.tensor(x).view(1, 3, 1, 1) for x in (MEAN, SD))
    with torch.no_grad():
        expected = network((image.expand(-1, 3, -1, -1) - mean) / sd)
    assert features.shape == (3, 512)
    np.testing.assert_allclose(features, expected.numpy(), atol=1e-5)


def test_bytes_and_floats_give_the_same_features(network: torch.nn.Module, tmp_path: Path) -> None:
    features = ResNetFeatures(saved(network.state_dict(), tmp_path / "w.pt"), batch_size=2)
    whole = (255 * IMAGES).round().astype(np.uint8)
    np.testing.assert_allclose(features(whole), features(whole / np.float32(255)), atol=1e-5)


def test_other_files_are_refused(network: torch.nn.Module, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no weights of a ResNet-18, .* but a: give another file"):
        ResNetFeatures(saved({"a": torch.zeros(1)}, tmp_path / "a.safetensors"))
    torch.save(network, tmp_path / "code.pt")
    with pytest.raises(ValueError, match="code.pt holds no plain weights: save a state dict"):
        ResNetFeatures(tmp_path / "code.pt")
    weights = network.state_dict()
    del weights["layer4.1.conv2.weight"]
    with pytest.raises(ValueError, match="does not fit a resnet18: Missing key.*layer4.1.conv2"):
        ResNetFeatures(saved(weights, tmp_path / "short.pt"))
