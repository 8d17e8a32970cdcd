"""Networks rebuilt from what a training left, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.networks import BrainVQVAE, PixelCNN
from monai_vqbrain.runs.networks import load_network

NETWORKS = {
    "vqvae": BrainVQVAE(width=4, blocks=(0, 1), num_codes=4, code_dim=2),
    "prior": PixelCNN(num_codes=4, grid=(3, 5), channels=4, layers=1),
}


def training(folder: Path, name: str = "vqvae", **changed: Any) -> Path:
    network = NETWORKS[name]
    definition = {"_target_": type(network).__name__, **network.settings, **changed}
    (folder / "config.json").write_text(json.dumps({"network_def": definition}))
    torch.save(network.state_dict(), folder / "model.pt")
    return folder


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_comes_back_with_its_weights(tmp_path: Path, name: str) -> None:
    network = load_network(training(tmp_path, name))
    expected = NETWORKS[name].state_dict()
    assert type(network) is type(NETWORKS[name])
    assert not network.training
    assert all(torch.equal(value, expected[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("missing", ["config.json", "model.pt"])
def test_an_unfinished_training_is_named(tmp_path: Path, missing: str) -> None:
    (training(tmp_path) / missing).unlink()
    words = rf"holds no trained network \({missing} is missing\): train it first"
    with pytest.raises(VQBrainError, match=words):
        load_network(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [lambda whole: b"", lambda whole: whole[:-300], lambda whole: whole[300:], lambda whole: b"x"],
    ids=["empty", "without its end", "without its start", "something else"],
)
def test_damaged_weights_are_named(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = training(tmp_path) / "model.pt"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(VQBrainError, match=r"model.pt is damaged: train it again"):
        load_network(tmp_path)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"_target_": "os.system"}, "config.json names the network os.system, which is unknown"),
        (
            {"width": 3},
            "trained by a version whose BrainVQVAE had another architecture: train it again",
        ),
        ({"num_codes": 8}, "whose BrainVQVAE had another architecture"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(
    tmp_path: Path, changed: dict[str, Any], words: str
) -> None:
    with pytest.raises(VQBrainError, match=words):
        load_network(training(tmp_path, **changed))
