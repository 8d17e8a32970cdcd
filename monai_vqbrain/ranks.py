"""Ranks: the processes that work together in torch.distributed's process group.

Outside of a process group, this process is the only rank.
"""

from __future__ import annotations

import torch
import torch.distributed as dist


def rank_count() -> int:
    """The number of ranks."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def this_rank() -> int:
    """The number of this rank, from 0 on."""
    return dist.get_rank() if rank_count() > 1 else 0


def share_of(items: int) -> slice:
    """This rank's part of `items` items: consecutive ones; parts differ by one item at most."""
    rank, ranks = this_rank(), rank_count()
    return slice(items * rank // ranks, items * (rank + 1) // ranks)


def wait_for_ranks() -> None:
    """Wait until all ranks are here."""
    if rank_count() > 1:
        dist.barrier()


def gather_numbers(number: int, device: torch.device) -> list[int]:
    """Each rank's number, in the order of ranks; `device` is that of the backend."""
    if rank_count() == 1:
        return [number]
    numbers = torch.zeros(rank_count(), dtype=torch.long, device=device)
    numbers[this_rank()] = number
    dist.all_reduce(numbers)
    return [int(value) for value in numbers.tolist()]


def gather_rows(rows: torch.Tensor) -> torch.Tensor:
    """All ranks' rows (N, ...), in the order of ranks; N may differ between ranks."""
    if rank_count() == 1:
        return rows
    counts = gather_numbers(len(rows), rows.device)
    padded = rows.new_zeros(max(counts), *rows.shape[1:])
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])
