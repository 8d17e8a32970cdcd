"""The VQ-VAE: slices to a grid of codes, and back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from monai_vqbrain.networks.quantizer import CodebookQuantizer


class BrainVQVAE(nn.Module):
    """A small convolutional VQ-VAE, with the interface of MONAI's VQVAE.

    Each entry of `channels` halves the image once, so (32, 64) gives factor 4. Residual blocks lie
    at the lowest resolution only, where they are cheapest.

    Args:
        spatial_dims: 2 or 3.
        channels: width after each halving.
        res_blocks: residual blocks in the encoder, and as many in the decoder.
        num_codes: K, the size of the codebook.
        code_dim: D, the length of a code's vector.
        rotation_trick: how gradients pass the quantizer, see CodebookQuantizer.

    Raises:
        ValueError: if a number is out of its range.

    Source: van den Oord et al. 2017, arXiv 1711.00937.

    Example:
        >>> network = BrainVQVAE().eval()
        >>> network.index_quantize(torch.rand(1, 1, 64, 64)).shape
        torch.Size([1, 16, 16])
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        channels: Sequence[int] = (32, 64),
        res_blocks: int = 2,
        num_codes: int = 512,
        code_dim: int = 8,
        rotation_trick: bool = True,
    ) -> None:
        super().__init__()
        if spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims must be 2 or 3, got {spatial_dims}")
        if not channels:
            raise ValueError("channels must name at least one width, such as (32, 64), got none")
        self.spatial_dims = spatial_dims
        self.num_codes = num_codes
        self.num_embeddings = num_codes  # MONAI's word, which its inferers read
        self.factor = 2 ** len(channels)
        self.settings = {
            "spatial_dims": spatial_dims,
            "channels": list(channels),
            "res_blocks": res_blocks,
            "num_codes": num_codes,
            "code_dim": code_dim,
            "rotation_trick": rotation_trick,
        }
        self.encoder = _encoder(spatial_dims, channels, res_blocks, code_dim)
        self.quantizer = CodebookQuantizer(num_codes, code_dim, rotation_trick=rotation_trick)
        self.decoder = _decoder(spatial_dims, channels, res_blocks, code_dim)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Reconstruct images.

        Args:
            images: (B, 1, *size) in [0, 1]; every side a multiple of the factor.

        Returns:
            In evaluation the reconstruction (B, 1, *size); in training the pair (reconstruction,
            quantizer loss), so that DDP synchronises all that the loss needs.

        Raises:
            ValueError: in training, if a side is no multiple of the factor.
        """
        encodings = self.encode(images)
        if not torch.jit.is_scripting() and self.training:
            quantised, loss, _ = self.quantizer(encodings)
            return self.decode(quantised), loss  # type: ignore[return-value]
        return self.decode_samples(self.quantizer.codes(encodings))

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Continuous encodings: (B, 1, *size) -> (B, D, *grid)."""
        if not torch.jit.is_scripting():
            self._check_size(images)
        return self.encoder(images)

    def decode(self, quantizations: torch.Tensor) -> torch.Tensor:
        """Images from quantised encodings: (B, D, *grid) -> (B, 1, *size), not clipped."""
        return self.decoder(quantizations)

    def decode_samples(self, embedding_indices: torch.Tensor) -> torch.Tensor:
        """Images from codes: (B, *grid) integers in 0..K-1 -> (B, 1, *size), not clipped."""
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
    def _check_size(self, images: torch.Tensor) -> None:
        size = tuple(images.shape[2:])
        if len(size) != self.spatial_dims or any(side % self.factor for side in size):
            raise ValueError(
                f"images must be (B, 1, {', '.join('HWD'[: self.spatial_dims])}) with every side a "
                f"multiple of {self.factor}, got shape {tuple(images.shape)}"
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


def _encoder(dims: int, channels: Sequence[int], res_blocks: int, code_dim: int) -> nn.Sequential:
    conv = _convolution(dims)
    layers: list[nn.Module] = []
    width = 1
    for wider in channels:
        layers += [conv(width, wider, 4, stride=2, padding=1), nn.ReLU()]
        width = wider
    layers.pop()  # a residual block begins with its own activation
    layers += [ResidualBlock(dims, width) for _ in range(res_blocks)]
    return nn.Sequential(*layers, nn.ReLU(), conv(width, code_dim, 1))


def _decoder(dims: int, channels: Sequence[int], res_blocks: int, code_dim: int) -> nn.Sequential:
    up = nn.ConvTranspose2d if dims == 2 else nn.ConvTranspose3d
    width = channels[-1]
    layers: list[nn.Module] = [_convolution(dims)(code_dim, width, 3, padding=1)]
    layers += [ResidualBlock(dims, width) for _ in range(res_blocks)]
    for narrower in [*reversed(channels[:-1]), 1]:
        layers += [nn.ReLU(), up(width, narrower, 4, stride=2, padding=1)]
        width = narrower
    return nn.Sequential(*layers)


def _convolution(dims: int) -> type[nn.Conv2d | nn.Conv3d]:
    return nn.Conv2d if dims == 2 else nn.Conv3d
