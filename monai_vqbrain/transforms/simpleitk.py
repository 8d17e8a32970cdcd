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
def deterministic_simpleitk() -> Iterator[None]:
    """Run SimpleITK on one thread and without warnings.

    With several threads the order of its sums, and so the last bits, depend on the machine.
    """
    filters = simpleitk().ProcessObject
    threads, warnings = filters.GetGlobalDefaultNumberOfThreads(), filters.GetGlobalWarningDisplay()
    filters.SetGlobalDefaultNumberOfThreads(1)  # filters within filters obey only this setting
    filters.SetGlobalWarningDisplay(False)  # a failed registration is recognised by its result
    try:
        yield
    finally:
        filters.SetGlobalDefaultNumberOfThreads(threads)
        filters.SetGlobalWarningDisplay(warnings)


def to_sitk(
    array: np.ndarray, spacing: Sequence[float] | np.ndarray, origin: Sequence[float] | np.ndarray
) -> Any:
    """A SimpleITK image of (X, Y, Z) with axes along those of space: no direction matrix."""
    image = simpleitk().GetImageFromArray(np.ascontiguousarray(array.T))
    image.SetSpacing([float(side) for side in spacing])
    image.SetOrigin([float(start) for start in origin])
    return image
