"""Trained networks of a run, rebuilt from the run's own configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from monai_vqbrain import networks
from monai_vqbrain.errors import UsageError, VQBrainError
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.records import network_settings
from monai_vqbrain.weights import read_weights


def select_device(name: str) -> torch.device:
    """The device of that name: "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        UsageError: if CUDA is asked for and not available.
    """
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"device {name}: PyTorch finds no CUDA device here; use auto or cpu")
    best = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(best if name == "auto" else name)


def load_network(folder: Path | str, device: torch.device | str = "cpu") -> nn.Module:
    """Load the network of a finished training, with its best weights, in evaluation mode.

    Args:
        folder: `R/3-vqvae` or `R/5-prior`.
        device: where to load it.

    Raises:
        VQBrainError: if the folder holds no finished training, a damaged one, or one of another
            version.
    """
    folder = Path(folder)
    try:
        definition = network_settings(folder)
        weights = read_weights(folder / "model.pt")
    except FileNotFoundError as error:
        raise VQBrainError(
            f"{folder} holds no trained network ({Path(error.filename).name} is missing): "
            "train it first"
        ) from error
    except ValueError as error:
        raise VQBrainError(f"{folder / 'model.pt'} is damaged: train it again") from error
    kind = _network_class(definition, folder)
    try:
        _check_sizes(definition, weights)
        network = kind(**definition)
        network.load_state_dict(weights)
    except (TypeError, ValueError, AttributeError, KeyError, IndexError, RuntimeError) as error:
        raise VQBrainError(
            f"{folder} was trained by a version whose {kind.__name__} had another architecture: "
            "train it again"
        ) from error
    return network.to(device).eval()


def new_network(folder: Path | str) -> nn.Module:
    """A network with the settings of a trained one and random weights.

    Args:
        folder: as for `load_network`.

    Raises:
        VQBrainError: if the settings are missing or damaged.
    """
    definition = network_settings(Path(folder))
    network: nn.Module = _network_class(definition, Path(folder))(**definition)
    return network


def _network_class(definition: dict[str, Any], folder: Path) -> type[nn.Module]:
    """Take the class out of a network's settings; only one of this package is taken."""
    target = definition.pop("_target_", None)
    if target not in networks.__all__:  # a configuration must not run any callable
        raise VQBrainError(f"{folder}/config.json names the network {target}, which is unknown")
    found: type[nn.Module] = getattr(networks, target)
    return found


def _check_sizes(definition: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> None:
    """Refuse settings of a far larger network than the weights are of, before it takes memory."""
    if any(weight.nbytes > weight.untyped_storage().nbytes() for weight in weights.values()):
        raise ValueError("weights that repeat one number")
    sides = [side for weight in weights.values() for side in weight.shape]
    most = max([len(weights), *sides])
    for name, value in definition.items():
        sizes = value if isinstance(value, list) else [value]
        if any(isinstance(size, int) and size > most for size in sizes):
            raise ValueError(f"{name} is {value}")


def set_code_features(network: Any, run_dir: Path | str) -> Any:
    """Set the prior's code features from the run's codebook and return the prior.

    Args:
        network: a PixelCNN; unchanged if its setting `likeness` is 0.
        run_dir: the run folder; without a trained VQ-VAE the features stay 0.

    Raises:
        VQBrainError: if the run's VQ-VAE cannot be read.
    """
    run = RunFolder(run_dir)
    if (run.vqvae / "model.pt").is_file() and network.settings["likeness"]:
        quantizer: Any = load_network(run.vqvae).quantizer
        codes = torch.arange(network.num_codes).expand(network.groups, -1)
        vectors = quantizer.embed(codes[None] if network.groups > 1 else codes)
        network.set_code_features(vectors[0].unflatten(0, (network.groups, -1)).mT)
    return network
