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


class PriorBatch:
    """Makes a prior's inputs and targets of a batch; training hides some of what it is told.

    A share of each input's codes is replaced by the code that another slice of the batch has at the
    same place. On small cohorts this keeps a prior from learning its slices by heart, and it learns
    to go on from the odd code that sampling will draw. What is hidden now and then is what may be
    missing later; without any condition a prior serves as the base of classifier-free guidance.

    Args:
        swapped: the share of codes to replace.
        hidden: the probability that a condition is hidden; and, once more, that all are.
        alone: the probability that the slice before is hidden.

    Raises:
        ValueError: if one of them is not in [0, 1).
    """

    def __init__(self, swapped: float = 0.0, hidden: float = 0.0, alone: float = 0.0) -> None:
        for name, share in {"swapped": swapped, "hidden": hidden, "alone": alone}.items():
            if not 0 <= share < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {share}")
        self.swapped, self.hidden, self.alone = swapped, hidden, alone

    def __call__(
        self,
        batch: Mapping[str, Any],
        device: torch.device,
        non_blocking: bool = False,
        **_: Any,
    ) -> tuple[torch.Tensor, torch.Tensor, tuple[()], dict[str, torch.Tensor]]:
        """Codes as input, codes as target, and what else the prior's forward takes.

        Args:
            batch: codes (B, *grid), 0..K-1; condition (B, C) and neighbour (B, *grid) if there are.
            device: where to put them.
            non_blocking: do not wait for the device.
        """
        codes, inputs, given = batch["codes"].long(), batch["codes"].long(), {}
        # drawn on the CPU, so that a seed gives the same on every device
        if self.swapped:
            others = codes[torch.randperm(len(codes))]
            inputs = torch.where(torch.rand(codes.shape) < self.swapped, others, codes)
        if "condition" in batch:
            condition = batch["condition"].float()
            hide = torch.rand(condition.shape) < self.hidden
            hide |= torch.rand(len(condition), 1) < self.hidden
            given["condition"] = condition.masked_fill(hide, torch.nan)
        if "neighbour" in batch:
            hide = torch.rand(len(codes), *[1] * (codes.ndim - 1)) < self.alone
            given["neighbour"] = batch["neighbour"].long().masked_fill(hide, -1)
        inputs, codes = (t.to(device, non_blocking=non_blocking) for t in (inputs, codes))
        given = {n: t.to(device, non_blocking=non_blocking) for n, t in given.items()}
        return inputs, codes, (), given


class PriorTrainer(SupervisedTrainer):
    """MONAI's trainer for a network that predicts each code from those before it.

    A batch is a dictionary as PriorBatch takes it. The loss is in bits per code.

    Args:
        kwargs: those of SupervisedTrainer.
    """

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("loss_function", CodeBitsLoss())
        kwargs.setdefault("prepare_batch", PriorBatch())
        super().__init__(**kwargs, decollate=False)


class PriorEvaluator(SupervisedEvaluator):
    """MONAI's evaluator for the prior: the engine's output holds the batch and `bits` (B, *grid).

    They are those of a slice by itself, under its conditions. Where a batch has the slices before,
    `bits_after` are those given them too.

    Args:
        kwargs: those of SupervisedEvaluator; an inferer is not used.
    """

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("prepare_batch", PriorBatch())
        super().__init__(**kwargs, decollate=False)

    def _iteration(self, engine: SupervisedEvaluator, batchdata: dict[str, Any]) -> dict[str, Any]:
        _, codes, _, given = engine.prepare_batch(
            batchdata, engine.state.device, engine.non_blocking
        )
        network: Any = engine.network
        output = {**batchdata, "bits": code_bits(network, codes, given.get("condition"))}
        if "neighbour" in given:
            output["bits_after"] = code_bits(network, codes, **given)
        engine.state.output = output
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return output


class SamplingEngine(Evaluator):
    """Draws whole batches of codes from a prior and decodes them.

    Each batch has a generator of its own, seeded by (seed, batch number), so that a batch is the
    same whichever others are drawn. The engine's output holds `codes` (B, *grid) and `pred`
    (B, 1, *size), clipped to [0, 1]; of volumes `codes` (B, S, *grid) and `pred` (B, 1, *size, S).

    Args:
        device: where to draw.
        batches: the batch numbers to draw, 0, 1, ...
        network: the prior.
        decoder: the VQ-VAE; its `decode_samples` makes images of codes.
        inferer: draws codes: (network, batch_size, generator, ...) -> (B, *grid) or (B, S, *grid).
        batch_size: images in a batch.
        seed: of the whole sample.
        given: what the inferer is given besides, by name, such as condition; a tensor each.
        val_handlers: handlers to attach.
    """

    def __init__(  # noqa: PLR0913  (an engine's parts, by name)
        self,
        device: torch.device | str,
        batches: Iterable[int],
        network: nn.Module,
        decoder: nn.Module,
        inferer: Callable[..., torch.Tensor],
        batch_size: int = 64,
        seed: int = 0,
        *,
        given: Mapping[str, torch.Tensor] | None = None,
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
        self.given = {name: tensor.to(device) for name, tensor in (given or {}).items()}

    def _iteration(self, engine: Any, batchdata: Any) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(batch_seed(self.seed, batchdata))
        with engine.mode(self.network), engine.mode(self.decoder):
            codes = self.inferer(self.network, self.batch_size, generator, **self.given)
            images = self._decode(codes)
        return {"batch": batchdata, "codes": codes, "pred": images}

    def _decode(self, codes: torch.Tensor) -> torch.Tensor:
        decode: Any = self.decoder.decode_samples
        if codes.ndim == 1 + len(self.network.settings["grid"]):  # type: ignore[index]
            return decode(codes).clamp(0, 1)
        return torch.stack([decode(part).clamp(0, 1) for part in codes.unbind(1)], dim=-1)


def batch_seed(seed: int, batch: int) -> int:
    """A seed for one batch, far from those of other batches and seeds (64 bits)."""
    return (seed * 0x9E3779B97F4A7C15 + batch * 0xBF58476D1CE4E5B9 + 1) % (1 << 63)
