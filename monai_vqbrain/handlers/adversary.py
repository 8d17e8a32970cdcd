"""The discriminator's part of a VQ-GAN's training."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents

from monai_vqbrain.losses import PatchAdversary


class TrainDiscriminator:
    """Trains an adversary's discriminator on the output of each iteration of a VQVAETrainer.

    Its loss is added to the iteration's losses as `discriminator`. Save the discriminator and its
    optimizer in the checkpoint. (MONAI's AdversarialTrainer requires a generator that returns only
    an image; a VQ-VAE returns the quantizer's loss as well.) With several ranks, gradients are
    means over the items of all ranks.

    Args:
        adversary: a term of the trainer's loss.
        optimizer: the optimizer of the discriminator's weights.
        first_epoch: first epoch (1, 2, ...) in which the adversary is active, for both networks.

    Raises:
        ValueError: if first_epoch is less than 1.
    """

    def __init__(
        self, adversary: PatchAdversary, optimizer: torch.optim.Optimizer, first_epoch: int = 1
    ) -> None:
        if first_epoch < 1:
            raise ValueError(f"first_epoch must be 1 or more, got {first_epoch}")
        self.adversary = adversary
        self.optimizer = optimizer
        self.first_epoch = first_epoch

    def attach(self, engine: Engine) -> None:
        """Attach to a VQVAETrainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._begin)
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self._step)

    def _begin(self, engine: Engine) -> None:
        self.adversary.active = engine.state.epoch >= self.first_epoch

    def _step(self, engine: Engine) -> None:
        if not self.adversary.active:
            return
        output = engine.state.output
        loss = self.adversary.judge(output["pred"], output["image"])
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(self.adversary.discriminator.parameters(), len(output["image"]))
        self.optimizer.step()
        output["losses"]["discriminator"] = loss.detach()


def average_gradients(parameters: Iterable[torch.nn.Parameter], items: int) -> None:
    """Average gradients over ranks, each weighted by the number of items that its loss is of."""
    if idist.get_world_size() == 1:
        return
    total: Any = idist.all_reduce(items)
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad = idist.all_reduce(parameter.grad * (items / total))
