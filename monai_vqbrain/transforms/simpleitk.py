"""SimpleITK, which only alignment and bias correction need (extra `[align]`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np

MISSING = "alignment and bias correction need SimpleITK: pip install 'monai-vqbrain[align]'"


def simpleitk() -> Any:
    """The module.

    Raises:
        ImportError: it is not installed.
    """
    try:
        return import_module("SimpleITK")
    except ImportError as error:
        raise ImportError(MISSING) from error


@contextmanager
def steady() -> Iterator[None]:
    """SimpleITK works on one thread, without a word.

    With several threads the order of its sums, and so the last bits, differ by the machine.
    """
    filters = simpleitk().ProcessObject
    threads, words = filters.GetGlobalDefaultNumberOfThreads(), filters.GetGlobalWarningDisplay()
    filters.SetGlobalDefaultNumberOfThreads(1)  # filters within filters heed this alone
    filters.SetGlobalWarningDisplay(False)  # a failed map is recognised by what it does
    try:
        yield
    finally:
        filters.SetGlobalDefaultNumberOfThreads(threads)
        filters.SetGlobalWarningDisplay(words)


def to_sitk(
    array: np.ndarray, spacing: Sequence[float] | np.ndarray, origin: Sequence[float] | np.ndarray
) -> Any:
    """An image (X, Y, Z) with its axes along those of space; no direction, no handedness."""
    image = simpleitk().GetImageFromArray(np.ascontiguousarray(array.T))
    image.SetSpacing([float(side) for side in spacing])
    image.SetOrigin([float(start) for start in origin])
    return image
