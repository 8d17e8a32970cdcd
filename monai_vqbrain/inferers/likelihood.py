"""How many bits a prior needs for a code grid."""

from __future__ import annotations

import math

import torch.nn.functional as F
from monai.networks.utils import eval_mode
from torch import Tensor

from monai_vqbrain.networks.pixelcnn import PixelCNN


def code_bits(
    network: PixelCNN,
    codes: Tensor,
    condition: Tensor | None = None,
    neighbour: Tensor | None = None,
    plan: Tensor | None = None,
) -> Tensor:
    """Bits per code given the codes before it: -log2 of its probability under the prior.

    Their sum over a grid is the code length of the whole grid under the prior; their map shows
    where an image differs from those that the prior was trained on.

    Args:
        network: the prior; put in evaluation mode meanwhile, no gradient kept.
        codes: (B, h, w), or (B, G, h, w) with several groups, 0..K-1.
        condition: (B, C) rows, NaN where a value is missing, see PixelCNN.
        neighbour: codes of the previous slices, see PixelCNN.
        plan: of the slices, (B, h, w), see PixelCNN.

    Returns:
        As the codes, float32, bits, at least 0.

    Raises:
        ValueError: if the codes do not fit the prior (see PixelCNN).

    Example:
        >>> import torch
        >>> prior = PixelCNN(num_codes=16, grid=(4, 6), channels=8, layers=1)
        >>> code_bits(prior, torch.zeros(2, 4, 6, dtype=torch.long)).mean().round()
        tensor(4.)
    """
    with eval_mode(network):
        logits = network(codes, condition, neighbour, plan)
        nats = F.cross_entropy(logits, network.as_grid(codes), reduction="none")
    return nats.float() / math.log(2)
