"""A slice of which a part is to be drawn anew: its codes, -1 where the mask lies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.networks import BrainVQVAE
from monai_vqbrain.provenance import read_provenance
from monai_vqbrain.stages.images import read_original
from monai_vqbrain.stages.original import Frame, Original
from monai_vqbrain.stages.run import RunFolder
from monai_vqbrain.stages.volume import UnusableVolumeError


def known_codes(run: RunFolder, vqvae: BrainVQVAE, image: Path, mask: Path) -> torch.Tensor:
    """The codes of a slice, -1 for all that what the mask covers has a say in.

    A code sees some cells beyond its own, so those around the mask are hidden as well: what is kept
    is the image's own, and knows nothing of what is hidden.

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
    pixels = torch.from_numpy(np.ascontiguousarray(original.slices[..., 0]))[None, None]
    device = next(vqvae.parameters()).device
    with torch.inference_mode():
        codes = vqvae.index_quantize(pixels.to(device)).cpu()
    reach = 1 + vqvae.settings["blocks"][0]  # cells: of the first convolution, and of each block
    cells = F.max_pool2d(torch.from_numpy(hidden)[None].float(), vqvae.factor, ceil_mode=True)
    cells = F.max_pool2d(cells, 2 * reach + 1, stride=1, padding=reach)
    return codes.masked_fill(cells > 0, -1)


def _slice(path: Path, frame: Frame) -> Original:
    try:
        original = read_original(path, frame)
    except UnusableVolumeError as error:
        raise VQBrainError(f"{path} {error}") from error
    if original.slices.shape[2] != 1:
        raise VQBrainError(f"{path} is a volume, and one slice is filled in: give a slice")
    return original
