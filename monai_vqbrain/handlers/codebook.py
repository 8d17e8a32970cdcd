"""How much of the codebook is in use, counted over an epoch (perplexity depends on the batch)."""

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
    """Counts each code over an epoch, on all ranks; a subclass says what to make of the counts.

    Args:
        num_codes: K, the size of the codebook.
        output_transform: what gives the codes (0..K-1) of the engine's output: (B, *grid), or B
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
        """Forget what was seen."""
        self.counts = torch.zeros(self.num_codes, dtype=torch.long)

    @reinit__is_reduced
    def update(self, output: Any) -> None:
        """Add the codes of one batch."""
        codes = as_batch(output).flatten().cpu()
        self.counts += torch.bincount(codes, minlength=self.num_codes)

    @sync_all_reduce("counts")
    def compute(self) -> float:
        """What to make of the counts.

        Raises:
            NotComputableError: before any code was seen.
        """
        if not self.counts.any():
            raise NotComputableError("no code was seen: the evaluation's data set is empty")
        return float(self.reduce(self.counts.numpy()))

    def reduce(self, counts: Any) -> float:
        """A number of the counts (K,)."""
        raise NotImplementedError


class CodesUsed(CodeCount):
    """How many codes occur at all."""

    def reduce(self, counts: Any) -> float:
        """A number between 1 and K."""
        return codes_used(counts)


class CodebookPerplexity(CodeCount):
    """2 to the entropy of the codes: how many equally frequent codes would be as diverse."""

    def reduce(self, counts: Any) -> float:
        """A number between 1 and K."""
        return perplexity(counts)


class CodesRedrawn(Metric):
    """How many dead codes a quantizer in training has redrawn since the last epoch of validation.

    Attach it to the validator, and it stands among the validation metrics.

    Args:
        quantizer: the one that is trained; one that never redraws counts 0.
    """

    def __init__(self, quantizer: nn.Module) -> None:
        self.quantizer = quantizer
        self._before = self._redrawn()
        super().__init__(lambda _: None)

    def reset(self) -> None:
        """Nothing to forget: what was redrawn is counted while training goes on."""

    def update(self, output: Any) -> None:
        """Nothing to add: a batch of validation redraws no code."""

    def compute(self) -> int:
        """The number since the last call, or since the metric was made."""
        redrawn, before = self._redrawn(), self._before
        self._before = redrawn
        return redrawn - before

    def _redrawn(self) -> int:
        return int(getattr(self.quantizer, "redrawn", 0))
