"""A slice of which a part is to be drawn anew: its codes, -1 where the mask lies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.networks import BrainVQVAE
from monai_vqbrain.provenance import read_provenance
from monai_vqbrain.stages.images import read_original
from monai_vqbrain.stages.original import Frame, Original
from monai_vqbrain.stages.run import RunFolder


def known_codes(run: RunFolder, vqvae: BrainVQVAE, image: Path, mask: Path) -> torch.Tensor:
    """The codes of a slice, of which those of every cell that the mask touches are -1.

    What the mask covers is taken out of the image before it is encoded, since codes beside it see
    across its edge.

    Args:
        run: the run folder.
        vqvae: the run's VQ-VAE.
        image: a slice of the size of the run's, as NIfTI or picture.
        mask: of the same size and kind, not 0 where to draw anew.

    Returns:
        (1, h, w) or (1, G, h, w), long.

    Raises:
        VQBrainError: if a file cannot be used, or does not fit.
    """
    options = (read_provenance(run.slices) or {})["options"]
    frame = Frame.of(options)
    original, hidden = _slice(image, frame), _slice(mask, frame).slices[..., 0] > 0
    if original.slices.shape[:2] != frame.size:
        width, height = original.slices.shape[:2]
        raise VQBrainError(
            f"--known {image}: {width}x{height} pixels, and the run's slices have "
            f"{frame.size[0]}x{frame.size[1]}: give a slice of that size"
        )
    if hidden.shape != frame.size or not hidden.any():
        raise VQBrainError(f"--mask {mask}: it must cover a part of an image of the same size")
    kept = torch.from_numpy(np.where(hidden, 0, original.slices[..., 0]))[None, None]
    device = next(vqvae.parameters()).device
    with torch.inference_mode():
        codes = vqvae.index_quantize(kept.to(device)).cpu()
    cells = torch.nn.functional.max_pool2d(
        torch.from_numpy(hidden)[None, None].float(), vqvae.factor, ceil_mode=True
    )
    return codes.masked_fill(cells[0] > 0, -1)


def _slice(path: Path, frame: Frame) -> Original:
    original = read_original(path, frame)
    if original.slices.shape[2] != 1:
        raise VQBrainError(f"{path} is a volume, and one slice is filled in: give a slice")
    return original
