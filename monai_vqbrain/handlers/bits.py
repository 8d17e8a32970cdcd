"""Bits per code of a prior, as an ignite metric."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from ignite.exceptions import NotComputableError
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced, sync_all_reduce
from monai.handlers import from_engine

from monai_vqbrain.handlers.batch import as_batch

BITS = from_engine("bits")


class BitsPerCode(Metric):
    """The mean of -log2 p(code) over all codes of an epoch, on all ranks.

    Args:
        output_transform: selects the bits from the engine's output: (B, *grid), or B grids.
    """

    def __init__(self, output_transform: Callable[[Any], Any] = BITS) -> None:
        super().__init__(output_transform)

    @reinit__is_reduced
    def reset(self) -> None:
        """Clear all sums."""
        self.total = torch.zeros((), dtype=torch.float64)  # tensors: ignite reduces numbers in
        self.count = torch.zeros((), dtype=torch.long)  # single precision

    @reinit__is_reduced
    def update(self, output: Any) -> None:
        """Add the codes of one batch."""
        bits = as_batch(output)
        self.total += bits.double().sum().cpu()
        self.count += bits.numel()

    @sync_all_reduce("total", "count")
    def compute(self) -> float:
        """Bits per code.

        Raises:
            NotComputableError: before the first batch.
        """
        if self.count == 0:
            raise NotComputableError("no code was seen: the evaluation's data set is empty")
        return float(self.total / self.count)
