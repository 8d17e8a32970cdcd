"""Ignite engines for the VQ-VAE, on MONAI's trainer and evaluator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from ignite.engine import Engine
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.engines.utils import IterationEvents

from monai_vqbrain.engines.workflow import check_inferer, completed, enabled
from monai_vqbrain.inferers import VQVAEInferer
from monai_vqbrain.losses import VQVAELoss


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
    parts of a VQVAELoss.

    Args:
        decollate: split batch and output into lists of items after each iteration. The handlers of
            this package read whole batches.
        kwargs: those of SupervisedTrainer; `loss_function` is a VQVAELoss by default, and
            `train_handlers` may contain None, which is left out.
    """

    def __init__(self, *, decollate: bool = False, **kwargs: Any) -> None:
        kwargs.setdefault("loss_function", VQVAELoss())
        kwargs.setdefault("prepare_batch", image_batch)
        kwargs.setdefault("optim_set_to_none", True)
        kwargs["train_handlers"] = enabled(kwargs.get("train_handlers"))
        super().__init__(**kwargs, decollate=decollate)
        self.add_event_handler(IterationEvents.LOSS_COMPLETED, _split_prediction)


def _split_prediction(engine: Engine) -> None:
    """Keep only the reconstruction as `pred`, and add the parts of the loss."""
    output = engine.state.output
    output["pred"] = output["pred"][0].detach()
    output["losses"] = dict(getattr(engine.loss_function, "parts", {}))


class VQVAEEvaluator(SupervisedEvaluator):
    """MONAI's evaluator for the VQ-VAE: codes and reconstructions of images.

    A batch is a dictionary with `image` (B, 1, *size) in [0, 1] and, for the in-brain metrics,
    `mask` and `participant_id`. The engine's output holds the batch, `codes` (B, *grid) and `pred`
    (B, 1, *size).

    Args:
        decode: compute `pred`; encoding alone takes a fifth of the time.
        decollate: split batch and output into lists of items after each iteration. The handlers
            and metrics of this package read whole batches.
        kwargs: those of SupervisedEvaluator. Its `inferer` is a VQVAEInferer by default, of which
            `encode` and `decode` are called; `val_handlers` may contain None, which is left out.

    Raises:
        ValueError: if the inferer has no `encode` or `decode`.
    """

    def __init__(self, *, decode: bool = True, decollate: bool = False, **kwargs: Any) -> None:
        kwargs.setdefault("prepare_batch", image_batch)
        kwargs["inferer"] = kwargs.get("inferer") or VQVAEInferer()
        check_inferer(self, kwargs["inferer"], "encode", "decode", example="VQVAEInferer")
        kwargs["val_handlers"] = enabled(kwargs.get("val_handlers"))
        super().__init__(**kwargs, decollate=decollate)
        self.decode = decode

    def _iteration(self, engine: Any, batchdata: dict[str, Any]) -> Any:
        images, _ = engine.prepare_batch(
            batchdata, engine.state.device, engine.non_blocking, **engine.to_kwargs
        )
        with engine.mode(engine.network):
            codes = engine.inferer.encode(images, engine.network)
            output = {**batchdata, "image": images, "codes": codes}
            if self.decode:
                output["pred"] = engine.inferer.decode(codes, engine.network, like=images)
        return completed(engine, output)
