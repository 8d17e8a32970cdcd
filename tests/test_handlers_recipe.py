"""What a recipe may add to a training: averaged weights, an adversary, MLflow."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from ignite.engine import Engine, Events
from ignite.handlers import EMAHandler
from monai.networks.nets import PatchDiscriminator
from torch import nn

from monai_vqbrain.engines import VQVAEEvaluator, VQVAETrainer
from monai_vqbrain.errors import ComponentError
from monai_vqbrain.handlers import (
    MetricsTable,
    MLflowRun,
    ResumableCheckpoint,
    TrainDiscriminator,
    TrainingBudget,
    loss_values,
)
from monai_vqbrain.handlers.ssim import WholeSSIM
from monai_vqbrain.losses import PatchAdversary, VQVAELoss
from monai_vqbrain.networks import BrainVQVAE

PEOPLE = ["sub-secret1", "sub-secret2", "sub-secret2"]


def vqvae(seed: int = 0) -> BrainVQVAE:
    torch.manual_seed(seed)
    return BrainVQVAE(width=4, blocks=(1, 1), num_codes=8, code_dim=4)


def batches(number: int = 2) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(number, 3, 1, 16, 16, generator=generator)
    return [{"image": batch, "mask": batch > 0, "participant_id": PEOPLE} for batch in images]


def trainer(network: BrainVQVAE, handlers: Iterable[Any], **arguments: Any) -> VQVAETrainer:
    arguments.setdefault("optimizer", torch.optim.Adam(network.parameters(), 0.01))
    return VQVAETrainer(
        device="cpu",
        max_epochs=3,
        train_data_loader=batches(),
        network=network,
        train_handlers=list(handlers),
        **arguments,
    )


def same(one: nn.Module, other: nn.Module) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)


# Averages.


def validated(network: nn.Module) -> VQVAEEvaluator:
    return VQVAEEvaluator(
        device="cpu",
        val_data_loader=batches(1),
        network=network,
        key_val_metric={"ssim": WholeSSIM()},
    )


def test_the_averaged_weights_are_the_ones_that_are_kept(tmp_path: Path) -> None:
    network = vqvae()
    average = EMAHandler(network, momentum=0.1)
    averaged: Any = average.ema_model
    validator = validated(averaged)
    objects = {"network": network, "average": averaged, "nothing": None}
    checkpoint = ResumableCheckpoint(tmp_path, objects, validator, best=averaged)
    engine = trainer(network, [average, checkpoint])
    validator.state.best_metric_epoch = 3  # the last
    engine.run()
    kept = torch.load(tmp_path / "model.pt", weights_only=True)
    assert torch.equal(kept["encoder.0.weight"], averaged.encoder[0].weight)
    assert not torch.equal(kept["encoder.0.weight"], network.encoder[0].weight)
    assert torch.equal(kept["quantizer.codebook"], network.quantizer.codebook)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert torch.equal(state["average"]["encoder.0.weight"], averaged.encoder[0].weight)
    assert "nothing" not in state


# The adversary.


class Versus:
    """A VQ-VAE's training against a discriminator."""

    def __init__(self, first_epoch: int) -> None:
        torch.manual_seed(2)
        self.discriminator = PatchDiscriminator(2, 4, 1, num_layers_d=1, norm="INSTANCE")
        self.adversary = PatchAdversary(self.discriminator)
        self.optimizer = torch.optim.Adam(self.discriminator.parameters(), 0.01)
        handler = TrainDiscriminator(self.adversary, self.optimizer, first_epoch)
        loss = VQVAELoss({"l1": nn.L1Loss(), "adversarial": self.adversary})
        self.network = vqvae()
        self.trainer = trainer(self.network, [handler], loss_function=loss)


def test_both_sides_learn_from_the_first_epoch_on() -> None:
    versus, weights, seen = Versus(first_epoch=2), [], []

    def look(engine: Engine) -> None:
        weights.append(versus.discriminator.initial_conv.conv.weight.detach().clone())
        seen.append(engine.state.output["losses"])

    versus.trainer.add_event_handler(Events.EPOCH_COMPLETED, look)
    versus.trainer.run()
    assert torch.equal(weights[0], Versus(2).discriminator.initial_conv.conv.weight)
    assert not torch.equal(weights[1], weights[0])
    assert seen[0]["adversarial"] == 0
    assert "discriminator" not in seen[0]
    assert seen[1]["adversarial"] != 0
    assert seen[1]["discriminator"] > 0


def test_the_generators_step_has_no_part_of_the_discriminators_loss() -> None:
    lone, versus = vqvae(), Versus(first_epoch=4)  # it never begins
    for engine in (trainer(lone, []), versus.trainer):
        torch.manual_seed(3)
        engine.run()
    assert same(lone, versus.network)


# Losses in tables and in MLflow.


def test_a_table_has_a_column_for_each_part_of_the_loss(tmp_path: Path) -> None:
    network, parts = vqvae(), []
    adam = torch.optim.Adam(network.parameters(), 0.01)
    validator, budget = validated(network), TrainingBudget(adam, what=None)
    table = MetricsTable(tmp_path / "metrics.tsv", validator, budget)
    loss = VQVAELoss({"l1": nn.L1Loss(), "l2": nn.MSELoss()}, {"l2": 0.5})
    engine = trainer(network, [budget, table], optimizer=adam, loss_function=loss)
    engine.add_event_handler(
        Events.ITERATION_COMPLETED, lambda e: parts.append(loss_values(e.state.output))
    )
    engine.run()
    rows, expected = pd.read_csv(tmp_path / "metrics.tsv", sep="\t"), pd.DataFrame(parts)
    names = ["loss", "loss_quantizer", "loss_l1", "loss_l2"]
    assert list(rows.columns)[4:8] == names
    means = expected.groupby(expected.index // 2).mean()
    pd.testing.assert_frame_equal(rows[names], means[names], rtol=1e-5, atol=1e-7)
    whole = rows["loss_l1"] + 0.5 * rows["loss_l2"] + rows["loss_quantizer"]
    assert whole.tolist() == pytest.approx(rows["loss"].tolist(), rel=1e-4)


def test_mlflow_gets_losses_metrics_and_options_and_no_participant(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    network, store = vqvae(), tmp_path / "tracked" / "runs.db"
    store.parent.mkdir()
    validator = validated(network)
    handler = MLflowRun(str(store), validator, {"seed": 3}, every=2)
    engine = trainer(network, [handler])
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: validator.run(e.state.epoch))
    engine.run()

    client = mlflow.MlflowClient(f"sqlite:///{store}")
    (experiment,) = (e for e in client.search_experiments() if e.name == "monai_vqbrain")
    (run,) = client.search_runs(experiment.experiment_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["seed"] == "3"
    steps = {name: [m.step for m in client.get_metric_history(run.info.run_id, name)]
             for name in run.data.metrics}  # fmt: skip
    losses = ("loss", "loss_l1", "loss_quantizer", "lr_group_0")
    assert steps == {name: [2, 4, 6] for name in losses} | {"ssim": [1, 2, 3]}
    assert b"sub-secret" not in store.read_bytes()


def test_without_mlflow_the_command_that_installs_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setattr("monai_vqbrain.handlers.track.find_spec", lambda name: None)
    with pytest.raises(
        ComponentError, match=r"not installed: pip install 'monai-vqbrain\[track\]'"
    ):
        MLflowRun("runs.db", validated(vqvae()))


def test_an_adversary_cannot_begin_before_the_first_epoch() -> None:
    adversary = PatchAdversary(nn.Identity())
    with pytest.raises(ValueError, match="first_epoch must be 1 or more, got 0"):
        TrainDiscriminator(adversary, None, 0)  # type: ignore[arg-type]
