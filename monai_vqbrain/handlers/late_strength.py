"""How strongly a trained prior follows the conditions that describe participants."""

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
    """Weakens the effects of the late conditions to what holds for validation participants.

    The effects of diagnosis, sex and age that a prior learns from few participants are partly those
    of these participants alone: they do not help to predict others, and they reveal membership in
    the training set. When a training has completed, all of them are multiplied by the factor from
    0 to 1 that needs the fewest bits on validation slices (shrinkage; a line search on a parabola
    through three measurements).

    Args:
        validator: has the validation slices and their bits.
        checkpoint: has the best epoch's weights, which are written again with the factor.
    """

    def __init__(self, validator: Evaluator, checkpoint: ResumableCheckpoint) -> None:
        self.validator, self.checkpoint = validator, checkpoint

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer, after the validation and before the publication."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Choose the factor for the best epoch's weights; without any epoch there is none."""
        if self.validator.state.best_metric_epoch < 0:
            return
        self.checkpoint.restore_best()
        encoder: Any = self.checkpoint.best.conditions
        bits = {strength: self._bits(encoder, strength) for strength in STRENGTHS}
        encoder.strength.fill_(best_strength(bits))
        self.checkpoint.save_best()
        logger.info(
            "conditions of participants act at %.2f of what was learnt, by validation slices",
            float(encoder.strength),
        )

    @torch.no_grad()
    def _bits(self, encoder: Any, strength: float) -> float:
        """Bits per code of validation slices under their conditions at a strength."""
        encoder.strength.fill_(strength)
        validator, total, count = self.validator, 0.0, 0.0
        for batch in validator.data_loader:
            _, codes, _, given = validator.prepare_batch(
                batch, validator.state.device, validator.non_blocking
            )
            bits = validator.inferer.get_likelihood(
                codes, self.checkpoint.best, given.get("condition")
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
