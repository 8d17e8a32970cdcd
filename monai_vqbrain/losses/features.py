"""A perceptual loss with a network and weights of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_vqbrain.weights import read_weights


class FeatureLoss(nn.Module):
    """How far apart a frozen network's features of two images are.

    Features are scaled to length 1 at every pixel, and their squared distances are averaged over
    pixels and layers, as LPIPS does without its learnt weights. Nothing is downloaded. (MONAI's
    PerceptualLoss reads a local file for torchvision's ResNet-50 only; with it, use that.)

    Args:
        network: takes images (B, channels, *size); frozen here, in evaluation mode.
        layers: names of its modules whose outputs (B, C, *grid) are compared.
        weights: local file with its state dict, read as plain tensors; None if it has them.
        channels: that it expects; grey images are repeated.
        mean: subtracted from the intensities in [0, 1] first.
        std: then divided by.

    Raises:
        ValueError: if a layer is not in the network, or the file not its state dict.

    Source: Zhang et al., The unreasonable effectiveness of deep features as a perceptual metric,
    2018, arXiv 1801.03924.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
        >>> image = torch.rand(2, 1, 16, 16)
        >>> FeatureLoss(network, layers=["1"], channels=1)(image, image)
        tensor(0.)
    """

    def __init__(
        self,
        network: nn.Module,
        layers: Sequence[str],
        weights: Path | str | None = None,
        channels: int = 3,
        mean: float = 0.0,
        std: float = 1.0,
    ) -> None:
        super().__init__()
        modules = dict(network.named_modules())
        unknown = [name for name in layers if name not in modules]
        if unknown or not layers:
            there = ", ".join(name for name in modules if name)
            raise ValueError(f"layers must name modules, got {list(layers)}; there are: {there}")
        if weights is not None:
            _load(network, Path(weights))
        self.network = network.eval().requires_grad_(False)
        self.channels, self.mean, self.std = channels, mean, std
        self._found: list[Tensor] = []
        for name in layers:
            modules[name].register_forward_hook(self._keep)

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The distance of (B, 1, *size) from images in [0, 1]: a scalar, at least 0."""
        with torch.no_grad():
            goals = self._features(target)
        pairs = zip(self._features(prediction), goals, strict=True)
        distances = [(found - goal).square().sum(1).mean() for found, goal in pairs]
        return torch.stack(distances).mean()

    def _features(self, images: Tensor) -> list[Tensor]:
        self._found = []
        repeats = [1, self.channels] + [1] * (images.ndim - 2)
        self.network(((images - self.mean) / self.std).repeat(repeats))
        found, self._found = self._found, []
        return [F.normalize(features.float(), dim=1, eps=1e-6) for features in found]

    def _keep(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self._found.append(output)


def _load(network: nn.Module, path: Path) -> None:
    if not path.is_file():
        raise ValueError(f"weights must be a local file, and {path} is not there")
    try:
        network.load_state_dict(read_weights(path))
    except (RuntimeError, TypeError, AttributeError, ValueError) as error:
        words = " ".join(str(error).split())[:300]
        raise ValueError(f"{path} is no state dict of {type(network).__name__}: {words}") from error
