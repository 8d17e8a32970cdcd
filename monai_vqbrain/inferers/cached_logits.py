"""A PixelCNN's logits position by position, without computing any feature twice."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from monai_vqbrain.networks.pixelcnn import PixelCNN, PixelCNNBlock


class CachedLogits:
    """Walk a batch of code grids as they are scanned, each position from what is kept before it.

    A row's vertical features need the rows above alone, so they are made for the whole row when it
    begins; the horizontal stack then takes one step a position: in each layer a matrix product over
    two neighbouring slots of the layer's row, an activation, and a matrix product into the next
    layer's row. Equal to the network's forward up to the order of sums: to 1e-5 in float32, and
    hardly at all in float64.

    Use in this order: for each row `begin_row`, then for each column and group `logits`, `write`.
    Rows and columns are those of the scan (`PixelCNN.raster`).

    Args:
        network: the prior, in evaluation mode (dropout is not applied).
        batch_size: B, how many grids are walked at once.
        condition: (B, C) or (1, C), see PixelCNN.
        neighbour: codes of the slices before, see PixelCNN.
    """

    def __init__(
        self,
        network: PixelCNN,
        batch_size: int,
        condition: Tensor | None = None,
        neighbour: Tensor | None = None,
    ) -> None:
        self.network = network
        kept = network.embedding.weight.new_zeros
        columns, width = network.raster[1], network.embedding.embedding_dim
        self.above = kept(batch_size, width, 3, columns)  # the last three rows, embedded
        self.row = kept(batch_size, 3 + columns, width)  # this row, after three empty places
        self.left = [self.row[:, column : column + 3].flatten(1) for column in range(columns)]
        self.taps = _as_matrix(network.left.weight)
        self.neighbour = network.neighbour_features(neighbour)
        vector = network.condition_vector(condition)
        blocks = [cast("PixelCNNBlock", block) for block in network.blocks]
        self.last = kept(batch_size, columns, blocks[0].horizontal.out_channels)
        # A layer's output bias is left out of the rows and added once, where it ends up.
        missing = kept(self.last.shape[-1])
        self.layers: list[_Layer] = []
        for block in blocks:
            self.layers.append(_Layer(block, self.last.shape, missing, block.shifts(vector)))
            missing = missing + cast("Tensor", block.horizontal_out.bias)
        self.missing = missing
        self.features = self.last[:, 0]  # of no position yet
        rows = [*(layer.row[:, 1:] for layer in self.layers), self.last]
        self.slots = [[row[:, column] for row in rows] for column in range(columns)]  # (B, C) each

    def begin_row(self, row: int) -> None:
        """Make the vertical features of `row`; all rows above must have been written."""
        network = self.network
        if row > 0:
            finished = self.row[:, 3:].transpose(1, 2)  # (B, CODE_WIDTH, columns)
            self.above = torch.cat((self.above[:, :, 1:], finished[:, :, None]), dim=2)
            self.row[:, 3:] = 0
        first = network.above
        vertical = F.conv2d(self.above, first.weight, first.bias, padding=(0, 3))
        vertical = vertical + network.position_vertical[:, row : row + 1]  # (B, C, 1, columns)
        start = network.position_horizontal[:, row].T + cast("Tensor", network.left.bias)
        self.starts = start[:, None]  # (columns, 1, C)
        if self.neighbour is not None:
            vertical = vertical + self.neighbour[0][:, :, row : row + 1]
            self.starts = self.starts + self.neighbour[1][:, :, row].permute(2, 0, 1)
        for layer in self.layers:
            vertical = layer.begin_row(vertical)

    def logits(self, column: int, group: int = 0) -> Tensor:
        """The (B, K) logits of a group at `column`; all before must have been written."""
        network = self.network
        if group == 0:
            slots = self.slots[column]
            start = self.starts[column].expand_as(slots[0])
            torch.addmm(start, self.left[column], self.taps, out=slots[0])
            for layer, x, after in zip(self.layers, slots, slots[1:], strict=False):
                layer.step(column, x, after)
            self.features = slots[-1] + self.missing
        part = slice(group * network.num_codes, (group + 1) * network.num_codes)
        bias = cast("Tensor", network.head.bias)
        return F.linear(
            network.activate(self.features), network.head.weight[part, :, 0, 0], bias[part]
        )

    def write(self, column: int, codes: Tensor, group: int = 0) -> None:
        """Settle the (B,) codes of a group at `column` of this row."""
        network = self.network
        codes = codes + group * network.num_codes
        self.row[:, column + 3] += network.embedding(codes)
        if group + 1 < network.groups:
            self.features = self.features + network.within(codes)


class _Layer:
    """What one block keeps: its vertical input of the row above, its horizontal input of this.

    Args:
        block: whose.
        shape: (B, columns, C).
        missing: (C,) what all values of the row lack.
        shifts: of the conditions, for the vertical and the horizontal stack.
    """

    def __init__(
        self,
        block: PixelCNNBlock,
        shape: torch.Size,
        missing: Tensor,
        shifts: list[Tensor] | None,
    ) -> None:
        self.block = block
        batch_size, columns, channels = shape
        self.taps = _as_matrix(block.horizontal.weight)
        self.out = block.horizontal_out.weight[:, :, 0, 0].T.contiguous()
        self.above = missing.new_zeros(batch_size, channels, 1, columns)
        self.row = missing.new_zeros(batch_size, 1 + columns, channels)
        self.row[:, 0] = -missing  # the empty place before the first
        self.pairs = [self.row[:, column : column + 2].flatten(1) for column in range(columns)]
        self.link = missing.new_zeros(columns, batch_size, channels)
        self.links = self.link.unbind()
        self.constant = cast("Tensor", block.horizontal.bias) + missing.repeat(2) @ self.taps
        self.shift: Tensor | None = None
        if shifts is not None:
            self.shift = shifts[0]
            self.constant = self.constant + shifts[1][:, :, 0, 0]

    def begin_row(self, vertical: Tensor) -> Tensor:
        """Step the vertical stack by a row, (B, C, 1, columns) to the same, and link it to this."""
        block = self.block
        two_rows = torch.cat((self.above, vertical), dim=2)
        self.above = vertical
        kernel = block.vertical
        hidden = F.conv2d(two_rows, kernel.weight, kernel.bias, padding=(0, 1))
        if self.shift is not None:
            hidden = hidden + self.shift
        vertical = vertical + block.vertical_out(block.activation(hidden))
        link = block.link(vertical)[:, :, 0].permute(2, 0, 1)
        torch.add(link, self.constant, out=self.link)
        return vertical

    def step(self, column: int, x: Tensor, after: Tensor) -> None:
        """Step the horizontal stack at one position: from (B, C) x, in its row, into `after`."""
        before = torch.addmm(self.links[column], self.pairs[column], self.taps)
        torch.addmm(x, F.gelu(before), self.out, out=after)


def _as_matrix(weight: Tensor) -> Tensor:
    """A (out, in, 1, n) kernel as the (n * in, out) matrix that n neighbours multiply."""
    return weight[:, :, 0].permute(2, 1, 0).reshape(-1, weight.shape[0]).contiguous()
