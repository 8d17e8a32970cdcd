"""The codes of a slice to inpaint, -1 in the masked region."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from monai_vqbrain.errors import UnusableImageError, VQBrainError
from monai_vqbrain.networks import BrainVQVAE
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.geometry import slice_frame
from monai_vqbrain.transforms.input_slice import (
    is_picture,
    is_single_slice,
    read_picture,
    read_slice_nifti as read_nifti,
)


def inpainting_codes(
    run: RunFolder, vqvae: BrainVQVAE, image: Path, mask: Path, weights: str | None = None
) -> torch.Tensor:
    """Encode a slice and set to -1 every code that the masked pixels influence.

    The receptive field of a code is larger than its cell, so the cells around the mask are masked
    as well: the codes that are kept depend on unmasked pixels only.

    Args:
        run: the run folder.
        vqvae: the run's VQ-VAE.
        image: a slice of the size of the run's slices, as NIfTI or picture.
        mask: of the same size and kind, non-zero where to inpaint.
        weights: the weights that the VQ-VAE is of, if it is not the run's; see `find_models`.

    Returns:
        (1, h, w) or (1, G, h, w) long, 0..K-1, or -1 where to inpaint.

    Raises:
        VQBrainError: if a file cannot be used, or has another size.
    """
    width, height, spacing = slice_frame(run, weights)
    pixels = _read_slice(image, spacing)
    masked = _read_slice(mask, spacing) > 0
    if pixels.shape != (width, height):
        raise VQBrainError(
            f"known image {image}: {pixels.shape[0]}x{pixels.shape[1]} pixels, and the run's "
            f"slices have {width}x{height}: give a slice of that size"
        )
    if masked.shape != (width, height) or not masked.any():
        raise VQBrainError(f"mask {mask}: it must cover a part of an image of the same size")
    device = next(vqvae.parameters()).device
    with torch.inference_mode():
        codes = vqvae.index_quantize(torch.from_numpy(pixels)[None, None].to(device)).cpu()
    return codes.masked_fill(_influenced_cells(masked, vqvae), -1)


def _influenced_cells(masked: np.ndarray, vqvae: BrainVQVAE) -> torch.Tensor:
    """The cells of the code grid that masked pixels influence: (1, w, h) bool."""
    reach = 1 + vqvae.settings["blocks"][0]  # cells: of the first convolution, and of each block
    cells = F.max_pool2d(torch.from_numpy(masked)[None].float(), vqvae.factor, ceil_mode=True)
    return F.max_pool2d(cells, 2 * reach + 1, stride=1, padding=reach) > 0


def _read_slice(path: Path, spacing: float) -> np.ndarray:
    """Read one slice: (W, H) float32 in [0, 1], in RAS axes."""
    if not (is_picture(path) or is_single_slice(path)):
        raise VQBrainError(f"{path} is not a single slice: give a slice as NIfTI or picture")
    try:
        image = read_picture(path) if is_picture(path) else read_nifti(path, spacing)
    except UnusableImageError as error:
        raise VQBrainError(f"{path} {error}") from error
    return np.ascontiguousarray(image.slices[..., 0])
