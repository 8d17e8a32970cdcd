"""Memory that tensors free is kept for the next ones, where the C library is glibc."""

from __future__ import annotations

import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # mallopt's parameters
LARGEST_BLOCK = 2**25  # bytes; the most that glibc allows
KEPT = 2**30  # bytes


def keep_freed_memory() -> None:
    """Have the C library keep up to 1 GiB of freed memory in the process.

    By default it returns blocks of several MB to the system each time. A training asks for the same
    blocks again in the next step, whose pages then have to be cleared: up to a sixth of the CPU
    time of the prior's training.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return
    mallopt(MMAP_THRESHOLD, LARGEST_BLOCK)
    mallopt(TRIM_THRESHOLD, KEPT)
