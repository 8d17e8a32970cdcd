"""A VQ-VAE behind MONAI's Inferer interface: images to codes, and codes to images."""

from __future__ import annotations

from typing import Any

from monai.inferers import Inferer
from torch import Tensor

from monai_vqbrain.networks.vqvae import crop


class VQVAEInferer(Inferer):
    """Inference with a VQ-VAE in two halves, so that codes and reconstruction cost one encoding.

    It takes a BrainVQVAE or MONAI's VQVAE. Evaluation mode and gradients are left to the caller,
    as with MONAI's SimpleInferer. It is not for training: codes are integers, so no gradient
    reaches the encoder.

    Example:
        >>> import torch
        >>> from monai_vqbrain.networks import BrainVQVAE
        >>> vqvae = BrainVQVAE(width=8, blocks=(1, 1), num_codes=16).eval()
        >>> images = torch.rand(2, 1, 18, 15)
        >>> VQVAEInferer()(images, vqvae).shape
        torch.Size([2, 1, 18, 15])
    """

    def __call__(self, inputs: Tensor, network: Any) -> Tensor:
        """Reconstructions (B, 1, *size), not clipped, of images (B, 1, *size) in [0, 1]."""
        return self.decode(self.encode(inputs, network), network, like=inputs)

    def encode(self, images: Tensor, network: Any) -> Tensor:
        """Codes (B, *grid), 0..K-1, of images (B, 1, *size) in [0, 1]."""
        codes: Tensor = network.index_quantize(images)
        return codes

    def decode(self, codes: Tensor, network: Any, like: Tensor) -> Tensor:
        """Images (B, 1, *size), not clipped, of codes (B, *grid), with the size of `like`."""
        return crop(network.decode_samples(codes), like)
