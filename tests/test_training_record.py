"""The record of a training: what its folder holds, when it is published, what cannot be resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events

from monai_vqbrain.engines import VQVAETrainer
from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.handlers import EngineCallbacks
from monai_vqbrain.networks import BrainVQVAE
from monai_vqbrain.provenance import describe, read_provenance
from monai_vqbrain.runs.training_record import TrainingRecord


def recorded(folder: Path, source: Path, weights: bool = True) -> VQVAETrainer:
    """One step of a VQ-VAE that is to be published as `folder`."""
    network = BrainVQVAE(factor=2, width=4, blocks=(1, 1), num_codes=4, code_dim=2)
    work = folder.with_name(folder.name + ".partial")
    work.mkdir(parents=True)
    if weights:
        (work / "model.pt").touch()
    made_from = describe({"2-slices": source})
    training = {"optimizer": "SGD", "learning_rates": [0.1], "batch_size": 2}
    options = {"seed": 3, "epochs": 1}
    record = TrainingRecord(folder, work, network, made_from, options, about={"training": training})
    return VQVAETrainer(
        device="cpu",
        max_epochs=1,
        train_data_loader=[{"image": torch.rand(2, 1, 8, 8)}],
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), 0.1),
        train_handlers=[EngineCallbacks(record.begin, record.publish)],
    )


def test_a_finished_training_replaces_the_earlier_with_its_record(tmp_path: Path) -> None:
    folder, source = tmp_path / "3-vqvae", tmp_path / "slices.tsv"
    folder.mkdir()
    (folder / "earlier").touch()
    source.write_text("a")
    recorded(folder, source).run()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"3-vqvae", "slices.tsv"}
    made = {"config.json", "model.pt", "provenance.json"}
    assert {path.name for path in folder.iterdir()} == made
    config = json.loads((folder / "config.json").read_text())
    assert config["network_def"]["_target_"] == "BrainVQVAE"
    assert (config["network_def"]["num_codes"], config["seed"]) == (4, 3)
    found = read_provenance(folder)
    assert found is not None
    assert found["options"] == {"seed": 3, "epochs": 1}
    assert found["made_from"]["2-slices"]["bytes"] == 1
    assert (found["device"], found["epochs"], found["iterations"]) == ("cpu", 1, 1)
    assert found["training"] == {"optimizer": "SGD", "learning_rates": [0.1], "batch_size": 2}


def test_an_interrupted_training_leaves_the_earlier_folder(tmp_path: Path) -> None:
    folder, source = tmp_path / "3-vqvae", tmp_path / "slices.tsv"
    folder.mkdir()
    (folder / "earlier").touch()
    source.write_text("a")
    trainer = recorded(folder, source)

    def kill() -> None:
        raise KeyboardInterrupt

    trainer.add_event_handler(Events.ITERATION_COMPLETED, kill)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert [path.name for path in folder.iterdir()] == ["earlier"]
    assert (tmp_path / "3-vqvae.partial" / "config.json").is_file()


def test_a_training_without_weights_is_not_published(tmp_path: Path) -> None:
    folder, source = tmp_path / "3-vqvae", tmp_path / "slices.tsv"
    source.write_text("a")
    words = "3-vqvae.partial has no weights to keep, because no epoch was validated: train longer"
    with pytest.raises(VQBrainError, match=words):
        recorded(folder, source, weights=False).run()
    assert not folder.exists()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"source": "ab"}, "what it is trained on"),
        ({"options": {"seed": 4}}, "seed"),
        ({"options": {"seed": 3, "overrides": {"optimizer#lr": 1}}}, r"what was set \(overrides\)"),
        ({"width": 8}, "network_def"),
        ({}, None),
    ],
)
def test_another_training_is_not_resumed(
    tmp_path: Path, change: dict[str, Any], what: str | None
) -> None:
    made = {"source": "a", "options": {"seed": 3}, "width": 4}
    resumed = Engine(lambda *_: None)
    for arguments, engine in ((made, Engine(lambda *_: None)), (made | change, resumed)):
        source = tmp_path / "slices.tsv"
        source.write_text(arguments["source"])
        network = BrainVQVAE(factor=2, width=arguments["width"], num_codes=4, code_dim=2)
        record = TrainingRecord(
            tmp_path / "3-vqvae",
            tmp_path,
            network,
            describe({"2-slices": source}),
            arguments["options"],
        )
        engine.state.epoch = int(engine is resumed)
        if engine is resumed and what:
            words = f"{what} has changed since the interrupted training began: train without resum"
            with pytest.raises(VQBrainError, match=words):
                record.begin(engine)
        else:
            record.begin(engine)
