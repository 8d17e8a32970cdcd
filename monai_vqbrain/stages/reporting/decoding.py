"""The VQ-VAE's decoder as a function of arrays."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from monai_vqbrain.stages.reporting.image_sets import Decode


def decoder(network: nn.Module, size: tuple[int, int] | None) -> Decode:
    """The VQ-VAE as a function from code grids (B, G, w, h) to images (B, W, H) in [0, 1].

    Args:
        network: the VQ-VAE.
        size: (W, H) to cut the images to; None leaves them as they are decoded.
    """
    return partial(_decode, network, size)  # not a closure: other ranks get it


def _decode(network: Any, size: tuple[int, int] | None, codes: np.ndarray) -> np.ndarray:
    grids = torch.from_numpy(codes.astype(np.int64)).to(next(network.parameters()).device)
    if grids.shape[1] == 1:  # one group
        grids = grids[:, 0]
    with torch.inference_mode():
        images: torch.Tensor = network.decode_samples(grids)
    width, height = size or (None, None)
    return images[:, 0, :width, :height].float().cpu().numpy()
