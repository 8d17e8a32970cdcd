"""New code grids from a prior by ancestral sampling: each code given those already drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from monai.networks.utils import eval_mode
from torch import Tensor

from monai_vqbrain.inferers.cached_logits import CachedLogits
from monai_vqbrain.networks.pixelcnn import PixelCNN
from monai_vqbrain.progress import progress


@dataclass(frozen=True)
class AncestralSampler:
    """Draw code grids from a PixelCNN, exactly, keeping every feature once computed.

    Each code is drawn by the inverse of its cumulative distribution from one uniform number. These
    are taken from the generator at once, B * h * w of them, so that what a generator yields later
    does not depend on the prior. The same generator, batch size, machine and number of threads
    give the same codes; another batch size may not (sums in float32 depend on it).

    Args:
        temperature: above 0; divides the logits. Below 1 likelier codes become likelier still.
        top_p: in (0, 1]; keep the fewest likeliest codes that together reach this probability.
        progress: show a bar, a step a row.

    Raises:
        ValueError: if an argument is out of its range.

    Source:
        Holtzman et al., "The Curious Case of Neural Text Degeneration" (2020), for `top_p`.

    Example:
        >>> prior = PixelCNN(num_codes=16, grid=(4, 6), channels=8, layers=1)
        >>> AncestralSampler()(prior, 2, torch.Generator().manual_seed(0)).shape
        torch.Size([2, 4, 6])
    """

    temperature: float = 1.0
    top_p: float = 1.0
    progress: bool = False

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature is {self.temperature}: it must be above 0")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}: it must be above 0 and at most 1")

    def __call__(self, network: PixelCNN, batch_size: int, generator: torch.Generator) -> Tensor:
        """Draw a batch of code grids.

        Args:
            network: the prior; put in evaluation mode meanwhile.
            batch_size: B, how many grids are drawn at once.
            generator: the only source of chance, on any device.

        Returns:
            (B, h, w) codes, long, on the network's device.

        Raises:
            ValueError: if `batch_size` is below 1.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}: it must be at least 1")
        shape = (batch_size, network.height, network.width)
        device = network.head.weight.device
        # In (0, 1]: a code of probability 0 can then never be drawn.
        draws = 1 - torch.rand(shape, generator=generator, device=generator.device).to(device)
        codes = torch.zeros(shape, dtype=torch.long, device=device)
        rows = range(network.height)
        with eval_mode(network):
            walk = self._walk(network, batch_size)
            for row in progress(rows, "sample") if self.progress else rows:
                walk.begin_row(row)
                for column in range(network.width):
                    logits = walk.logits(column)
                    drawn = choose(logits, draws[:, row, column], self.temperature, self.top_p)
                    walk.write(column, drawn)
                    codes[:, row, column] = drawn
        return codes

    def _walk(self, network: PixelCNN, batch_size: int) -> Walk:
        return CachedLogits(network, batch_size)


@dataclass(frozen=True)
class PlainSampler(AncestralSampler):
    """The same by the network's whole forward at every position: slow, short, and the oracle.

    It draws what AncestralSampler draws, the same codes in float64.

    Args:
        temperature: as there.
        top_p: as there.
        progress: as there.
    """

    def _walk(self, network: PixelCNN, batch_size: int) -> Walk:
        return _PlainLogits(network, batch_size)


class Walk(Protocol):
    """Logits position by position in raster order; see CachedLogits."""

    def begin_row(self, row: int) -> None:
        """Begin a row."""

    def logits(self, column: int) -> Tensor:
        """The (B, K) logits at `column` of this row."""

    def write(self, column: int, codes: Tensor) -> None:
        """Settle the (B,) codes at `column` of this row."""


class _PlainLogits:
    def __init__(self, network: PixelCNN, batch_size: int) -> None:
        self.network = network
        self.row = 0
        shape = (batch_size, network.height, network.width)
        self.codes = torch.zeros(shape, dtype=torch.long, device=network.head.weight.device)

    def begin_row(self, row: int) -> None:
        self.row = row

    def logits(self, column: int) -> Tensor:
        logits: Tensor = self.network(self.codes)
        return logits[:, :, self.row, column]

    def write(self, column: int, codes: Tensor) -> None:
        self.codes[:, self.row, column] = codes


def choose(logits: Tensor, draws: Tensor, temperature: float, top_p: float) -> Tensor:
    """The codes at which the cumulative distributions pass the draws.

    Args:
        logits: (B, K).
        draws: (B,) uniform in (0, 1].
        temperature: above 0.
        top_p: in (0, 1].

    Returns:
        (B,) codes, long.
    """
    probabilities = torch.softmax(logits / temperature, dim=-1)
    if top_p < 1:
        probabilities = keep_top(probabilities, top_p)
    cumulative = probabilities.cumsum(dim=-1)
    reach = draws.to(cumulative) * cumulative[:, -1]
    return torch.searchsorted(cumulative, reach[:, None])[:, 0]


def keep_top(probabilities: Tensor, top_p: float) -> Tensor:
    """Set to 0 all but the fewest likeliest codes that together reach `top_p`; (B, K) stays."""
    ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(dim=-1) - ordered
    kept = torch.where(before < top_p, ordered, 0)
    return torch.zeros_like(probabilities).scatter(-1, order, kept)
