"""Ignite engines for the prior: training, likelihoods, sampling."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from monai.engines import Evaluator, SupervisedEvaluator, SupervisedTrainer
from torch import nn

from monai_vqbrain.engines.workflow import check_inferer, completed, enabled
from monai_vqbrain.inferers import PixelCNNInferer

DARK = 0.1  # brighter pixels are brain
REDRAWS = 5  # of images without a brain


class CodeBitsLoss(nn.Module):
    """Cross entropy of codes in bits: the mean of -log2 p(code) over batch and grid."""

    def forward(self, logits: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Logits (B, K, *grid) against codes (B, *grid), 0..K-1: a scalar, bits per code."""
        flat = logits.movedim(1, -1).flatten(0, -2)  # an eighth faster than channels first
        return F.cross_entropy(flat, codes.flatten()) / math.log(2)


class PriorBatch:
    """Turns a batch into the prior's inputs and targets, with random dropping of what it is given.

    A share of each input's codes is replaced by the code at the same position in another slice of
    the batch. On small cohorts this prevents memorisation of whole slices, and it trains the prior
    to continue after an unlikely code, which sampling will draw. Conditions, plans and previous
    slices are dropped at random, so that they may be missing later; without any condition the prior
    serves as the unconditional model of classifier-free guidance.

    Args:
        swapped: share of the input codes to replace, in [0, 1).
        hidden: probability that a condition is dropped, and again that all are, in [0, 1).
        alone: probability that the previous slice is dropped, in [0, 1]; 1 leaves it out.
        without_plan: probability that the plan is dropped, in [0, 1).

    Raises:
        ValueError: if one of the shares is out of its range.
    """

    def __init__(
        self,
        swapped: float = 0.0,
        hidden: float = 0.0,
        alone: float = 0.0,
        without_plan: float = 0.0,
    ) -> None:
        shares = {"swapped": swapped, "hidden": hidden, "without_plan": without_plan}
        for name, share in shares.items():
            if not 0 <= share < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {share}")
        if not 0 <= alone <= 1:
            raise ValueError(f"alone must lie in [0, 1], got {alone}")
        self.swapped, self.hidden = swapped, hidden
        self.alone, self.without_plan = alone, without_plan

    def __call__(
        self,
        batch: Mapping[str, Any],
        device: torch.device,
        non_blocking: bool = False,
        **_: Any,
    ) -> tuple[torch.Tensor, torch.Tensor, tuple[()], dict[str, torch.Tensor]]:
        """Input codes, target codes, no positional and all keyword arguments of the prior.

        Args:
            batch: `codes` (B, *grid), 0..K-1; optionally `condition` (B, C), NaN where a value is
                missing, `neighbour` (B, *grid), codes of the previous slices, and `plan`
                (B, h, w), see PixelCNN.
            device: device of all results.
            non_blocking: copy asynchronously where possible.

        Returns:
            As MONAI's engines take it: (inputs, targets, (), keyword arguments).
        """
        codes, inputs, given = batch["codes"].long(), batch["codes"].long(), {}
        # drawn on the CPU, so that a seed gives the same batch on every device
        if self.swapped:
            others = codes[torch.randperm(len(codes))]
            inputs = torch.where(torch.rand(codes.shape) < self.swapped, others, codes)
        if "condition" in batch:
            condition = batch["condition"].float()
            hide = torch.rand(condition.shape) < self.hidden
            hide |= torch.rand(len(condition), 1) < self.hidden
            given["condition"] = condition.masked_fill(hide, torch.nan)
        if "neighbour" in batch and self.alone < 1:
            hide = torch.rand(len(codes), *[1] * (codes.ndim - 1)) < self.alone
            given["neighbour"] = batch["neighbour"].long().masked_fill(hide, -1)
        if "plan" in batch:
            hide = torch.rand(len(codes), 1, 1) < self.without_plan
            given["plan"] = batch["plan"].float().masked_fill(hide, torch.nan)
        inputs, codes = (t.to(device, non_blocking=non_blocking) for t in (inputs, codes))
        given = {n: t.to(device, non_blocking=non_blocking) for n, t in given.items()}
        return inputs, codes, (), given


class PriorTrainer(SupervisedTrainer):
    """MONAI's trainer for a network that predicts each code from the previous ones.

    A batch is a dictionary as PriorBatch takes it. The loss is in bits per code.

    Args:
        decollate: split batch and output into lists of items after each iteration. The handlers of
            this package read whole batches.
        kwargs: those of SupervisedTrainer; `loss_function` is a CodeBitsLoss and `prepare_batch` a
            PriorBatch by default, and `train_handlers` may contain None, which is left out.
    """

    def __init__(self, *, decollate: bool = False, **kwargs: Any) -> None:
        kwargs.setdefault("loss_function", CodeBitsLoss())
        kwargs.setdefault("prepare_batch", PriorBatch())
        kwargs["train_handlers"] = enabled(kwargs.get("train_handlers"))
        super().__init__(**kwargs, decollate=decollate)


class PriorEvaluator(SupervisedEvaluator):
    """MONAI's evaluator for the prior: the engine's output holds the batch and `bits` (B, *grid).

    `bits` are the bits per code of each slice under its conditions alone, without a plan. If the
    batch contains the previous slices, `bits_after` (B, *grid) are those given the previous slice
    too.

    Args:
        decollate: split batch and output into lists of items after each iteration. The handlers
            and metrics of this package read whole batches.
        kwargs: those of SupervisedEvaluator. Its `inferer` is a PixelCNNInferer by default, of
            which `get_likelihood` is called; `val_handlers` may contain None, which is left out.

    Raises:
        ValueError: if the inferer has no `get_likelihood`.
    """

    def __init__(self, *, decollate: bool = False, **kwargs: Any) -> None:
        kwargs.setdefault("prepare_batch", PriorBatch())
        kwargs["inferer"] = kwargs.get("inferer") or PixelCNNInferer()
        check_inferer(self, kwargs["inferer"], "get_likelihood", example="PixelCNNInferer")
        kwargs["val_handlers"] = enabled(kwargs.get("val_handlers"))
        super().__init__(**kwargs, decollate=decollate)

    def _iteration(self, engine: Any, batchdata: dict[str, Any]) -> Any:
        _, codes, _, given = engine.prepare_batch(
            batchdata, engine.state.device, engine.non_blocking, **engine.to_kwargs
        )
        bits, network = engine.inferer.get_likelihood, engine.network
        with engine.mode(network):
            condition, neighbour = given.get("condition"), given.get("neighbour")
            output = {**batchdata, "bits": bits(codes, network, condition)}
            if neighbour is not None:
                output["bits_after"] = bits(codes, network, condition, neighbour)
        return completed(engine, output)


class SamplingEngine(Evaluator):
    """Draws batches of codes from a prior and decodes them to images.

    Each batch has its own generator, seeded by (seed, batch number), so that a batch does not
    depend on which others are drawn. The engine's output holds `batch` (its number), `codes`
    (B, *grid) and `pred` (B, 1, *size) in [0, 1]; for volumes of S slices `codes` (B, S, *grid) and
    `pred` (B, 1, *size, S).

    Args:
        device: device of the networks.
        batches: the batch numbers to draw, 0, 1, ...
        network: the prior.
        decoder: the VQ-VAE of its codes.
        inferer: its `sample` draws and decodes, such as PixelCNNInferer's.
        batch_size: images per batch.
        seed: of all batches together, at least 0.
        given: further arguments of the inferer's `sample` by name, such as `known`; tensors.
        rows: likewise, with one entry per image, such as `condition`: each batch takes its own.
        least_brain: images in which less than this share of the pixels is brighter than `DARK` are
            drawn again, a few times at most. No prior learns from such slices, so they are errors.
        decollate: split the output into a list of items after each iteration. The handlers of this
            package read whole batches.
        kwargs: those of MONAI's Evaluator; `val_handlers` may contain None, which is left out.

    Raises:
        ValueError: if the inferer has no `sample`.
    """

    def __init__(  # noqa: PLR0913  (an engine's parts, by name)
        self,
        device: torch.device | str,
        batches: Iterable[int],
        network: nn.Module,
        decoder: nn.Module,
        inferer: Any,
        batch_size: int = 64,
        seed: int = 0,
        *,
        given: Mapping[str, torch.Tensor] | None = None,
        rows: Mapping[str, torch.Tensor] | None = None,
        least_brain: float = 0.0,
        decollate: bool = False,
        **kwargs: Any,
    ) -> None:
        check_inferer(self, inferer, "sample", example="PixelCNNInferer")
        kwargs["val_handlers"] = enabled(kwargs.get("val_handlers"))
        super().__init__(device, list(batches), decollate=decollate, **kwargs)
        self.network = network
        self.decoder = decoder
        self.inferer = inferer
        self.batch_size = batch_size
        self.seed = seed
        self.least_brain = least_brain
        self.given = {name: tensor.to(device) for name, tensor in (given or {}).items()}
        self.rows = {name: tensor.to(device) for name, tensor in (rows or {}).items()}

    def _iteration(self, engine: Any, batchdata: Any) -> Any:
        generator = torch.Generator().manual_seed(batch_seed(self.seed, batchdata))
        networks = (self.network, self.decoder)
        rows = {name: self._of_batch(rows, batchdata) for name, rows in self.rows.items()}
        with engine.mode(*networks), torch.inference_mode():
            images, codes = self.inferer.sample(
                *networks, self.batch_size, generator, return_codes=True, **self.given, **rows
            )
            for _ in range(REDRAWS if self.least_brain else 0):
                empty = (images > DARK).flatten(1).float().mean(1) < self.least_brain
                if not empty.any():
                    break
                images[empty], codes[empty] = self.inferer.sample(
                    *networks,
                    int(empty.sum()),
                    generator,
                    return_codes=True,
                    **self.given,
                    **{name: part[empty] for name, part in rows.items()},
                )
        return completed(engine, {"batch": batchdata, "codes": codes, "pred": images})

    def _of_batch(self, rows: torch.Tensor, batch: int) -> torch.Tensor:
        """The rows of a batch, the last repeated where images beyond them are drawn."""
        numbers = torch.arange(self.batch_size) + batch * self.batch_size
        return rows[numbers.clamp(max=len(rows) - 1)]


def batch_seed(seed: int, batch: int) -> int:
    """A seed for one batch in 0..2^63-1, distinct across batches and seeds."""
    return (seed * 0x9E3779B97F4A7C15 + batch * 0xBF58476D1CE4E5B9 + 1) % (1 << 63)
