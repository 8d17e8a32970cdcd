"""Use of the codebook, counted over an epoch (perplexity depends on the batch size)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from ignite.exceptions import NotComputableError
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced, sync_all_reduce
from monai.handlers import from_engine
from torch import nn

from monai_vqbrain.handlers.batch import as_batch
from monai_vqbrain.metrics.codebook import codes_used, perplexity

CODES = from_engine("codes")


class CodeCount(Metric):
    """Counts each code over an epoch, on all ranks; a subclass reduces the counts to a number.

    Args:
        num_codes: K, the size of the codebook.
        output_transform: selects the codes (0..K-1) from the engine's output: (B, *grid), or B
            grids.
    """

    def __init__(
        self,
        num_codes: int,
        output_transform: Callable[[Any], Any] = CODES,
    ) -> None:
        self.num_codes = num_codes
        super().__init__(output_transform)

    @reinit__is_reduced
    def reset(self) -> None:
        """Clear the counts."""
        self.counts = torch.zeros(self.num_codes, dtype=torch.long)

    @reinit__is_reduced
    def update(self, output: Any) -> None:
        """Add the codes of one batch."""
        codes = as_batch(output).flatten().cpu()
        self.counts += torch.bincount(codes, minlength=self.num_codes)

    @sync_all_reduce("counts")
    def compute(self) -> float:
        """Reduce the counts to a number.

        Raises:
            NotComputableError: before the first batch.
        """
        if not self.counts.any():
            raise NotComputableError("no code was seen: the evaluation's data set is empty")
        return float(self.reduce(self.counts.numpy()))

    def reduce(self, counts: Any) -> float:
        """The metric's value for counts (K,)."""
        raise NotImplementedError


class CodesUsed(CodeCount):
    """The number of codes that occur."""

    def reduce(self, counts: Any) -> float:
        """A number between 1 and K."""
        return codes_used(counts)


class CodebookPerplexity(CodeCount):
    """2 to the entropy of the codes: the equivalent number of equally frequent codes."""

    def reduce(self, counts: Any) -> float:
        """A number between 1 and K."""
        return perplexity(counts)


class CodesRedrawn(Metric):
    """The number of dead codes that a quantizer in training has redrawn since the last validation.

    Attach it to the validator, as one of the validation metrics.

    Args:
        quantizer: the quantizer in training; 0 for one that never redraws.
    """

    def __init__(self, quantizer: nn.Module) -> None:
        self.quantizer = quantizer
        self._before = self._redrawn()
        super().__init__(lambda _: None)

    def reset(self) -> None:
        """Nothing to clear: codes are redrawn during training."""

    def update(self, output: Any) -> None:
        """Nothing to add: validation redraws no code."""

    def compute(self) -> int:
        """The number since the last call, or since the metric was made."""
        redrawn, before = self._redrawn(), self._before
        self._before = redrawn
        return redrawn - before

    def _redrawn(self) -> int:
        return int(getattr(self.quantizer, "redrawn", 0))
