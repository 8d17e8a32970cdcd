"""The per-position unigram: the bits that a prior must undercut to have learned any structure."""

from __future__ import annotations

import numpy as np

CONCENTRATIONS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)


def unigram_bits(
    training: np.ndarray, test: np.ndarray, num_codes: int, concentration: float
) -> np.ndarray:
    """Bits of each test code grid when every position draws from its own training histogram.

    A histogram of few grids gives no chance to codes that it has not seen. It is therefore mixed
    with the histogram g over all positions, itself with half a count added to every code:
    p(code at a position) = (count + a g(code)) / (grids + a), where a is `concentration`.

    Args:
        training: (N, ...) integers 0..num_codes-1.
        test: (M, ...) of the same grid.
        num_codes: size of the codebook.
        concentration: a, in grids; above 0.

    Returns:
        (M,) float64, bits of a whole code grid.

    Raises:
        ValueError: if the grids differ or there is no training grid.

    Example:
        >>> same = np.zeros((1000, 2, 2), dtype=int)
        >>> bool(unigram_bits(same, same[:1], 8, 1.0)[0] < 0.1)
        True
    """
    if training.shape[1:] != test.shape[1:] or len(training) == 0:
        raise ValueError(
            "training and test codes must have the same grid, and training at least one: "
            f"not {training.shape} and {test.shape}"
        )
    here = training.reshape(len(training), -1).astype(np.int64)
    there = test.reshape(len(test), -1).astype(np.int64)
    positions = here.shape[1]
    counts = np.bincount(
        (here + num_codes * np.arange(positions)).ravel(), minlength=positions * num_codes
    ).reshape(positions, num_codes)
    overall = counts.sum(axis=0) + 0.5
    overall /= overall.sum()
    chance = (counts + concentration * overall) / (len(here) + concentration)
    return -np.log2(chance[np.arange(positions), there]).sum(axis=1)


def choose_concentration(training: np.ndarray, validation: np.ndarray, num_codes: int) -> float:
    """The concentration, of a fixed short list, with the fewest bits on validation codes.

    Args:
        training: (N, ...) integers 0..num_codes-1.
        validation: (M, ...) of the same grid, of other people.
        num_codes: size of the codebook.

    Returns:
        One of `CONCENTRATIONS`; 30 where there are no validation codes.
    """
    if len(validation) == 0:
        return 30.0
    return min(
        CONCENTRATIONS,
        key=lambda a: float(unigram_bits(training, validation, num_codes, a).mean()),
    )
