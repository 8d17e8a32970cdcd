"""Gradients of bounded length."""

from __future__ import annotations

from ignite.engine import Engine
from monai.engines.utils import IterationEvents
from torch import nn


class ClipGradients:
    """Shortens a network's gradient to at most `max_norm` before every step.

    Args:
        network: whose gradient, all weights taken together.
        max_norm: its greatest length (L2).

    Raises:
        ValueError: if max_norm is not positive.
    """

    def __init__(self, network: nn.Module, max_norm: float) -> None:
        if not max_norm > 0:
            raise ValueError(f"max_norm must be positive, got {max_norm}")
        self.network = network
        self.max_norm = max_norm

    def attach(self, engine: Engine) -> None:
        """Follow one of MONAI's trainers."""
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Shorten the gradient of this step."""
        nn.utils.clip_grad_norm_(self.network.parameters(), self.max_norm)
