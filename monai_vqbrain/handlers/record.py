"""What a training leaves beside its weights: the table of metrics, configuration, provenance."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from ignite.engine import Engine, Events
from monai.engines import Evaluator
from torch import nn

from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.files import publish, writing
from monai_vqbrain.handlers.budget import TrainingBudget
from monai_vqbrain.provenance import describe, write_provenance


class MetricsTable:
    """Writes `metrics.tsv`: a row an epoch, with the training losses and the validation metrics.

    Resumed, it goes on with the rows up to the checkpoint's epoch.

    Args:
        path: the table.
        validator: whose metrics are written.
        budget: whose seconds are written.
    """

    def __init__(self, path: Path | str, validator: Evaluator, budget: TrainingBudget) -> None:
        self.path = Path(path)
        self.validator = validator
        self.budget = budget
        self._sums: dict[str, torch.Tensor] = {}
        self._steps = 0

    def attach(self, engine: Engine) -> None:
        """Follow a trainer; attach after the validation handler and the one that resumes."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def _start(self, engine: Engine) -> None:
        self.rows: list[dict[str, Any]] = []
        if engine.state.epoch and self.path.is_file():
            old = pd.read_csv(self.path, sep="\t")
            self.rows = old[old["epoch"] <= engine.state.epoch].to_dict("records")

    def _add(self, engine: Engine) -> None:
        for name, value in _losses(engine.state.output).items():
            self._sums[name] = value + self._sums.get(name, 0)  # no wait for a GPU here
        self._steps += 1

    def _write(self, engine: Engine) -> None:
        row = {
            "epoch": engine.state.epoch,
            "iteration": engine.state.iteration,
            "seconds": round(self.budget.spent(), 1),
            "learning_rate": self.budget.optimizer.param_groups[0]["lr"],
        }
        losses = {name: float(total) / self._steps for name, total in self._sums.items()}
        self.rows.append(row | losses | self.validator.state.metrics)
        self._sums, self._steps = {}, 0
        with writing(self.path) as temporary:
            pd.DataFrame(self.rows).to_csv(temporary, sep="\t", index=False, float_format="%.6g")


def loss_values(output: Mapping[str, Any]) -> dict[str, float]:
    """The losses of an iteration: {"loss": the whole, "loss_l1": a part before weighting, ...}."""
    return {name: float(value) for name, value in _losses(output).items()}


def _losses(output: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    parts = {f"loss_{name}": value for name, value in output.get("losses", {}).items()}
    return {"loss": output["loss"].detach(), **parts}


class RunRecord:
    """Ends a training: `config.json`, `provenance.json`, then the folder gets its final name.

    Args:
        folder: the stage's final folder; it was filled under its partial name.
        work: the partial folder.
        network: whose class and settings go into config.json, so that later stages can rebuild it.
        made_from: name -> file that the training depends on.
        options: what was asked for, JSON values.

    Raises:
        VQBrainError: when the training starts, if it resumes one with other inputs, settings,
            overrides or seed; when it ends, if no epoch was validated.
    """

    def __init__(
        self,
        folder: Path | str,
        work: Path | str,
        network: nn.Module,
        made_from: Mapping[str, Path | str],
        options: Mapping[str, Any],
    ) -> None:
        self.folder = Path(folder)
        self.work = Path(work)
        self.network = network
        self.made_from = {name: Path(path) for name, path in made_from.items()}
        self.options = dict(options)

    def attach(self, engine: Engine) -> None:
        """Follow a trainer; attach last."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _start(self, engine: Engine) -> None:
        self._began = time.monotonic()
        settings = {"_target_": type(self.network).__name__, **self.network.settings}  # type: ignore[dict-item]
        self._sources = describe(self.made_from)
        record = {"network_def": settings, **self.options, "made_from": self._sources}
        path = self.work / "config.json"
        if engine.state.epoch and path.is_file():  # resumed
            _same(json.loads(path.read_text()), record)
        with writing(path) as temporary:
            temporary.write_text(json.dumps(record, indent=2) + "\n")

    def _finish(self, engine: Engine) -> None:
        if not (self.work / "model.pt").is_file():
            raise VQBrainError(
                f"{self.work.name} has no weights to keep, because no epoch was validated: "
                "train longer, or set val_interval to 1"
            )
        write_provenance(
            self.work,
            made_from=self._sources,
            options=self.options,
            seconds=time.monotonic() - self._began,
            device=str(engine.state.device),
            epochs=engine.state.epoch,
            iterations=engine.state.iteration,
        )
        publish(self.folder)


def _same(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    names = {"made_from": "what it is trained on", "overrides": "what --set asks for"}
    for name in ("network_def", "seed", "made_from", "overrides"):
        if earlier.get(name) != now.get(name):
            what = names.get(name, name)
            raise VQBrainError(
                f"{what} has changed since the interrupted training began: train without --resume"
            )
