"""Resumable checkpoints, the best weights, seeding of epochs, and early stopping."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import Evaluator

from monai_vqbrain.errors import ComponentError
from monai_vqbrain.files import writing
from monai_vqbrain.handlers.budget import TrainingBudget
from monai_vqbrain.ranks import this_rank, wait_for_ranks
from monai_vqbrain.weights import read_weights

PROGRESS = ("epoch", "iteration", "best_metric", "best_epoch")  # entries besides the objects


class SeedEpochs:
    """Seeds PyTorch at the start of every epoch.

    A resumed training then repeats an uninterrupted one: shuffling, dropout and redrawn codes all
    use PyTorch's generator.

    Args:
        seed: seed of the training.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Seed the epoch that starts."""
        torch.manual_seed(self.seed * 1_000_003 + engine.state.epoch)


class ResumableCheckpoint:
    """Saves the state of training after every epoch, and the weights of the best epoch.

    `checkpoint.pt` contains the state for resuming, `model.pt` the network's weights of the epoch
    with the best key metric. Attach after the validation handler. With several ranks, rank 0
    writes, every rank loads, and none continues before both files are there.

    Args:
        folder: the folder of both files.
        objects: name -> object with state_dict and load_state_dict; None is left out.
        validator: the evaluator with the key metric.
        resume: continue from `checkpoint.pt`.
        best: the network whose weights go into model.pt; the object "network" by default.

    Raises:
        ValueError: when resuming, if there is no checkpoint, or it has another configuration.
    """

    def __init__(
        self,
        folder: Path | str,
        objects: Mapping[str, Any],
        validator: Evaluator,
        resume: bool = False,
        best: torch.nn.Module | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.objects = {name: thing for name, thing in objects.items() if thing is not None}
        self.best = self.objects["network"] if best is None else best
        self.validator = validator
        self.resume = resume

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        engine.add_event_handler(Events.STARTED, self._load)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._save)

    def restore_best(self) -> None:
        """Go back to the best epoch's weights; the next epoch is the best from there."""
        if self.validator.state.best_metric_epoch >= 0:
            weights = _read(self.folder / "model.pt")
            self.objects["network"].load_state_dict(weights)
            self.best.load_state_dict(weights)
        self.validator.state.best_metric_epoch = -1

    def save_best(self) -> None:
        """Write the weights of `best` as those of the best epoch."""
        if this_rank() == 0:
            _save(self.best.state_dict(), self.folder / "model.pt")
        wait_for_ranks()

    def _load(self, engine: Engine) -> None:
        if not self.resume:
            return
        path = self.folder / "checkpoint.pt"
        if not path.is_file():
            raise ComponentError(
                f"nothing to resume: {path} is not there, so no training was interrupted; "
                "train without resuming"
            )
        saved = _read(path)
        try:
            self._restore(saved)
            progress = {name: saved[name] for name in PROGRESS}
        except (KeyError, TypeError, AttributeError, RuntimeError, ValueError) as error:
            raise ComponentError(
                f"{path} was made with another configuration; train without resuming"
            ) from error
        engine.state.epoch, engine.state.iteration = progress["epoch"], progress["iteration"]
        best = self.validator.state
        best.best_metric, best.best_metric_epoch = progress["best_metric"], progress["best_epoch"]
        if any(self.best is thing for thing in self.objects.values()):  # its weights are back
            self._save_best(engine)

    def _restore(self, saved: Mapping[str, Any]) -> None:
        unknown = saved.keys() - self.objects.keys() - set(PROGRESS)
        if unknown:
            raise KeyError(f"no object has the state of {sorted(unknown)}")
        for name, thing in self.objects.items():
            thing.load_state_dict(saved[name])

    def _save(self, engine: Engine) -> None:
        if this_rank() == 0:
            self._write(engine)
        wait_for_ranks()

    def _write(self, engine: Engine) -> None:
        best = self.validator.state
        state = {name: thing.state_dict() for name, thing in self.objects.items()}
        state |= {"epoch": engine.state.epoch, "iteration": engine.state.iteration}
        state |= {"best_metric": best.best_metric, "best_epoch": best.best_metric_epoch}
        _save(state, self.folder / "checkpoint.pt")
        self._save_best(engine)

    def _save_best(self, engine: Engine) -> None:
        """Write model.pt if this epoch is the best; after its checkpoint, which has the weights.

        A training that is killed between the two writes model.pt when it resumes. In the other
        order it would resume at the epoch before with the best weights of this one.
        """
        if this_rank() == 0 and self.validator.state.best_metric_epoch == engine.state.epoch:
            _save(self.best.state_dict(), self.folder / "model.pt")


def _read(path: Path) -> Any:
    try:
        return read_weights(path)
    except ValueError as error:
        raise ComponentError(f"{path} is damaged ({error}): train without resuming") from error


class StopWithoutProgress:
    """Ends training after a number of epochs without a better key metric (early stopping).

    It never does so in the first half of the budget: on a fast device twelve epochs take seconds,
    and most of the gain of a cosine schedule comes late. Before the restart of the schedule it ends
    the first part alone: what is left of it is given up. A key metric that is not finite raises at
    once, before that epoch is saved. Every rank decides the same, because key metric and budget
    are the same on all ranks.

    Args:
        validator: the evaluator with the key metric.
        patience: number of epochs without improvement.
        budget: the training's budget.

    Raises:
        ValueError: after a validation whose key metric is not finite.
    """

    def __init__(self, validator: Evaluator, patience: int, budget: TrainingBudget) -> None:
        self.validator = validator
        self.patience = patience
        self.budget = budget

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer, after the validation handler."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)
        # MONAI takes a first NaN for the best score so far, and handlers then save those weights.
        self.validator.add_event_handler(Events.COMPLETED, _check_finite)

    def __call__(self, engine: Engine) -> None:
        """End training, or its first part, if the best epoch is too long ago."""
        best_epoch = self.validator.state.best_metric_epoch
        stale = best_epoch >= 0 and engine.state.epoch - best_epoch >= self.patience
        spent = self.budget.fraction(engine)
        if not stale or spent < 0.5:
            return
        if spent < (self.budget.restart or 0):
            self.budget.skip_to_restart(engine)
        else:
            engine.terminate()


def _check_finite(validator: Evaluator) -> None:
    name = validator.state.key_metric_name
    score = validator.state.metrics[name] if name else 0.0
    if not math.isfinite(score):
        raise ComponentError(
            f"training diverged: {name} is {score} in epoch {validator.state.epoch}; the "
            "result of an earlier training is kept; train with a lower learning rate (optimizer#lr)"
        )


def _save(state: Any, path: Path) -> None:
    # Given a path, torch writes the temporary name into the file, so no two files would be equal.
    with writing(path) as temporary, temporary.open("wb") as file:
        torch.save(state, file)
