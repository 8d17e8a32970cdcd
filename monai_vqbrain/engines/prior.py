"""Ignite engines for the prior: training, likelihoods, sampling."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from monai.engines import Evaluator, SupervisedEvaluator, SupervisedTrainer
from monai.engines.utils import IterationEvents
from torch import nn

from monai_vqbrain.inferers import code_bits


class CodeBitsLoss(nn.Module):
    """Cross entropy of codes in bits: the mean of -log2 p(code) over batch and grid."""

    def forward(self, logits: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Logits (B, K, *grid) against codes (B, *grid), 0..K-1: a scalar, bits per code."""
        flat = logits.movedim(1, -1).flatten(0, -2)  # an eighth faster than channels first
        return F.cross_entropy(flat, codes.flatten()) / math.log(2)


def code_batch(
    batch: Mapping[str, Any], device: torch.device, non_blocking: bool = False, **_: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """The codes of a batch (B, *grid) int64, as input and as target."""
    codes = batch["codes"].to(device, torch.long, non_blocking=non_blocking)
    return codes, codes


class CorruptedCodes:
    """Makes batches whose inputs hold some codes of other slices; the targets stay as they are.

    A share of each input's codes is replaced by the code that another slice of the batch has at the
    same place. On small cohorts this keeps a prior from learning its slices by heart, and it learns
    to go on from the odd code that sampling will draw.

    Args:
        share: probability of replacing a code, in [0, 1).

    Raises:
        ValueError: if share is out of its range.
    """

    def __init__(self, share: float) -> None:
        if not 0 <= share < 1:
            raise ValueError(f"share must lie in [0, 1), got {share}")
        self.share = share

    def __call__(
        self,
        batch: Mapping[str, Any],
        device: torch.device,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The corrupted codes and the codes themselves, (B, *grid) int64 each."""
        codes, _ = code_batch(batch, device, non_blocking)
        # drawn on the CPU, so that a seed gives the same on every device
        others = codes[torch.randperm(len(codes)).to(device)]
        replaced = (torch.rand(codes.shape) < self.share).to(device)
        return torch.where(replaced, others, codes), codes


class PriorTrainer(SupervisedTrainer):
    """MONAI's trainer for a network that predicts each code from those before it.

    A batch is a dictionary with `codes` (B, *grid), 0..K-1. The loss is in bits per code.

    Args:
        kwargs: those of SupervisedTrainer.
    """

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("loss_function", CodeBitsLoss())
        kwargs.setdefault("prepare_batch", code_batch)
        super().__init__(**kwargs, decollate=False)


class PriorEvaluator(SupervisedEvaluator):
    """MONAI's evaluator for the prior: the engine's output holds the batch and `bits` (B, *grid).

    Args:
        kwargs: those of SupervisedEvaluator; an inferer is not used.
    """

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("prepare_batch", code_batch)
        super().__init__(**kwargs, decollate=False)

    def _iteration(self, engine: SupervisedEvaluator, batchdata: dict[str, Any]) -> dict[str, Any]:
        codes, _ = engine.prepare_batch(batchdata, engine.state.device, engine.non_blocking)
        network: Any = engine.network
        with engine.mode(network):
            output = {**batchdata, "bits": code_bits(network, codes)}
        engine.state.output = output
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return output


class SamplingEngine(Evaluator):
    """Draws whole batches of codes from a prior and decodes them.

    Each batch has a generator of its own, seeded by (seed, batch number), so that a batch is the
    same whichever others are drawn. The engine's output holds `codes` (B, *grid) and `pred`
    (B, 1, *size), clipped to [0, 1].

    Args:
        device: where to draw.
        batches: the batch numbers to draw, 0, 1, ...
        network: the prior.
        decoder: the VQ-VAE; its `decode_samples` makes images of codes.
        inferer: draws codes: (network, batch_size, generator) -> (B, *grid).
        batch_size: images in a batch.
        seed: of the whole sample.
        val_handlers: handlers to attach.
    """

    def __init__(
        self,
        device: torch.device | str,
        batches: Iterable[int],
        network: nn.Module,
        decoder: nn.Module,
        inferer: Callable[..., torch.Tensor],
        batch_size: int = 64,
        seed: int = 0,
        val_handlers: Any = None,
    ) -> None:
        super().__init__(
            device=device,
            val_data_loader=list(batches),
            val_handlers=val_handlers,
            decollate=False,
            mode="eval",
        )
        self.network = network
        self.decoder = decoder
        self.inferer = inferer
        self.batch_size = batch_size
        self.seed = seed

    def _iteration(self, engine: Any, batchdata: Any) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(batch_seed(self.seed, batchdata))
        with engine.mode(self.network), engine.mode(self.decoder):
            codes = self.inferer(self.network, self.batch_size, generator)
            images = self.decoder.decode_samples(codes).clamp(0, 1)  # type: ignore[operator]
        return {"batch": batchdata, "codes": codes, "pred": images}


def batch_seed(seed: int, batch: int) -> int:
    """A seed for one batch, far from those of other batches and seeds (64 bits)."""
    return (seed * 0x9E3779B97F4A7C15 + batch * 0xBF58476D1CE4E5B9 + 1) % (1 << 63)
