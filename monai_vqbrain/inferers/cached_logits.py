"""A PixelCNN's logits position by position, without computing any feature twice."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor

from monai_vqbrain.inferers.gelu import ROOT, root_gelu
from monai_vqbrain.networks.pixelcnn import PixelCNN, PixelCNNBlock

AT_ONCE = 128  # places of a row whose features are made at a time


class CachedLogits:
    """Walk a batch of code grids as they are scanned, each position from what is kept before it.

    A row's vertical features need the rows above alone, so they are made for the whole row when it
    begins; the horizontal stack then takes one step a position: in each layer a matrix product over
    two neighbouring slots of the layer's row, an activation, and a matrix product into the next
    layer's row. Equal to the network's forward up to the order of sums: to 1e-5 in float32, and
    hardly at all in float64.

    Use in this order: for each row `begin_row`, then for each column and group `logits`, `write`.
    Rows and columns are those of the scan (`PixelCNN.raster`). No gradient passes: use it, and make
    it, under torch.inference_mode() or torch.no_grad().

    Args:
        network: the prior, in evaluation mode (dropout is not applied).
        batch_size: B, how many grids are walked at once.
        condition: (B, C) or (1, C), see PixelCNN.
        neighbour: codes of the slices before, see PixelCNN.
        plan: of the slices, see PixelCNN.
    """

    def __init__(
        self,
        network: PixelCNN,
        batch_size: int,
        condition: Tensor | None = None,
        neighbour: Tensor | None = None,
        plan: Tensor | None = None,
    ) -> None:
        self.network = network
        self.embedding = network.embedding_weight()
        kept = self.embedding.new_zeros
        columns, width = network.raster[1], network.embedding.embedding_dim
        # the last three rows, embedded, each between three empty places
        self.above = kept(3, batch_size, columns + 6, width)
        self.sevens = [_windows(row, 7) for row in self.above]
        self.row = kept(batch_size, 3 + columns, width)  # this row, after three empty places
        self.left = [self.row[:, column : column + 3].flatten(1) for column in range(columns)]
        self.here = [self.row[:, column + 3] for column in range(columns)]
        self.over = network.above.weight.permute(2, 3, 1, 0).flatten(0, 2)
        self.taps = _as_matrix(network.left.weight)
        self.context = network.context(neighbour, plan)
        vector = network.condition_vector(condition)
        blocks = [cast("PixelCNNBlock", block) for block in network.blocks]
        self.last = kept(batch_size, columns, network.left.out_channels)
        vertical = kept(batch_size, columns, network.above.out_channels)
        self.space = _Space(vertical, self.last, len(self.over))
        # A layer's output biases are left out of both stacks and added once, where they end up.
        missing = [kept(vertical.shape[-1]), kept(self.last.shape[-1])]
        self.layers: list[_Layer] = []
        for block in blocks:
            self.layers.append(_Layer(block, self.space, missing, block.shifts(vector)))
            missing = [of + bias for of, bias in zip(missing, _biases(block), strict=True)]
        self.join = _square(network.join.weight)
        self.missing = missing[0] + missing[1] @ self.join
        self.verticals = self.space.vertical.unbind(1)
        self.features = self.verticals[0]  # of no position yet
        rows = [*(layer.row[:, 1:] for layer in self.layers), self.last]
        self.slots = [[row[:, column] for row in rows] for column in range(columns)]  # (B, C) each
        head = network.head_weight().T
        self.heads = [part.contiguous() for part in head.split(network.num_codes, dim=1)]
        self.biases = list(cast("Tensor", network.head.bias).split(network.num_codes))
        if network.groups == 1:  # then what is missing may be added here
            self.biases[0] = self.biases[0] + self.missing @ self.heads[0]

    def begin_row(self, row: int) -> None:
        """Make the vertical features of `row`; all rows above must have been written."""
        network, space = self.network, self.space
        if row > 0:
            self.above[:2] = self.above[1:].clone()
            self.above[2, :, 3:-3] = self.row[:, 3:]
            self.row[:, 3:] = 0
        vertical = network.position_vertical[:, row].T + cast("Tensor", network.above.bias)
        start = network.position_horizontal[:, row].T + cast("Tensor", network.left.bias)
        starts = start[:, None]  # (columns, 1, C)
        if self.context is not None:
            vertical = vertical + self.context[0][:, :, row].mT
            starts = starts + self.context[1][:, :, row].permute(2, 0, 1)
        self.starts = starts.expand(-1, len(self.last), -1).unbind()
        space.vertical.copy_(vertical)
        for part in space.parts:
            seen = space.seen(part, 3, len(self.over) // 3)
            for place, above in enumerate(self.sevens):
                seen[:, :, place] = above[part]
            _flat(space.vertical[part]).addmm_(_flat(seen), self.over)
        for layer in self.layers:
            layer.begin_row()

    def logits(self, column: int, group: int = 0) -> Tensor:
        """The (B, K) logits of a group at `column`; all before must have been written."""
        if group == 0:
            slots = self.slots[column]
            torch.addmm(self.starts[column], self.left[column], self.taps, out=slots[0])
            for layer, x, after in zip(self.layers, slots, slots[1:], strict=False):
                layer.step(column, x, after)
            self.features = torch.addmm(self.verticals[column], slots[-1], self.join)
            if self.network.groups > 1:
                self.features = self.features + self.missing
        features = self.network.activate(self.features)
        return torch.addmm(self.biases[group], features, self.heads[group])

    def write(self, column: int, codes: Tensor, group: int = 0) -> None:
        """Settle the (B,) codes of a group at `column` of this row."""
        network = self.network
        if network.groups == 1:
            torch.index_select(self.embedding, 0, codes, out=self.here[column])
            return
        codes = codes + group * network.num_codes
        self.here[column].add_(self.embedding.index_select(0, codes))
        if group + 1 < network.groups:
            self.features = self.features + network.within(codes)


class _Space:
    """Room that all layers use in turn, for as many grids at a time as a processor's cache holds.

    Args:
        vertical: where a row's vertical features go, (B, columns, C).
        last: where its last horizontal ones go, (B, columns, C of that stack).
        widest: numbers that the first layer sees of the rows above.
    """

    def __init__(self, vertical: Tensor, last: Tensor, widest: int) -> None:
        self.vertical = vertical
        batch_size, columns, channels = vertical.shape
        grids = min(batch_size, max(1, AT_ONCE // columns))
        self.parts = [slice(i, min(i + grids, batch_size)) for i in range(0, batch_size, grids)]
        self.columns = columns
        self.room = vertical.new_empty(grids * columns * max(widest, 6 * channels))
        self.wide = vertical.new_empty(2, grids * columns, channels)
        self.narrow = last.new_empty(2, batch_size, last.shape[-1]).unbind()

    def seen(self, part: slice, rows: int, numbers: int) -> Tensor:
        """Room for what the places of a row see of some rows: (b, columns, rows, numbers)."""
        shape = (part.stop - part.start, self.columns, rows, numbers)
        return self.room[: math.prod(shape)].view(shape)


class _Layer:
    """What one block keeps: its vertical input of the row above, its horizontal input of this.

    What enters an activation is scaled down by sqrt(2), as `root_gelu` wants it.

    Args:
        block: whose.
        space: room to work in.
        missing: what all values of the vertical and of the horizontal stack lack, (C,) each.
        shifts: of the conditions, for both stacks.
    """

    def __init__(
        self,
        block: PixelCNNBlock,
        space: _Space,
        missing: list[Tensor],
        shifts: list[Tensor] | None,
    ) -> None:
        batch_size, columns, _ = space.vertical.shape
        # Places that are empty in truth hold what makes them so.
        above = missing[0].repeat(batch_size, columns + 2, 1).neg_()
        self.row = missing[1].repeat(batch_size, columns + 1, 1).neg_()
        self.pairs = [self.row[:, column : column + 2].flatten(1) for column in range(columns)]
        link = self.row.new_zeros(batch_size, columns, self.row.shape[-1])
        self.links = link.unbind(1)
        self.narrow = space.narrow

        bias, vertical_out = (cast("Tensor", m.bias) for m in (block.vertical, block.vertical_out))
        down = block.vertical.weight.permute(2, 3, 1, 0).flatten(0, 2)
        right, link_out = _as_matrix(block.horizontal.weight), _square(block.link.weight)
        down_shift = bias + missing[0].repeat(6) @ down
        right_shift = cast("Tensor", block.horizontal.bias) + missing[1].repeat(2) @ right
        right_shift = right_shift + (missing[0] + vertical_out) @ link_out
        if shifts is not None:
            down_shift = down_shift + shifts[0][:, :, 0, 0]
            right_shift = right_shift + shifts[1][:, :, 0, 0]
        down_shift, right_shift = (
            (shift / ROOT).view(-1, 1, shift.shape[-1]).expand(batch_size, columns, -1)
            for shift in (down_shift, right_shift)
        )
        self.down, self.right, self.link_out = down / ROOT, right / ROOT, link_out / ROOT
        self.vertical_out = _square(block.vertical_out.weight) / ROOT
        self.horizontal_out = _square(block.horizontal_out.weight) / ROOT
        self.parts = [
            _Part(space, part, above[part], link[part], (down_shift[part], right_shift[part]))
            for part in space.parts
        ]

    def begin_row(self) -> None:
        """Step the vertical stack by a row, in place, and link it to this."""
        for part in self.parts:
            part.before.copy_(part.threes)
            part.above.copy_(part.row)
            part.now.copy_(part.threes)
            torch.addmm(_flat(part.down_shift), part.seen, self.down, out=part.hidden)
            root_gelu(part.hidden, part.gelu)
            part.vertical.addmm_(part.gelu, self.vertical_out)
            torch.addmm(_flat(part.right_shift), part.vertical, self.link_out, out=part.link)

    def step(self, column: int, x: Tensor, after: Tensor) -> None:
        """Step the horizontal stack at one position: from (B, C) x, in its row, into `after`."""
        hidden, gelu = self.narrow
        torch.addmm(self.links[column], self.pairs[column], self.right, out=hidden)
        root_gelu(hidden, gelu)
        torch.addmm(x, gelu, self.horizontal_out, out=after)


class _Part:
    """Views of what a row's step reads and writes for some of the grids, made once.

    Args:
        space: room to work in.
        part: which grids.
        above: their vertical input of the row above, (b, columns + 2, C).
        link: where the link goes, (b, columns, C of the horizontal stack).
        shifts: for the vertical and the horizontal stack, (b, columns, C of it).
    """

    def __init__(
        self, space: _Space, part: slice, above: Tensor, link: Tensor, shifts: tuple[Tensor, Tensor]
    ) -> None:
        self.threes = _windows(above, 3)
        self.above = above[:, 1:-1]
        self.row = space.vertical[part]
        self.vertical, self.link = _flat(self.row), _flat(link)
        self.down_shift, self.right_shift = shifts
        seen = space.seen(part, 2, self.threes.shape[-1])
        self.before, self.now = seen.unbind(2)
        self.seen = _flat(seen)
        self.hidden, self.gelu = space.wide[:, : len(self.seen)].unbind()


def _windows(row: Tensor, places: int) -> Tensor:
    """A view of padded rows (B, columns + places - 1, C): each place with its neighbours.

    Returns:
        (B, columns, places * C).
    """
    batch_size, padded, channels = row.shape
    return row.as_strided((batch_size, padded - places + 1, places * channels), row.stride())


def _flat(x: Tensor) -> Tensor:
    """(b, columns, ...) as a matrix with a row for each place; the same memory where it can be."""
    return x.reshape(x.shape[0] * x.shape[1], -1)


def _biases(block: PixelCNNBlock) -> list[Tensor]:
    """Of what a block adds to the vertical and to the horizontal stack."""
    return [cast("Tensor", out.bias) for out in (block.vertical_out, block.horizontal_out)]


def _square(weight: Tensor) -> Tensor:
    """A (out, in, 1, 1) kernel as the (in, out) matrix that a row of features multiplies."""
    return weight[:, :, 0, 0].T.contiguous()


def _as_matrix(weight: Tensor) -> Tensor:
    """A (out, in, 1, n) kernel as the (n * in, out) matrix that n neighbours multiply."""
    return weight[:, :, 0].permute(2, 1, 0).reshape(-1, weight.shape[0]).contiguous()
