"""The table of a training's losses and validation metrics per epoch."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import pandas as pd
import torch
from ignite.engine import Engine, Events
from monai.engines import Evaluator

from monai_vqbrain.handlers.budget import TrainingBudget
from monai_vqbrain.logs import ROUTINE
from monai_vqbrain.ranks import rank_count, this_rank
from monai_vqbrain.tables import read_table, write_table

logger = logging.getLogger(__name__)


class MetricsTable:
    """Writes `metrics.tsv`: one row per epoch, with the training losses and the validation metrics.

    A resumed training keeps the rows of the epochs before. With several ranks, losses are means
    over all ranks, and rank 0 writes.

    Args:
        path: the table.
        validator: the evaluator with the validation metrics.
        budget: the training's budget, for its seconds.
    """

    def __init__(self, path: Path | str, validator: Evaluator, budget: TrainingBudget) -> None:
        self.path = Path(path)
        self.validator = validator
        self.budget = budget
        self._sums: dict[str, torch.Tensor] = {}
        self._steps = 0
        self._rows: list[dict[str, Any]] | None = None  # until the first epoch of a run has ended

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer, after the validation handler and before ResumableCheckpoint.

        A row is then written before the checkpoint of its epoch: a training that is killed between
        the two repeats the epoch and its row, and none is lost.
        """
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def _start(self) -> None:
        self._rows = None

    def _rows_before(self, epoch: int) -> list[dict[str, Any]]:
        """The rows of earlier epochs; if this training was resumed, those of the file."""
        if self._rows is None and epoch > 1 and self.path.is_file():
            old = read_table(self.path)
            rows: Any = old[old["epoch"] < epoch].to_dict("records")
            return list(rows)
        return self._rows or []

    def _add(self, engine: Engine) -> None:
        for name, value in _losses(engine.state.output).items():
            self._sums[name] = value + self._sums.get(name, 0)  # without waiting for a GPU
        self._steps += 1

    def _write(self, engine: Engine) -> None:
        row = {
            "epoch": engine.state.epoch,
            "iteration": engine.state.iteration,
            "seconds": round(self.budget.spent(), 1),
            "learning_rate": self.budget.optimizer.param_groups[0]["lr"],
        }
        row |= self._mean_losses() | self.validator.state.metrics
        self._rows = [*self._rows_before(engine.state.epoch), row]
        self._sums, self._steps = {}, 0
        if this_rank() == 0:
            write_table(pd.DataFrame(self._rows), self.path, digits=6)
            shown = (f"{name} {value:.4g}" for name, value in row.items())
            logger.info("%s", ", ".join(shown), extra=ROUTINE)

    def _mean_losses(self) -> dict[str, float]:
        """Name -> mean over the epoch's iterations on all ranks."""
        steps = self._steps * rank_count()
        return {name: float(idist.all_reduce(total)) / steps for name, total in self._sums.items()}


def loss_values(output: Mapping[str, Any]) -> dict[str, float]:
    """The losses of an iteration: {"loss": the total, "loss_l1": an unweighted part, ...}."""
    return {name: float(value) for name, value in _losses(output).items()}


def _losses(output: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    parts = {f"loss_{name}": value for name, value in output.get("losses", {}).items()}
    return {"loss": output["loss"].detach(), **parts}
