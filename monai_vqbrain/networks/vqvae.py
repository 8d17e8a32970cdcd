"""The VQ-VAE: slices to a grid of codes, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import nn

from monai_vqbrain.networks.fsq import ScalarQuantizer
from monai_vqbrain.networks.quantizer import CodebookQuantizer


class BrainVQVAE(nn.Module):
    """A small convolutional VQ-VAE, with the interface of MONAI's VQVAE.

    Each code stands for a cell of `factor` pixels a side. One convolution, which looks a cell
    beyond its own on every side, brings the image to the grid of cells; all residual blocks lie
    there, where they are cheapest; one convolution gives all pixels of a cell at once. Images may
    have any size: they are padded with background at their far ends, and cropped back.

    Args:
        spatial_dims: 2 or 3.
        factor: side of a cell in pixels (voxels).
        width: channels on the grid.
        blocks: residual blocks before the quantizer and after it.
        num_codes: K, the size of the codebook; or levels such as (8, 8, 8) for a ScalarQuantizer in
            its place, for which code_dim and rotation_trick mean nothing, and groups must be 1.
        code_dim: D, the length of a code's vector.
        groups: codes for each cell, see CodebookQuantizer; then codes are (B, groups, *grid).
        rotation_trick: how gradients pass the quantizer, see CodebookQuantizer.

    Raises:
        ValueError: if an argument is out of its range, or of another kind.

    Source: van den Oord et al. 2017, arXiv 1711.00937; the last layer is the sub-pixel convolution
    of Shi et al. 2016, arXiv 1609.05158.

    Example:
        >>> network = BrainVQVAE().eval()
        >>> network.index_quantize(torch.rand(1, 1, 64, 50)).shape
        torch.Size([1, 16, 13])
        >>> network(torch.rand(1, 1, 64, 50)).shape
        torch.Size([1, 1, 64, 50])
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        factor: int = 4,
        width: int = 64,
        blocks: Sequence[int] = (1, 4),
        num_codes: int | Sequence[int] = 512,
        code_dim: int = 8,
        groups: int = 1,
        rotation_trick: bool = False,
    ) -> None:
        super().__init__()
        if spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims must be 2 or 3, got {spatial_dims}")
        if factor < 2 or width < 1:
            raise ValueError(
                f"factor must be 2 or more and width 1 or more, got {factor} and {width}"
            )
        if not _integers(blocks) or len(blocks) != 2 or min(blocks) < 0:
            raise ValueError(f"blocks must be two integers of 0 or more, got {blocks}")
        if not isinstance(num_codes, int) and not _integers(num_codes):
            raise ValueError(
                f"num_codes must be an integer, or levels such as (8, 8, 8), got {num_codes!r}"
            )
        if not isinstance(num_codes, int) and groups != 1:
            raise ValueError(f"with levels as num_codes, groups must be 1, got {groups}")
        self.spatial_dims = spatial_dims
        self.factor = factor
        self.settings: dict[str, Any] = {
            "spatial_dims": spatial_dims,
            "factor": factor,
            "width": width,
            "blocks": list(blocks),
            "num_codes": num_codes if isinstance(num_codes, int) else list(num_codes),
            "code_dim": code_dim,
            "groups": groups,
            "rotation_trick": rotation_trick,
        }
        self.quantizer: CodebookQuantizer | ScalarQuantizer
        if isinstance(num_codes, int):
            self.quantizer = CodebookQuantizer(
                num_codes, code_dim, groups=groups, rotation_trick=rotation_trick
            )
        else:
            self.quantizer = ScalarQuantizer(num_codes)
        self.num_codes = self.quantizer.num_codes
        self.num_embeddings = self.num_codes  # MONAI's word, which its inferers read
        code_dim = self.quantizer.code_dim
        conv = _convolution(spatial_dims)
        self.encoder = nn.Sequential(
            # the same as a 3-wide convolution over cells, and faster
            conv(1, width, 3 * factor, stride=factor, padding=factor),
            *(ResidualBlock(spatial_dims, width) for _ in range(blocks[0])),
            nn.ReLU(),
            conv(width, code_dim, 1),
        )
        self.decoder = nn.Sequential(
            conv(code_dim, width, 3, padding=1),
            *(ResidualBlock(spatial_dims, width) for _ in range(blocks[1])),
            nn.ReLU(),
            conv(width, factor**spatial_dims, 3, padding=1),
            CellsToPixels(factor),
        )
        if spatial_dims == 2:  # under bfloat16 a step takes three quarters of the time
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Reconstruct images.

        Args:
            images: (B, 1, *size) in [0, 1].

        Returns:
            In evaluation the reconstruction (B, 1, *size); in training the pair (reconstruction,
            quantizer loss), so that DDP synchronises all that the loss needs.

        Raises:
            ValueError: if the shape is another.
        """
        encodings = self.encode(images)
        if not torch.jit.is_scripting() and self.training:
            quantised, loss, _ = self.quantizer(encodings)
            return crop(self.decode(quantised), images), loss  # type: ignore[return-value]
        return crop(self.decode_samples(self.quantizer.codes(encodings)), images)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Continuous encodings: (B, 1, *size) -> (B, D, *grid), each side ceil(side / factor)."""
        if not torch.jit.is_scripting():
            self._check_shape(images)
        missing: list[int] = []
        for axis in range(images.dim() - 1, 1, -1):  # F.pad begins with the last side
            missing += [0, -images.shape[axis] % self.factor]
        return self.encoder(F.pad(images, missing))

    def decode(self, quantizations: torch.Tensor) -> torch.Tensor:
        """Images from quantised encodings: (B, D, *grid) -> (B, 1, *grid * factor), not clipped."""
        return self.decoder(quantizations)

    def decode_samples(self, embedding_indices: torch.Tensor) -> torch.Tensor:
        """Images from codes 0..K-1: (B, *grid) -> (B, 1, *grid * factor), not clipped.

        Where the images of these codes were no multiple of the factor, `crop` gives their size.
        """
        return self.decode(self.quantizer.embed(embedding_indices))

    @torch.jit.unused
    def index_quantize(self, images: torch.Tensor) -> torch.Tensor:
        """Codes of images: (B, 1, *size) -> (B, *grid), 0..K-1. Never changes the codebook."""
        return self.quantizer.codes(self.encode(images))

    @torch.jit.unused
    def quantize(self, encodings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Quantised encodings (B, D, *grid) and their loss; moves the codebook in training."""
        quantised, loss, _ = self.quantizer(encodings)
        return quantised, loss

    @torch.jit.unused
    def encode_stage_2_inputs(self, x: torch.Tensor) -> torch.Tensor:
        """Quantised encodings of images, as MONAI's inferers ask. Never changes the codebook."""
        return self.quantizer.embed(self.index_quantize(x))

    @torch.jit.unused
    def decode_stage_2_outputs(self, z: torch.Tensor) -> torch.Tensor:
        """Images from encodings that are quantised first, as MONAI's inferers ask."""
        return self.decode_samples(self.quantizer.codes(z))

    @torch.jit.unused
    def _check_shape(self, images: torch.Tensor) -> None:
        if images.ndim != 2 + self.spatial_dims or images.shape[1] != 1:
            raise ValueError(
                f"images must be (B, 1, {', '.join('HWD'[: self.spatial_dims])}), "
                f"got shape {tuple(images.shape)}"
            )


class ResidualBlock(nn.Module):
    """x + 1x1(ReLU(3x3(ReLU(x)))), at constant width.

    Args:
        spatial_dims: 2 or 3.
        width: channels in and out.
    """

    def __init__(self, spatial_dims: int, width: int) -> None:
        super().__init__()
        conv = _convolution(spatial_dims)
        self.layers = nn.Sequential(
            nn.ReLU(), conv(width, width, 3, padding=1), nn.ReLU(), conv(width, width, 1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, width, *grid) -> the same shape."""
        return x + self.layers(x)


class CellsToPixels(nn.Module):
    """Lay the channels of each cell out as its pixels: (B, factor^n, *grid) -> (B, 1, *size).

    Args:
        factor: side of a cell in pixels (voxels).
    """

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """2D or 3D; in 2D the same as nn.PixelShuffle."""
        f = self.factor
        if x.dim() == 4:
            return F.pixel_shuffle(x, f)
        b, h, w, d = x.shape[0], x.shape[2], x.shape[3], x.shape[4]
        cells = x.view(b, f, f, f, h, w, d).permute(0, 4, 1, 5, 2, 6, 3)
        return cells.reshape(b, 1, h * f, w * f, d * f)


def crop(images: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The first pixels of each side, as many as `like` has: (B, 1, *larger) -> (B, 1, *size)."""
    surplus: list[int] = []
    for axis in range(images.dim() - 1, 1, -1):  # F.pad begins with the last side
        surplus += [0, like.shape[axis] - images.shape[axis]]
    return F.pad(images, surplus)  # views would bind an export to sizes like its example's


def _integers(values: object) -> TypeGuard[Sequence[int]]:
    return isinstance(values, Sequence) and all(isinstance(value, int) for value in values)


def _convolution(dims: int) -> type[nn.Conv2d | nn.Conv3d]:
    return nn.Conv2d if dims == 2 else nn.Conv3d
