"""Child processes of Python that import nothing from the current folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

SAFE_PATH = "PYTHONSAFEPATH"  # as `python -P`


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
