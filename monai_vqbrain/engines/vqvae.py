"""Ignite engines for the VQ-VAE, on MONAI's trainer and evaluator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.engines.utils import IterationEvents
from torch import nn


class VQVAELoss(nn.Module):
    """Reconstruction loss plus the quantizer's own.

    Args:
        reconstruction: any loss of (prediction, target), L1 by default.
    """

    def __init__(self, reconstruction: nn.Module | None = None) -> None:
        super().__init__()
        self.reconstruction = reconstruction or nn.L1Loss()

    def forward(
        self, output: tuple[torch.Tensor, torch.Tensor], target: torch.Tensor
    ) -> torch.Tensor:
        """The loss of (reconstruction (B, 1, *size), quantizer loss) against the images."""
        reconstruction, quantizer_loss = output
        return self.reconstruction(reconstruction, target) + quantizer_loss


def image_batch(
    batch: Mapping[str, Any], device: torch.device, non_blocking: bool = False, **_: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """The images of a batch, as input and as target."""
    images = batch["image"].to(device, non_blocking=non_blocking)
    return images, images


class VQVAETrainer(SupervisedTrainer):
    """MONAI's trainer for a network that returns (reconstruction, quantizer loss) in training.

    A batch is a dictionary with `image` (B, 1, *size) in [0, 1]. After an iteration the engine's
    output holds `image`, `label` (the same), `pred` (the reconstruction) and `loss`.

    Args:
        kwargs: those of SupervisedTrainer; `loss_function` is a VQVAELoss by default.
    """

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("loss_function", VQVAELoss())
        kwargs.setdefault("prepare_batch", image_batch)
        super().__init__(**kwargs, decollate=False)

    def _iteration(self, engine: SupervisedTrainer, batchdata: dict[str, Any]) -> dict[str, Any]:
        output = super()._iteration(engine, batchdata)
        output["pred"] = output["pred"][0].detach()
        return output


class VQVAEEvaluator(SupervisedEvaluator):
    """MONAI's evaluator for the VQ-VAE: codes and reconstructions of slices, nothing learnt.

    A batch is a dictionary with `image` (B, 1, *size) in [0, 1] and, for the in-brain metrics,
    `mask` and `participant_id`. The engine's output holds those and `codes` (B, *grid) and `pred`
    (B, 1, *size).

    Args:
        kwargs: those of SupervisedEvaluator; an inferer is not used.
    """

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("prepare_batch", image_batch)
        super().__init__(**kwargs, decollate=False)

    def _iteration(self, engine: SupervisedEvaluator, batchdata: dict[str, Any]) -> dict[str, Any]:
        images, _ = engine.prepare_batch(
            batchdata, engine.state.device, engine.non_blocking, **engine.to_kwargs
        )
        network: Any = engine.network
        with engine.mode(network):
            codes = network.index_quantize(images)
            prediction = network.decode_samples(codes)
        output = {**batchdata, "image": images, "pred": prediction, "codes": codes}
        engine.state.output = output
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return output
