"""Ignite engines for the VQ-VAE, on MONAI's trainer and evaluator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from ignite.engine import Engine
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.engines.utils import IterationEvents

from monai_vqbrain.losses import VQVAELoss
from monai_vqbrain.networks.vqvae import crop


def image_batch(
    batch: Mapping[str, Any], device: torch.device, non_blocking: bool = False, **_: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """The images of a batch, as input and as target."""
    images = batch["image"].to(device, non_blocking=non_blocking)
    return images, images


class VQVAETrainer(SupervisedTrainer):
    """MONAI's trainer for a network that returns (reconstruction, quantizer loss) in training.

    A batch is a dictionary with `image` (B, 1, *size) in [0, 1]. After an iteration the engine's
    output holds `image`, `label` (the same), `pred` (the reconstruction), `loss` and `losses`, the
    parts that a VQVAELoss consists of.

    Args:
        kwargs: those of SupervisedTrainer; `loss_function` is a VQVAELoss by default.
    """

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("loss_function", VQVAELoss())
        kwargs.setdefault("prepare_batch", image_batch)
        kwargs.setdefault("optim_set_to_none", True)
        super().__init__(**kwargs, decollate=False)
        self.add_event_handler(IterationEvents.LOSS_COMPLETED, _part)


def _part(engine: Engine) -> None:
    """Leave the reconstruction alone as `pred`, and the loss's parts."""
    output = engine.state.output
    output["pred"] = output["pred"][0].detach()
    output["losses"] = dict(getattr(engine.loss_function, "parts", {}))


class VQVAEEvaluator(SupervisedEvaluator):
    """MONAI's evaluator for the VQ-VAE: codes and reconstructions of slices, nothing learnt.

    A batch is a dictionary with `image` (B, 1, *size) in [0, 1] and, for the in-brain metrics,
    `mask` and `participant_id`. The engine's output holds those and `codes` (B, *grid) and `pred`
    (B, 1, *size).

    Args:
        decode: give `pred`; without it only codes are made, in a fifth of the time.
        kwargs: those of SupervisedEvaluator; an inferer is not used.
    """

    def __init__(self, *, decode: bool = True, **kwargs: Any) -> None:
        kwargs.setdefault("prepare_batch", image_batch)
        super().__init__(**kwargs, decollate=False)
        self.decode = decode

    def _iteration(self, engine: SupervisedEvaluator, batchdata: dict[str, Any]) -> dict[str, Any]:
        images, _ = engine.prepare_batch(
            batchdata, engine.state.device, engine.non_blocking, **engine.to_kwargs
        )
        network: Any = engine.network
        with engine.mode(network):
            codes = network.index_quantize(images)
            output = {**batchdata, "image": images, "codes": codes}
            if self.decode:
                output["pred"] = crop(network.decode_samples(codes), images)
        engine.state.output = output
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return output
