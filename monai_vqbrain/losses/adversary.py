"""A discriminator of patches, for a VQ-GAN."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import SimpleInferer
from monai.losses import PatchAdversarialLoss
from torch import Tensor, nn


class PatchAdversary(nn.Module):
    """Both sides' losses of a VQ-VAE against a discriminator that looks at patches.

    As a term of VQVAELoss it is the VQ-VAE's side, whose gradient stops at the discriminator;
    `judge` is the discriminator's. The handler TrainDiscriminator makes it learn.

    Args:
        discriminator: images (B, 1, *size) to a list whose last entry are patches' logits, such as
            MONAI's PatchDiscriminator.
        criterion: of MONAI's kind, called with (logits, is it real, for the discriminator).
        inferer: runs the discriminator: (images, discriminator).

    Source: Esser et al., Taming transformers for high-resolution image synthesis, 2021, arXiv
    2012.09841 (here with a fixed weight).

    Example:
        >>> from monai.networks.nets import PatchDiscriminator
        >>> adversary = PatchAdversary(PatchDiscriminator(2, channels=4, in_channels=1))
        >>> image = torch.rand(2, 1, 32, 32)
        >>> adversary(image, image).shape
        torch.Size([])
    """

    def __init__(
        self,
        discriminator: nn.Module,
        criterion: nn.Module | None = None,
        inferer: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__()
        self.discriminator = discriminator
        self.criterion = criterion or PatchAdversarialLoss(criterion="hinge")
        self.inferer = inferer or SimpleInferer()
        self.active = True  # TrainDiscriminator may have it wait

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """How little the prediction (B, 1, *size) looks real: a scalar, 0 while not active."""
        if not self.active:
            return prediction.new_zeros(())
        self.discriminator.requires_grad_(False)  # its own gradient is not wanted here
        logits = self._logits(prediction)
        self.discriminator.requires_grad_(True)
        loss: Tensor = self.criterion(logits, target_is_real=True, for_discriminator=False)
        return loss

    def judge(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The discriminator's error between predictions and images (B, 1, *size): a scalar."""
        fake = self.criterion(
            self._logits(prediction.detach()), target_is_real=False, for_discriminator=True
        )
        real = self.criterion(self._logits(target), target_is_real=True, for_discriminator=True)
        return torch.mean(torch.stack((fake, real)))

    def _logits(self, images: Tensor) -> Tensor:
        logits: Tensor = self.inferer(images.contiguous(), self.discriminator)[-1]
        return logits
