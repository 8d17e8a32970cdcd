"""A feature space from a local file of weights: a ResNet without its classifier."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_vqbrain.metrics.features import BATCH, Images, batches
from monai_vqbrain.weights import read_weights

SIDE = 224  # pixels, as these networks were trained
MEAN, SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, on intensities in [0, 1]
PARTS = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
DEPTHS = {  # blocks of layer3, and whether a block has a third convolution
    (2, False): "resnet18",
    (6, False): "resnet34",
    (6, True): "resnet50",
    (23, True): "resnet101",
    (36, True): "resnet152",
}


class ResNetFeatures:
    """The pooled last features of a ResNet of two-dimensional, three-channel images.

    Nothing is downloaded. The weights of torchvision (ImageNet) and of RadImageNet have the names
    that are read; images are repeated to three channels, resized to 224 pixels and standardised as
    for ImageNet.

    Args:
        path: a state dict, as safetensors or as PyTorch writes it; read as plain tensors only.
        batch_size: images per forward pass; memory depends on it alone.

    Raises:
        ValueError: if the file holds no weights of a ResNet-18, -34, -50, -101 or -152.
    """

    def __init__(self, path: Path | str, batch_size: int = BATCH) -> None:
        self.batch_size = batch_size
        self.network = _network(_read(Path(path)), Path(path))

    def __call__(self, images: Images) -> np.ndarray:
        """(N, W, H) in [0, 1], or uint8 -> (N, 512 or 2048) float32."""
        with torch.inference_mode():
            parts = [self._features(batch).numpy() for batch in batches(images, self.batch_size)]
        return np.concatenate(parts)

    def _features(self, images: Tensor) -> Tensor:
        mean, sd = (torch.tensor(x).view(1, 3, 1, 1) for x in (MEAN, SD))
        large = F.interpolate(images, (SIDE, SIDE), mode="bilinear", align_corners=False)
        features: Tensor = self.network((large - mean) / sd)
        return features.flatten(1)


def _read(path: Path) -> Mapping[str, Tensor]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    try:
        found: Any = read_weights(path)
    except ValueError as error:
        raise ValueError(f"{path} holds no plain weights: save a state dict") from error
    return dict(found.get("state_dict", found)) if isinstance(found, dict) else {}


def _network(weights: Mapping[str, Tensor], path: Path) -> nn.Module:
    from monai.networks import nets  # seconds to import

    named = {_usual_name(name): value for name, value in weights.items()}
    blocks = {match[1] for name in named if (match := re.match(r"layer3\.(\d+)\.", name))}
    depth = DEPTHS.get((len(blocks), "layer1.0.conv3.weight" in named))
    if depth is None:
        raise ValueError(
            f"{path} holds no weights of a ResNet-18, -34, -50, -101 or -152, but "
            f"{', '.join(list(weights)[:3]) or 'nothing'}: give another file"
        )
    options = {"spatial_dims": 2, "n_input_channels": 3, "conv1_t_stride": 2, "feed_forward": False}
    network: nn.Module = getattr(nets, depth)(**options, shortcut_type="B", bias_downsample=False)
    kept = {name: value for name, value in named.items() if name in network.state_dict()}
    try:
        network.load_state_dict(kept)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip()
        raise ValueError(f"{path} does not fit a {depth}: {first}") from error
    return network.eval()


def _usual_name(name: str) -> str:
    """Names as torchvision has them: `module.conv1.weight`, `backbone.0.weight` -> conv1.weight."""
    name = re.sub(r"^(module\.|model\.|encoder\.)+", "", name)
    if match := re.match(r"backbone\.(\d)\.(.*)", name):
        return f"{PARTS[int(match[1])]}.{match[2]}" if int(match[1]) < len(PARTS) else name
    return name
