"""Small networks trained at the same time, one thread each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import nn

Result = TypeVar("Result")
Network = TypeVar("Network", bound=nn.Module)

_RANDOM_STATE = threading.Lock()  # torch has one for all threads


def run_concurrently(tasks: Sequence[Callable[[], Result]]) -> list[Result]:
    """Results of tasks, as many at a time as PyTorch has threads, each with one thread.

    A small network takes nearly twice the CPU time with two threads: one waits for the other.

    Args:
        tasks: they must not use torch's own random state, see `seeded_network`.

    Returns:
        The results in the order of the tasks; they do not depend on the number of threads.

    Raises:
        Exception: the first that a task raises; tasks that have not started are left out.
    """
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        return [started.result() for started in [pool.submit(task) for task in tasks]]
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # a part of the setting is of the whole process


def seeded_network(build: Callable[[], Network], seed: int) -> tuple[Network, torch.Generator]:
    """A network with the weights of a seed, and a generator for what follows.

    torch's own random state is left alone. Several threads may call this at once.

    Args:
        build: makes the network.
        seed: of its weights.
    """
    with _RANDOM_STATE, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build()
        return network, torch.Generator().set_state(torch.get_rng_state())
