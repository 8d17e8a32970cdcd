"""A batch that several ranks share in training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from ignite.engine import Engine, Events
from ignite.utils import apply_to_tensor
from monai.engines.utils import IterationEvents

from monai_vqbrain.engines.vqvae import image_batch
from monai_vqbrain.errors import ComponentError
from monai_vqbrain.ranks import rank_count, share_of


class ShareOfBatch:
    """Prepares this rank's share of each batch, and weights its loss by its number of items.

    The mean of the losses over ranks is then the loss of the whole batch.
    All ranks load the same batches, because their generators of random numbers are equal, and each
    keeps consecutive items of it. What is drawn for a batch (order, crops, exchanged codes, dropped
    conditions) is then what a single process would have drawn. A loss must be a mean over items of
    the batch. It is both the trainer's `prepare_batch` and one of its handlers, the last.

    Args:
        prepare_batch: prepares a whole batch, such as a PriorBatch; takes its images by default.

    Raises:
        ValueError: when training starts, if an epoch has a batch of fewer items than ranks.
    """

    def __init__(self, prepare_batch: Callable[..., Any] = image_batch) -> None:
        self.prepare_batch = prepare_batch
        self.weight = 1.0

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        engine.add_event_handler(Events.STARTED, self._check)
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self._weight_loss)
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self._weight_parts)

    def __call__(
        self,
        batch: Mapping[str, Any],
        device: torch.device,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> Any:
        """What `prepare_batch` gives, restricted to this rank's items, on the device."""
        prepared = self.prepare_batch(batch, torch.device("cpu"), **kwargs)
        items = len(prepared[0])
        share = share_of(items)
        self.weight = (share.stop - share.start) * rank_count() / items
        return apply_to_tensor(
            prepared, lambda tensor: tensor[share].to(device, non_blocking=non_blocking)
        )

    def _check(self, engine: Engine) -> None:
        loader: Any = engine.state.dataloader
        items = len(loader.sampler)
        for size in (min(items, loader.batch_size), items % loader.batch_size):
            if 0 < size < rank_count():
                raise ComponentError(
                    f"an epoch of {items} slices in batches of {loader.batch_size} has a batch of "
                    f"{size}, fewer than the {rank_count()} processes: set slices_per_epoch to a "
                    f"multiple of batch_size, and that to {rank_count()} or more"
                )

    def _weight_loss(self, engine: Engine) -> None:
        engine.state.output["loss"] = engine.state.output["loss"] * self.weight

    def _weight_parts(self, engine: Engine) -> None:
        for name, part in engine.state.output.get("losses", {}).items():
            engine.state.output["losses"][name] = part * self.weight
