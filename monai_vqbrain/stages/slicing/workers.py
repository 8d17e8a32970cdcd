"""Parallel work on volumes: local processes, or the workers of a dask cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from joblib import Parallel, delayed, parallel_config

from monai_vqbrain.errors import UsageError
from monai_vqbrain.processes import end_with_parent, safe_imports

T = TypeVar("T")
SCHEDULER_TIMEOUT = 10  # seconds for a scheduler to answer


def map_in_order(
    work: Callable[..., T], items: Sequence[tuple[Any, ...]], jobs: int, dask: str | None = None
) -> Iterator[T]:
    """Call a function for all items in parallel, and yield the results in the order of the items.

    Local processes end when this one ends, also when it is killed.

    Args:
        work: the function; on a cluster, its modules and files must be available to the workers.
        items: the arguments of each call.
        jobs: number of local processes.
        dask: instead of jobs, the address of a dask scheduler; all of its workers are used, and
            tasks of a failed worker are rescheduled.

    Raises:
        UsageError: if no scheduler answers, or dask is not installed.
    """
    with safe_imports(), _workers(jobs, dask) as number:
        if dask is None:
            work = partial(_call_in_child, os.getpid(), work)
        calls = (delayed(work)(*item) for item in items)
        yield from Parallel(n_jobs=number, return_as="generator")(calls)


def _call_in_child(parent: int, work: Callable[..., T], *item: Any) -> T:
    end_with_parent(parent)
    return work(*item)


@contextmanager
def _workers(jobs: int, dask: str | None) -> Iterator[int]:
    if dask is None:
        yield jobs
        return
    try:
        from distributed import Client
    except ImportError:
        raise UsageError("--dask needs dask: pip install 'monai-vqbrain[cluster]'") from None
    try:
        client = Client(dask, timeout=SCHEDULER_TIMEOUT)
    except (OSError, TimeoutError, ValueError) as error:
        raise UsageError(
            f"no dask scheduler answers at {dask}: start one with `dask scheduler`"
        ) from error
    with client, parallel_config(backend="dask"):
        yield -1
