"""How strongly a trained prior follows each condition that describes participants."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.engines import Evaluator

from monai_vqbrain.handlers.checkpoint import ResumableCheckpoint

logger = logging.getLogger(__name__)

STRENGTHS = (0.0, 0.5, 1.0)  # at which the bits are measured


class LateStrength:
    """Weakens the effect of each late condition to what holds for validation participants.

    The effects of diagnosis, sex and age that a prior learns from few participants are partly those
    of these participants alone: they do not help to predict others, and they reveal membership in
    the training set. When a training has completed, each of them is multiplied by the factor from
    0 to 1 that needs the fewest bits on validation slices (shrinkage): one condition after the
    other, those that follow being 0, by a line search on a parabola through three measurements.
    Bits are those of slices given their plans, as samples are drawn.

    Args:
        validator: has the validation slices, with plans if the prior reads them.
        checkpoint: has the best epoch's weights, which are written again with the factors.
        leave_out: every factor is 0, for cohorts of few participants: even an effect that holds for
            others, as small as it is in bits, is a little larger in training participants.
    """

    def __init__(
        self, validator: Evaluator, checkpoint: ResumableCheckpoint, leave_out: bool = False
    ) -> None:
        self.validator, self.checkpoint, self.leave_out = validator, checkpoint, leave_out

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer, after the validation and before the publication."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Choose the factors for the best epoch's weights; without any epoch there is none."""
        if self.validator.state.best_metric_epoch < 0:
            return
        self.checkpoint.restore_best()
        encoder: Any = self.checkpoint.best.conditions
        late = [(column, name) for column, name in enumerate(encoder.known) if encoder.late[column]]
        for column, _ in late:
            encoder.strength[column] = 0
        for column, _ in [] if self.leave_out else late:
            bits = {strength: self._bits(encoder, column, strength) for strength in STRENGTHS}
            encoder.strength[column] = best_strength(bits)
        self.checkpoint.save_best()
        if self.leave_out:
            logger.info(
                "%s act through the plan alone: the participants are few",
                ", ".join(name for _, name in late),
            )
            return
        logger.info(
            "share of the learnt effects that holds for validation participants: %s",
            ", ".join(f"{name} {float(encoder.strength[column]):.2f}" for column, name in late),
        )

    @torch.no_grad()
    def _bits(self, encoder: Any, column: int, strength: float) -> float:
        """Bits per code of validation slices given their plans, a condition at a strength."""
        encoder.strength[column] = strength
        validator, total, count = self.validator, 0.0, 0.0
        for batch in validator.data_loader:
            _, codes, _, given = validator.prepare_batch(
                batch, validator.state.device, validator.non_blocking
            )
            bits = validator.inferer.get_likelihood(
                codes, self.checkpoint.best, given.get("condition"), plan=given.get("plan")
            )
            total, count = total + float(bits.double().sum()), count + bits.numel()
        place = validator.state.device  # that of the backend, if there are several ranks
        sums: Any = idist.all_reduce(
            torch.tensor([total, count], dtype=torch.float64, device=place)
        )
        return float(sums[0] / sums[1])


def best_strength(bits: Mapping[float, float]) -> float:
    """The minimum from 0 to 1, in hundredths, of the parabola through bits at three strengths.

    Example:
        >>> best_strength({0.0: 2.5, 0.5: 2.4, 1.0: 2.5})
        0.5
        >>> best_strength({0.0: 2.5, 0.5: 2.45, 1.0: 2.4})
        1.0
    """
    start, middle, end = (bits[strength] for strength in STRENGTHS)
    bend = 2 * (start - 2 * middle + end)
    if bend <= 0:  # no minimum between
        return 1.0 if end <= start else 0.0
    slope = 4 * middle - 3 * start - end
    return round(min(1.0, max(0.0, -slope / (2 * bend))), 2)
