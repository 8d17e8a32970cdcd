"""Ways to find a brain, and its extraction from whole heads by the network deepbet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from threading import Lock
from typing import Any

import nibabel as nib
import numpy as np
import torch

MISSING = "brain extraction needs deepbet: pip install 'monai-vqbrain[strip]'"
BRAINS = ("auto", "given", "zero", "deepbet", "template")
BY_TEMPLATE = ("given", "zero", "template")  # `auto` without deepbet
BY_DEEPBET = ("given", "zero", "deepbet")
_LOCK = Lock()  # deepbet keeps the box of the last head in its object


def is_installed() -> bool:
    """Whether deepbet is installed; it is not imported."""
    return find_spec("deepbet") is not None


def brain_methods(asked: str, deepbet: bool) -> tuple[str, ...]:
    """The ways to find a brain, in the order in which they are tried.

    Args:
        asked: one of `BRAINS`.
        deepbet: it is installed.

    Example:
        >>> brain_methods("auto", deepbet=True), brain_methods("zero", deepbet=True)
        (('given', 'zero', 'deepbet'), ('zero',))
    """
    if asked != "auto":
        return (asked,)
    return BY_DEEPBET if deepbet else BY_TEMPLATE


def extract_brain(array: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Find the brain of a whole head, on the CPU and on one thread.

    Args:
        array: (X, Y, Z), a T1 volume in any orientation.
        affine: (4, 4), voxel -> world, mm, RAS.

    Returns:
        (X, Y, Z) bool, one solid piece with CSF and ventricles.

    Raises:
        ImportError: deepbet is not installed.
        ValueError: it finds no brain.

    Source:
        Fisch et al., deepbet: fast brain extraction of T1-weighted MRI using convolutional neural
        networks, arXiv:2308.07003.
    """
    head = nib.Nifti1Image(np.asarray(array, dtype=np.float32), affine)
    with _LOCK, _one_thread():
        network = _network()
        try:
            _, mask, _ = network.run(head)
        except (AssertionError, IndexError, RuntimeError, ValueError) as error:
            raise ValueError("deepbet finds no brain") from error
    inside = np.asarray(mask.dataobj) > 0
    if not inside.any():
        raise ValueError("deepbet finds no brain")
    return inside


@lru_cache(1)
def _network() -> Any:
    try:
        from deepbet import BrainExtraction
    except ImportError as error:
        raise ImportError(MISSING) from error
    return BrainExtraction(no_gpu=True)


@contextmanager
def _one_thread() -> Iterator[None]:
    """The order of sums, and so the last bits, depend on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(threads)
