"""A moving average of a network's weights, which scores better than the last ones."""

from __future__ import annotations

import copy
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import nn


class WeightAverage:
    """Keeps an exponential moving average of a network's weights; buffers are the network's own.

    So a codebook, which is a moving average itself, stays the one that training has. Attach before
    the validation handler, validate `averaged`, and save it with the checkpoint.

    Args:
        network: the one that is trained.
        decay: of the average, below that at the start of training; None for no average, and
            `averaged` is the network itself.

    Raises:
        ValueError: if decay is not in (0, 1).

    Source: Polyak and Juditsky, Acceleration of stochastic approximation by averaging, 1992.
    """

    def __init__(self, network: nn.Module, decay: float | None = None) -> None:
        if decay is not None and not 0 < decay < 1:
            raise ValueError(f"decay must lie in (0, 1), got {decay}")
        self.network = network
        self.decay = decay
        self.averaged = network
        if decay is not None:
            self.averaged = copy.deepcopy(network).requires_grad_(False)
        self._weights: list[torch.Tensor] = list(network.parameters())
        self._averages: list[torch.Tensor] = list(self.averaged.parameters())

    def attach(self, engine: Engine) -> None:
        """Follow a trainer."""
        if self.decay is not None:
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._follow, self.decay)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._take_buffers)

    def state_dict(self) -> dict[str, Any]:
        """The averaged network's; empty without an average."""
        return {} if self.decay is None else self.averaged.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from an average.

        Raises:
            ValueError: if there is one and should be none.
            RuntimeError: if there is none and should be one, or it is another network's.
        """
        if self.decay is not None:
            self.averaged.load_state_dict(state)
        elif state:
            raise ValueError("the state holds an average, and decay is None")

    @torch.no_grad()
    def _follow(self, engine: Engine, decay: float) -> None:
        steps = engine.state.iteration
        share = 1 - min(decay, (1 + steps) / (10 + steps))  # the first weights are soon forgotten
        torch._foreach_lerp_(self._averages, self._weights, share)

    def _take_buffers(self, engine: Engine) -> None:
        for mine, buffer in zip(self.averaged.buffers(), self.network.buffers(), strict=True):
            mine.copy_(buffer)
