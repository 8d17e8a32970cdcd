"""How much of a codebook is in use, counted over a whole set of slices, never over a batch."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def code_counts(codes: ArrayLike, num_codes: int) -> np.ndarray:
    """How often each code occurs.

    Args:
        codes: integers 0..num_codes-1, of any shape.
        num_codes: size of the codebook.

    Returns:
        (num_codes,) int64.

    Raises:
        ValueError: if a code lies outside the codebook.

    Example:
        >>> code_counts([[0, 2], [2, 2]], 4)
        array([1, 0, 3, 0])
    """
    flat = np.asarray(codes).ravel().astype(np.int64)
    if flat.size and (flat.min() < 0 or flat.max() >= num_codes):
        raise ValueError(
            f"codes must lie in 0..{num_codes - 1}, but reach from {flat.min()} to {flat.max()}"
        )
    return np.bincount(flat, minlength=num_codes)


def codes_used(counts: ArrayLike) -> int:
    """How many codes occur at least once.

    Args:
        counts: (K,) occurrences.

    Example:
        >>> codes_used([1, 0, 3, 0])
        2
    """
    return int(np.count_nonzero(np.asarray(counts)))


def perplexity(counts: ArrayLike) -> float:
    """Two to the entropy (bits) of the codes: as many equally frequent codes have this entropy.

    Args:
        counts: (K,) occurrences.

    Returns:
        From 1 to K; 0 where nothing was counted.

    Example:
        >>> perplexity([5, 5, 0, 0])
        2.0
    """
    occurring = np.asarray(counts, dtype=np.float64)
    occurring = occurring[occurring > 0]
    if not occurring.size:
        return 0.0
    share = occurring / occurring.sum()
    return float(2 ** -(share * np.log2(share)).sum())
