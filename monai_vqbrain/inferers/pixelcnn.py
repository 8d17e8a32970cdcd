"""A PixelCNN prior behind MONAI's Inferer interface: logits, samples and likelihoods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.networks.utils import eval_mode
from torch import Tensor

from monai_vqbrain.inferers.likelihood import code_bits
from monai_vqbrain.inferers.precision import MixedPrecisionInferer
from monai_vqbrain.inferers.sampling import AncestralSampler
from monai_vqbrain.networks.pixelcnn import PixelCNN
from monai_vqbrain.networks.vqvae import BrainVQVAE


class PixelCNNInferer(MixedPrecisionInferer):
    """Inference with a PixelCNN prior, in the form of MONAI's VQVAETransformerInferer.

    Called with inputs and a network it is an ordinary inferer for MONAI's SupervisedTrainer and
    SupervisedEvaluator. `sample` draws and decodes code grids, `get_likelihood` scores them; both
    compute in the network's own precision, whatever `amp` is.

    Args:
        sampler: draws codes, an AncestralSampler by default; a VolumeSampler draws whole volumes.
        amp: bfloat16 autocast of the call: True, False or "auto", see MixedPrecisionInferer.

    Raises:
        ValueError: for another value of amp.

    Example:
        >>> prior = PixelCNN(num_codes=16, grid=(4, 6), channels=8, layers=1)
        >>> vqvae = BrainVQVAE(width=8, blocks=(1, 1), num_codes=16)
        >>> inferer = PixelCNNInferer(AncestralSampler(temperature=0.9))
        >>> generator = torch.Generator().manual_seed(0)
        >>> images, codes = inferer.sample(prior, vqvae, 2, generator, return_codes=True)
        >>> images.shape, codes.shape
        (torch.Size([2, 1, 16, 24]), torch.Size([2, 4, 6]))
        >>> inferer.get_likelihood(codes, prior).shape
        torch.Size([2, 4, 6])
    """

    def __init__(
        self, sampler: Callable[..., Tensor] | None = None, amp: bool | str = False
    ) -> None:
        super().__init__(amp)
        self.sampler = AncestralSampler() if sampler is None else sampler

    def __call__(
        self,
        inputs: Tensor,
        network: Callable[..., Any],
        condition: Tensor | None = None,
        neighbour: Tensor | None = None,
    ) -> Tensor:
        """Logits of every code given those before it, all positions at once.

        Args:
            inputs: codes 0..K-1, (B, h, w), or (B, G, h, w) with several groups.
            network: the prior, in the caller's mode; gradients pass.
            condition: (B, C) rows, NaN where a value is missing, see PixelCNN.
            neighbour: codes of the previous slices, see PixelCNN.

        Returns:
            (B, K, *grid) logits, float32 under autocast too.
        """
        logits: Tensor = super().__call__(inputs, network, condition, neighbour)
        return logits

    def sample(
        self,
        network: PixelCNN,
        decoder: BrainVQVAE,
        batch_size: int,
        generator: torch.Generator,
        *,
        return_codes: bool = False,
        **given: Tensor | None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Draw a batch of code grids and decode them to images.

        Args:
            network: the prior; put in evaluation mode meanwhile.
            decoder: the VQ-VAE of these codes; put in evaluation mode meanwhile.
            batch_size: B, how many images or volumes are drawn at once.
            generator: the only source of randomness, on any device.
            return_codes: return the codes too.
            given: arguments of the sampler by name: `condition`, `neighbour`, `known` and `base`
                of AncestralSampler, `condition` and `base` of VolumeSampler.

        Returns:
            Images (B, 1, *size) in [0, 1], or volumes (B, 1, *size, S) of S slices; with
            `return_codes` the pair (images, codes), codes (B, *grid) or (B, S, *grid), 0..K-1.

        Raises:
            ValueError: as the sampler says.
        """
        with eval_mode(network, decoder):
            codes = self.sampler(network, batch_size, generator, **given)
            if codes.ndim == 1 + len(network.settings["grid"]):
                images = _decoded(decoder, codes)
            else:  # volumes: one slice after the other needs the least memory
                images = torch.stack([_decoded(decoder, part) for part in codes.unbind(1)], dim=-1)
        return (images, codes) if return_codes else images

    def get_likelihood(
        self,
        codes: Tensor,
        network: PixelCNN,
        condition: Tensor | None = None,
        neighbour: Tensor | None = None,
        plan: Tensor | None = None,
    ) -> Tensor:
        """Bits per code, as `code_bits`: MONAI's log-likelihoods (nats) times -1 / ln 2.

        Args:
            codes: (B, h, w), or (B, G, h, w) with several groups, 0..K-1.
            network: the prior; put in evaluation mode meanwhile.
            condition: (B, C) rows, NaN where a value is missing, see PixelCNN.
            neighbour: codes of the previous slices, see PixelCNN.
            plan: of the slices, (B, h, w), see PixelCNN.

        Returns:
            A map of the same shape as the codes, float32, bits, at least 0; no gradient is kept.

        Raises:
            ValueError: if the codes do not fit the prior (see PixelCNN).
        """
        return code_bits(network, codes, condition, neighbour, plan)


def _decoded(decoder: BrainVQVAE, codes: Tensor) -> Tensor:
    """Images (B, 1, *size) in [0, 1] from codes (B, *grid)."""
    return decoder.decode_samples(codes).clamp(0, 1)
