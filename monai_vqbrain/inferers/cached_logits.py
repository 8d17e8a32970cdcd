"""A PixelCNN's logits position by position, without computing any feature twice."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from monai_vqbrain.networks.pixelcnn import PixelCNN, PixelCNNBlock


class CachedLogits:
    """Walk a batch of code grids in raster order, each position from what is kept of those before.

    A row's vertical features need the rows above alone, so they are made for the whole row when it
    begins; the horizontal stack then takes one step a position. Equal to the network's forward up
    to the order of sums: to 1e-5 in float32, and hardly at all in float64.

    Use in this order: for each row `begin_row`, then for each column `logits`, `write`.

    Args:
        network: the prior, in evaluation mode (dropout is not applied).
        batch_size: B, how many grids are walked at once.
    """

    def __init__(self, network: PixelCNN, batch_size: int) -> None:
        self.network = network
        kept = network.embedding.weight.new_zeros
        width = network.embedding.embedding_dim
        self.above = kept(batch_size, width, 3, network.width)  # the last three rows, embedded
        self.row = kept(batch_size, 3 + network.width, width)  # this row, after three empty places
        self.taps = _as_matrix(network.left.weight)
        self.layers = [
            _Layer(cast("PixelCNNBlock", block), batch_size, network.width)
            for block in network.blocks
        ]

    def begin_row(self, row: int) -> None:
        """Make the vertical features of `row`; all rows above must have been written."""
        if row > 0:
            finished = self.row[:, 3:].transpose(1, 2)  # (B, CODE_WIDTH, w)
            self.above = torch.cat((self.above[:, :, 1:], finished[:, :, None]), dim=2)
        network = self.network
        first = network.above
        vertical = F.conv2d(self.above, first.weight, first.bias, padding=(0, 3))
        vertical = vertical + network.position_vertical[:, row : row + 1]  # (B, C, 1, w)
        for layer in self.layers:
            vertical = layer.begin_row(vertical)
        bias = cast("Tensor", network.left.bias)
        self.positions = network.position_horizontal[:, row].T + bias  # (w, C)

    def logits(self, column: int) -> Tensor:
        """The (B, K) logits at `column` of this row; all columns before must have been written."""
        x = torch.addmm(
            self.positions[column], self.row[:, column : column + 3].flatten(1), self.taps
        )
        for layer in self.layers:
            x = layer.step(x, column)
        head = self.network.head
        return F.linear(x, head.weight[:, :, 0, 0], head.bias)

    def write(self, column: int, codes: Tensor) -> None:
        """Settle the (B,) codes at `column` of this row."""
        self.row[:, column + 3] = self.network.embedding(codes)


class _Layer:
    """What one block keeps: its vertical input of the row above, its horizontal input of this."""

    def __init__(self, block: PixelCNNBlock, batch_size: int, width: int) -> None:
        self.block = block
        kernel = block.horizontal.weight
        channels = kernel.shape[0]
        self.taps = _as_matrix(kernel)
        self.out = block.horizontal_out.weight[:, :, 0, 0]
        self.above = kernel.new_zeros(batch_size, channels, 1, width)
        self.row = kernel.new_zeros(batch_size, 1 + width, channels)  # after one empty place

    def begin_row(self, vertical: Tensor) -> Tensor:
        """Step the vertical stack by a row, (B, C, 1, w) to the same, and link it to this row."""
        block = self.block
        two_rows = torch.cat((self.above, vertical), dim=2)
        self.above = vertical
        kernel = block.vertical
        hidden = F.conv2d(two_rows, kernel.weight, kernel.bias, padding=(0, 1))
        vertical = vertical + block.vertical_out(block.activation(hidden))
        link = block.link(vertical)[:, :, 0].permute(2, 0, 1)
        self.link = (link + block.horizontal.bias).contiguous()  # (w, B, C)
        return vertical

    def step(self, x: Tensor, column: int) -> Tensor:
        """Step the horizontal stack at one position, (B, C) to the same."""
        block = self.block
        self.row[:, column + 1] = x
        two = self.row[:, column : column + 2].flatten(1)
        hidden = block.activation(torch.addmm(self.link[column], two, self.taps))
        return x + F.linear(hidden, self.out, block.horizontal_out.bias)


def _as_matrix(weight: Tensor) -> Tensor:
    """A (out, in, 1, n) kernel as the (n * in, out) matrix that n neighbours multiply."""
    return weight[:, :, 0].permute(2, 1, 0).reshape(-1, weight.shape[0]).contiguous()
