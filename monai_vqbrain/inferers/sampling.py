"""Code grids from a prior by ancestral sampling: each code given those already drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from monai.networks.utils import eval_mode
from torch import Tensor

from monai_vqbrain.inferers.cached_logits import CachedLogits
from monai_vqbrain.networks.pixelcnn import PixelCNN
from monai_vqbrain.progress import progress

UNITS = 1 << 40  # that a probability is rounded to, where sums have to be of whole numbers


class Walk(Protocol):
    """Logits position by position as a prior scans; see CachedLogits."""

    def begin_row(self, row: int) -> None:
        """Begin a row."""

    def logits(self, column: int, group: int = 0) -> Tensor:
        """The (B, K) logits of a group at `column` of this row."""

    def write(self, column: int, codes: Tensor, group: int = 0) -> None:
        """Settle the (B,) codes of a group at `column` of this row."""


@dataclass(frozen=True)
class AncestralSampler:
    """Draw code grids from a PixelCNN, exactly, computing every feature once.

    A prior with a plan has it drawn first. Each code is drawn by the inverse of its cumulative
    distribution from one uniform number. These are taken from the generator at once, one for each
    code, so that what a generator yields later does not depend on the codes. The same generator,
    batch size and machine give the same codes; another batch size may not (sums in float32 depend
    on it). On the CPU it computes with one thread.

    Args:
        temperature: above 0; divides the logits. Below 1 likelier codes become likelier still.
        top_p: in (0, 1]; keep the fewest likeliest codes that together reach this probability.
        guidance: at least 0; how far to go from the logits without conditions, or with those of a
            base (0), to those with them (1), or beyond. Values other than 1 double the time.
        neighbour_guidance: at least 0; likewise from the logits without the previous slice to those
            with it; only where there is a previous slice.
        progress: show a progress bar, one step per row.

    Raises:
        ValueError: if an argument is out of its range.

    Source:
        Holtzman et al., "The Curious Case of Neural Text Degeneration" (2020), for `top_p`; Ho and
        Salimans, "Classifier-Free Diffusion Guidance" (2022), for `guidance`.

    Example:
        >>> prior = PixelCNN(num_codes=16, grid=(4, 6), channels=8, layers=1)
        >>> AncestralSampler()(prior, 2, torch.Generator().manual_seed(0)).shape
        torch.Size([2, 4, 6])
    """

    temperature: float = 1.0
    top_p: float = 1.0
    guidance: float = 1.0
    neighbour_guidance: float = 1.0
    progress: bool = False
    _walk: ClassVar[Callable[..., Walk]] = CachedLogits

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature is {self.temperature}: it must be above 0")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}: it must be above 0 and at most 1")
        for name in ("guidance", "neighbour_guidance"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be 0 or more")

    def __call__(
        self,
        network: PixelCNN,
        batch_size: int,
        generator: torch.Generator,
        condition: Tensor | None = None,
        neighbour: Tensor | None = None,
        known: Tensor | None = None,
        base: Tensor | None = None,
        plan: Tensor | None = None,
    ) -> Tensor:
        """Draw a batch of code grids.

        Args:
            network: the prior; put in evaluation mode meanwhile.
            batch_size: B, how many grids are drawn at once.
            generator: the only source of randomness, on any device.
            condition: (B, C) or (1, C) rows as of the prior's `conditions.row`.
            neighbour: codes of the previous slices, as they are returned here.
            known: codes as they are returned here, of which those of 0 and more are kept, and those
                of -1 drawn; each drawn one is given those before it, known or not.
            base: conditions that guidance goes from, as `condition`; by default all are missing.
            plan: of the slices, (B, h, w) as of the prior's `draw_plan`. By default it is drawn for
                the conditions, but not where some codes are known: it would contradict them.

        Returns:
            (B, h, w) codes, or (B, G, h, w) with several groups, long, on the network's device.

        Raises:
            ValueError: if `batch_size` is below 1, guidance is given no condition, or a known
                code or the width of a condition does not fit the prior.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}: it must be at least 1")
        if self.guidance != 1 and condition is None:
            raise ValueError(f"guidance is {self.guidance}, and no condition is given to guide to")
        shape = (batch_size, network.groups, *network.raster)
        device = network.head.weight.device
        # In (0, 1]: a code of probability 0 can then never be drawn.
        draws = 1 - torch.rand(shape, generator=generator, device=generator.device).to(device)
        draws = draws.to(network.head.weight.dtype)
        codes = torch.full(shape, -1, device=device)
        if known is not None:
            codes[:] = network.to_raster(known)
            if codes.max() >= network.num_codes:
                raise ValueError(
                    f"known codes reach to {int(codes.max())}, but this prior knows 0 to "
                    f"{network.num_codes - 1}: use the codes of the VQ-VAE that it was trained for"
                )
        with _one_thread(), eval_mode(network), torch.inference_mode():
            if plan is None and known is None and condition is not None:
                rows = condition.expand(batch_size, -1)
                start = None if base is None else base.expand(batch_size, -1)
                plan = network.draw_plan(rows, generator, start, self.guidance)
            walk = self._begin(network, batch_size, (condition, base), neighbour, plan)
            self._fill(walk, codes, draws, all_free=known is None)
        codes = network.to_raster(codes)  # by columns: a transposition, and so its own inverse
        return codes[:, 0] if network.groups == 1 else codes

    def _begin(
        self,
        network: PixelCNN,
        batch_size: int,
        conditions: tuple[Tensor | None, Tensor | None],
        neighbour: Tensor | None,
        plan: Tensor | None,
    ) -> Walk:
        weights, rows, before = self._mixture(conditions, neighbour)
        count = len(weights)
        if count == 1:
            return self._walk(network, batch_size, rows[0], before[0], plan)
        walk = self._walk(
            network,
            count * batch_size,
            _stacked(rows, batch_size),
            _stacked(before, batch_size),
            _stacked([plan] * count, batch_size),  # it has been guided itself
        )
        return _Guided(walk, weights)

    def _mixture(
        self, conditions: tuple[Tensor | None, Tensor | None], neighbour: Tensor | None
    ) -> tuple[list[float], list[Tensor | None], list[Tensor | None]]:
        """Weights of the logits that are summed, and the conditions and neighbours of each."""
        condition, base = conditions
        weights, rows, before = [1.0], [condition], [neighbour]
        if self.guidance != 1 and condition is not None:
            weights = [self.guidance, 1 - self.guidance]
            rows.append(torch.full_like(condition, torch.nan) if base is None else base)
            before.append(neighbour)
        if self.neighbour_guidance != 1 and neighbour is not None:
            weights[0] += self.neighbour_guidance - 1
            weights.append(1 - self.neighbour_guidance)
            rows.append(condition)
            before.append(torch.full_like(neighbour, -1))
        return weights, rows, before

    def _fill(self, walk: Walk, codes: Tensor, draws: Tensor, all_free: bool) -> None:
        """Draw where the codes (B, G, rows, columns) are -1, in place; `all_free`: everywhere."""
        groups, rows = codes.shape[1:3]
        free = (codes < 0).flatten(3).any(3).any(1).any(0).tolist()  # rows where some are drawn
        # views of all positions are made once per row, not in the loop, which is slow at batch 1
        places, draws_here = (
            t.permute(2, 3, 1, 0)[..., None].contiguous() for t in (codes, draws)
        )  # (rows, columns, G, B, 1)
        for row in progress(range(rows), "sample", unit="row") if self.progress else range(rows):
            walk.begin_row(row)
            here, draws_of_row = (t[row].flatten(0, 1) for t in (places, draws_here))
            views = zip(here.unbind(), here[..., 0].unbind(), draws_of_row.unbind(), strict=True)
            for place, (column_of_codes, code, draw) in enumerate(views):
                column, group = divmod(place, groups)
                if free[row]:
                    drawn = choose(walk.logits(column, group), draw, self.temperature, self.top_p)
                    if not all_free:
                        drawn = torch.where(column_of_codes < 0, drawn, column_of_codes)
                    column_of_codes.copy_(drawn)
                walk.write(column, code, group)
        codes.copy_(places[..., 0].permute(3, 2, 0, 1))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute with one thread.

    On the CPU, more threads do not speed up features of a single position, and where other work
    shares the cores they wait for each other at every operation.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _stacked(parts: list[Tensor | None], batch_size: int) -> Tensor | None:
    """Tensors of B entries, or of one for all, one after the other; None if they are None."""
    given = [part for part in parts if part is not None]
    return torch.cat([p.expand(batch_size, *p.shape[1:]) for p in given]) if given else None


class _Guided:
    """A walk over several times as many grids as one: its logits are a weighted sum of theirs."""

    def __init__(self, walk: Walk, weights: list[float]) -> None:
        self.walk = walk
        self.weights = weights

    def begin_row(self, row: int) -> None:
        self.walk.begin_row(row)

    def logits(self, column: int, group: int = 0) -> Tensor:
        parts = self.walk.logits(column, group).chunk(len(self.weights))
        mixed = [weight * part for weight, part in zip(self.weights, parts, strict=True)]
        return torch.stack(mixed).sum(0)

    def write(self, column: int, codes: Tensor, group: int = 0) -> None:
        self.walk.write(column, codes.repeat(len(self.weights)), group)


class _PlainLogits:
    def __init__(
        self,
        network: PixelCNN,
        batch_size: int,
        condition: Tensor | None,
        neighbour: Tensor | None,
        plan: Tensor | None,
    ) -> None:
        self.network, self.row = network, 0
        self.given = condition, neighbour, plan
        shape = (batch_size, network.groups, *network.raster)
        self.codes = torch.zeros(shape, dtype=torch.long, device=network.head.weight.device)

    def begin_row(self, row: int) -> None:
        self.row = row

    def logits(self, column: int, group: int = 0) -> Tensor:
        network = self.network
        logits: Tensor = network(network.to_raster(self.codes), *self.given)
        if network.groups == 1:
            logits = logits[:, :, None]
        if network.by_columns:
            logits = logits.transpose(3, 4)
        return logits[:, :, group, self.row, column]

    def write(self, column: int, codes: Tensor, group: int = 0) -> None:
        self.codes[:, group, self.row, column] = codes


@dataclass(frozen=True)
class PlainSampler(AncestralSampler):
    """The same by the network's whole forward at every position: slow, short, and the oracle.

    It draws what AncestralSampler draws, the same codes in float64.

    Args:
        temperature: as there.
        top_p: as there.
        guidance: as there.
        neighbour_guidance: as there.
        progress: as there.
    """

    _walk: ClassVar[Callable[..., Walk]] = _PlainLogits


def choose(logits: Tensor, draws: Tensor, temperature: float, top_p: float) -> Tensor:
    """The codes at which the cumulative distributions pass the draws.

    Args:
        logits: (B, K).
        draws: (B, 1) uniform in (0, 1], of the same type.
        temperature: above 0.
        top_p: in (0, 1].

    Returns:
        (B, 1) codes, long.
    """
    if temperature != 1:
        logits = logits / temperature
    probabilities = torch.softmax(logits, dim=-1)
    if top_p < 1:
        probabilities = keep_top(probabilities, top_p)
    cumulative = running_sum(probabilities)
    return torch.searchsorted(cumulative, cumulative[:, -1:] * draws)


def running_sum(probabilities: Tensor) -> Tensor:
    """Cumulative sums along the last dimension, with the same bits every time on every device.

    A GPU may add the numbers of a row in another order every time; there they are rounded to
    multiples of 2^-40, whose sums are exact in any order, and the sums are float64.
    """
    if probabilities.device.type == "cpu":
        return probabilities.cumsum(-1)
    return exact_running_sum(probabilities)


def exact_running_sum(probabilities: Tensor) -> Tensor:
    """Cumulative sums of probabilities rounded down to multiples of 2^-40: float64."""
    return (probabilities.double() * UNITS).long().cumsum(-1).double() / UNITS


def keep_top(probabilities: Tensor, top_p: float) -> Tensor:
    """Set to 0 all but the fewest likeliest codes that together reach `top_p`; (B, K) stays."""
    ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
    before = running_sum(ordered) - ordered
    kept = torch.where(before < top_p, ordered, 0)
    return torch.zeros_like(probabilities).scatter(-1, order, kept)
