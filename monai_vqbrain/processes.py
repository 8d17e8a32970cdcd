"""Child processes: they import nothing from the current folder, and end with their parent."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

SAFE_PATH = "PYTHONSAFEPATH"  # as `python -P`
INTERVAL = 0.1  # seconds between looks at whether the parent is alive

_watched: set[int] = set()  # parents that a thread of this process watches


@contextmanager
def safe_imports() -> Iterator[None]:
    """Start Python processes in this block without the current folder on their `sys.path`.

    Workers are started by `python -m` or `python -c`, which search the current folder first: a file
    `numpy.py` beside the data would be run.
    """
    earlier = os.environ.get(SAFE_PATH)
    os.environ[SAFE_PATH] = "1"
    try:
        yield
    finally:
        if earlier is None:
            os.environ.pop(SAFE_PATH, None)
        else:
            os.environ[SAFE_PATH] = earlier


def end_with_parent(parent: int) -> None:
    """End this process within a second of its parent's end, however that came.

    A parent that is killed cannot end its workers. Nothing is done in the parent itself, and on
    Windows, where processes do not see that their parent has ended.

    Args:
        parent: the process that started this one.
    """
    if os.name != "posix" or parent == os.getpid() or parent in _watched:
        return
    _watched.add(parent)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(INTERVAL)
    os._exit(1)  # whatever the other threads are doing
