"""The prior over code grids: a causal convolutional network, code by code in raster order."""

from __future__ import annotations

import torch
from torch import Tensor, nn

CODE_WIDTH = 32  # numbers that stand for one code; the codebook's own dimension is of that order


class PixelCNN(nn.Module):
    """Give the logits of every code from those before it: the rows above, this row to the left.

    A vertical stack sees all rows above, a horizontal stack this row to the left, and each block
    links the first to the second, so that no code before a position is out of sight for the
    masks' sake (the classic blind spot). Strict causality lies in the first layer alone: it looks
    at codes strictly above and strictly left, so every later layer may look at its own position.
    What a position sees ends `layers` + 3 codes away; beyond that only its learned embedding of
    the absolute position speaks.

    Args:
        num_codes: K, the size of the codebook.
        grid: (h, w), the code grid's shape: h its first spatial dimension, the slower of the two
            in raster order.
        channels: width of both stacks.
        layers: number of blocks.
        dropout: probability of dropping a hidden unit of a block, in training.

    Raises:
        ValueError: if an argument is out of its range.

    Source:
        van den Oord et al., "Conditional Image Generation with PixelCNN Decoders" (2016): the two
        stacks. GELU and residual links in both stacks in place of its gates.

    Example:
        >>> prior = PixelCNN(num_codes=512, grid=(8, 6), channels=16, layers=2)
        >>> prior(torch.zeros(4, 8, 6, dtype=torch.long)).shape
        torch.Size([4, 512, 8, 6])
    """

    def __init__(
        self,
        num_codes: int = 512,
        grid: tuple[int, int] = (32, 32),
        channels: int = 96,
        layers: int = 6,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        _check(num_codes, grid, channels, layers, dropout)
        self.num_codes = num_codes
        self.height = int(grid[0])
        self.width = int(grid[1])
        self.settings = {
            "num_codes": num_codes,
            "grid": [self.height, self.width],
            "channels": channels,
            "layers": layers,
            "dropout": dropout,
        }
        self.embedding = nn.Embedding(num_codes, CODE_WIDTH)
        self.above = nn.Conv2d(CODE_WIDTH, channels, (3, 7), padding=(3, 3))
        self.left = nn.Conv2d(CODE_WIDTH, channels, (1, 3), padding=(0, 3))
        self.position_vertical = nn.Parameter(0.1 * torch.randn(channels, *grid))
        self.position_horizontal = nn.Parameter(0.1 * torch.randn(channels, *grid))
        self.blocks = nn.ModuleList(PixelCNNBlock(channels, dropout) for _ in range(layers))
        self.head = nn.Conv2d(channels, num_codes, 1)
        # The start is nearly uniform: log2(K) bits a code, no wrong certainty to unlearn first.
        for parameter in self.head.parameters():
            nn.init.normal_(parameter, std=0.01)

    def forward(self, codes: Tensor) -> Tensor:
        """Logits of every code given those before it, all positions at once.

        Args:
            codes: 0..K-1, (B, h, w) or (B, 1, h, w), of any integer type, or whole numbers as
                floating point (cut to integers here).

        Returns:
            (B, K, h, w) logits; those at (i, j) do not depend on the codes at (i, j) and later.

        Raises:
            ValueError: if the shape is not the grid's, or (on a CPU) a code is out of range.
        """
        codes = self.as_grid(codes)
        x = self.embedding(codes).permute(0, 3, 1, 2)  # (B, CODE_WIDTH, h, w)
        # Padding on both sides, and the overhang cut off, shifts a kernel to look strictly back.
        vertical = self.above(x)[:, :, : self.height] + self.position_vertical
        horizontal = self.left(x)[:, :, :, : self.width] + self.position_horizontal
        for block in self.blocks:
            vertical, horizontal = block(vertical, horizontal)
        logits: Tensor = self.head(horizontal)
        return logits

    def as_grid(self, codes: Tensor) -> Tensor:
        """The codes as (B, h, w) of type long; ValueError if they cannot be this prior's."""
        if codes.dim() == 4 and codes.shape[1] == 1:
            codes = codes[:, 0]
        if codes.dim() != 3 or codes.shape[1] != self.height or codes.shape[2] != self.width:
            raise ValueError(
                f"codes have the shape {list(codes.shape)}, but this prior's grid is "
                f"{self.height}x{self.width}: give (B, {self.height}, {self.width}), or train a "
                "prior for your grid"
            )
        codes = codes.long()
        # On other devices a look at the values would wait for the device in every step.
        if not torch.jit.is_scripting() and codes.device.type == "cpu" and codes.numel() > 0:
            low, high = torch.aminmax(codes)
            if low < 0 or high >= self.num_codes:
                raise ValueError(
                    f"codes reach from {int(low)} to {int(high)}, but this prior knows 0 to "
                    f"{self.num_codes - 1}: use the codes of the VQ-VAE that it was trained for"
                )
        return codes


class PixelCNNBlock(nn.Module):
    """One block of both stacks: (vertical, horizontal) features to the same, shapes unchanged.

    Args:
        channels: width of both stacks.
        dropout: probability of dropping a hidden unit, in training.
    """

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        self.vertical = nn.Conv2d(channels, channels, (2, 3), padding=(1, 1))
        self.vertical_out = nn.Conv2d(channels, channels, 1)
        self.horizontal = nn.Conv2d(channels, channels, (1, 2), padding=(0, 1))
        self.link = nn.Conv2d(channels, channels, 1, bias=False)
        self.horizontal_out = nn.Conv2d(channels, channels, 1)
        self.activation = nn.GELU()
        self.dropout = nn.Dropout(dropout)

    def forward(self, vertical: Tensor, horizontal: Tensor) -> tuple[Tensor, Tensor]:
        """Step both stacks; (B, C, h, w) each. The link reads the new vertical features."""
        hidden = self.activation(self.vertical(vertical)[:, :, : vertical.shape[2]])
        vertical = vertical + self.vertical_out(self.dropout(hidden))
        before = self.horizontal(horizontal)[:, :, :, : horizontal.shape[3]]
        hidden = self.activation(before + self.link(vertical))
        return vertical, horizontal + self.horizontal_out(self.dropout(hidden))


def _check(
    num_codes: int, grid: tuple[int, int], channels: int, layers: int, dropout: float
) -> None:
    if num_codes < 2:
        raise ValueError(f"num_codes is {num_codes}: a prior needs at least 2 codes")
    if len(grid) != 2 or min(grid) < 1:
        raise ValueError(f"grid is {tuple(grid)}: give two numbers of at least 1, (h, w)")
    if channels < 1 or layers < 1:
        raise ValueError(f"channels is {channels} and layers {layers}: both must be at least 1")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout is {dropout}: give a probability in [0, 1)")
