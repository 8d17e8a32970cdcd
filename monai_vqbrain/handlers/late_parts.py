"""The order in which a prior learns: slices by themselves first, its late parts at last."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine, Events

from monai_vqbrain.handlers.budget import TrainingBudget
from monai_vqbrain.handlers.checkpoint import ResumableCheckpoint

ALONE = 0.5  # share of slices without the previous one, while the late parts are trained


class LateParts:
    """Trains a prior without its late parts first, and then these with all other weights frozen.

    The late parts are those that read the previous slice, and the conditions that describe
    participants. Independent slices are learnt without them: they cost no time in the first steps,
    and do not change in the last ones. These start from the best epoch of the first steps, and the
    best epoch of the training is one of the last.

    Args:
        network: the prior.
        prepare_batch: the trainer's PriorBatch, whose `alone` is set.
        budget: of the training; the late parts' turn is after its restart.
        checkpoint: has the best epoch's weights.
    """

    def __init__(
        self,
        network: Any,
        prepare_batch: Any,
        budget: TrainingBudget,
        checkpoint: ResumableCheckpoint,
    ) -> None:
        self.network, self.prepare_batch = network, prepare_batch
        self.budget, self.checkpoint = budget, checkpoint
        self._late: bool | None = None  # neither, before the first step

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer, after the handler that resumes."""
        engine.add_event_handler(Events.ITERATION_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Choose which weights the step trains, and on what."""
        if self.budget.begin_restart(engine):
            self.checkpoint.restore_best()
        late = self.budget.restarted
        if late == self._late:
            return
        self._late = late
        if self.network.conditions is not None:
            self.network.conditions.strength.fill_(1)  # LateStrength sets it in the end
        self.prepare_batch.alone = ALONE if late else 1.0
        own = {id(parameter) for parameter in self.network.late_parameters()}
        for parameter in self.network.parameters():
            parameter.requires_grad_((id(parameter) in own) == late)
            parameter.grad = None  # an optimizer moves what has a gradient, be it 0
