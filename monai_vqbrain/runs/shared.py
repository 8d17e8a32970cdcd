"""Running a bundle's evaluator, its batches shared over the ranks of a command."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from ignite.engine import Events
from torch.utils.data import DataLoader

from monai_vqbrain.engines.workflow import completed
from monai_vqbrain.team import Team, current_team

Batches = DataLoader | Sequence[Any]


def run(evaluator: Any) -> None:
    """Run an evaluator of a bundle; on several ranks, each computes every so-many-th batch.

    Handlers and metrics of rank 0 get all outputs in the order of the batches, so that they do what
    they do on one rank. Whole batches are shared, since sums of float32 depend on the batch.

    Args:
        evaluator: one of this package, built with `iteration` where there are several ranks.
    """
    team = current_team()
    if team is not None and team.share is not None:
        team.start(team.share)
        batches = evaluator.data_loader
        evaluator.data_loader = _AllBatches(batches, team)
    evaluator.run()


def compute_share(evaluator: Any, rank: int, ranks: int, send: Callable[[Any], None]) -> None:
    """Run an evaluator without handlers on the batches `rank`, `rank + ranks`, ...

    Args:
        evaluator: of a bundle.
        rank: from 1 on.
        ranks: how many.
        send: called with the output of each batch, on the CPU.
    """
    own = _every(evaluator.data_loader, rank, ranks)
    evaluator.data_loader, evaluator.state.epoch_length = own, len(own)
    evaluator.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: send(_moved(engine.state.output, "cpu"))
    )
    if len(own):
        evaluator.run()


@dataclass(frozen=True)
class Computed:
    """A batch whose output has come from another rank."""

    output: Any


def iteration(engine: Any, batch: Any) -> Any:
    """The iteration of an evaluator: what it does itself, or the output from another rank."""
    if isinstance(batch, Computed):
        return completed(engine, _moved(batch.output, engine.state.device))
    return engine._iteration(engine, batch)  # noqa: SLF001  (what MONAI calls by default)


class _AllBatches:
    """All batches of a data set in order: those of rank 0, and the outputs of the others."""

    def __init__(self, batches: Batches, team: Team) -> None:
        self.batches, self.team = batches, team

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        own = iter(_every(self.batches, 0, self.team.ranks))
        for number in range(len(self)):
            rank = number % self.team.ranks
            yield Computed(self.team.receive(rank)) if rank else next(own)


def _every(batches: Batches, rank: int, ranks: int) -> Batches:
    """The batches of a rank."""
    if not isinstance(batches, DataLoader):
        return batches[rank::ranks]
    return DataLoader(
        batches.dataset,
        batch_sampler=list(batches.batch_sampler or ())[rank::ranks],
        collate_fn=batches.collate_fn,
        num_workers=batches.num_workers,
    )


def _moved(output: Any, device: torch.device | str) -> Any:
    """An output with its tensors on a device."""
    if isinstance(output, torch.Tensor):
        return output.to(device)
    if isinstance(output, Mapping):
        return {name: _moved(part, device) for name, part in output.items()}
    return output
