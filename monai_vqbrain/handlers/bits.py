"""How well a prior predicts codes, as an ignite metric."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from ignite.exceptions import NotComputableError
from ignite.metrics import Metric


class BitsPerCode(Metric):
    """The mean of -log2 p(code) over all codes of an epoch.

    Args:
        output_transform: what gives the bits (B, *grid) of the engine's output.
    """

    def __init__(
        self, output_transform: Callable[[Any], Any] = lambda output: output["bits"]
    ) -> None:
        super().__init__(output_transform)

    def reset(self) -> None:
        """Forget what was seen."""
        self.total, self.count = 0.0, 0

    def update(self, output: torch.Tensor) -> None:
        """Add the codes of one batch."""
        self.total += float(output.double().sum())
        self.count += output.numel()

    def compute(self) -> float:
        """Bits per code.

        Raises:
            NotComputableError: before any code was seen.
        """
        if self.count == 0:
            raise NotComputableError("no code was seen: the evaluation's data set is empty")
        return self.total / self.count
