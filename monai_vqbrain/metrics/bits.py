"""The unigram: the bits that a prior must undercut to have learned any structure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

CONCENTRATIONS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
DEFAULT = (30.0, 30.0)


@dataclass(frozen=True, eq=False)
class Unigram:
    """Code frequencies at each grid position, and at each grid position of each slice position.

    A histogram of few grids gives no chance to codes that it has not seen. So the histogram of a
    grid position is mixed with g, that of all positions (half a count added to every code), and the
    histogram of a grid position in the slices of one slice position with that of the grid position:

        p(code | grid) = (count + a g(code)) / (grids + a)
        p(code | grid, slice) = (count_s + b p(code | grid)) / (grids_s + b)

    Make it with `fit`.

    Args:
        overall: (K,) g.
        counts: (P, K) occurrences at each of P grid positions.
        grids: how many training grids there are.
        slice_counts: (S, P, K) occurrences by slice position.
        slice_grids: (S,) training grids of each slice position.
    """

    overall: np.ndarray
    counts: np.ndarray
    grids: int
    slice_counts: np.ndarray
    slice_grids: np.ndarray

    @classmethod
    def fit(cls, codes: np.ndarray, num_codes: int, slices: np.ndarray | None = None) -> Unigram:
        """Count training codes.

        Args:
            codes: (N, ...) integers 0..num_codes-1.
            num_codes: K, size of the codebook.
            slices: (N,) slice position of each grid, 0, 1, ...; all the same by default.

        Raises:
            ValueError: if there is no training grid.
        """
        if len(codes) == 0:
            raise ValueError("a unigram needs at least one training grid")
        flat = codes.reshape(len(codes), -1).astype(np.int64)
        places = np.zeros(len(flat), np.int64) if slices is None else np.asarray(slices)
        positions, groups = flat.shape[1], int(places.max()) + 1
        cells = (places[:, None] * positions + np.arange(positions)) * num_codes + flat
        counts = np.bincount(cells.ravel(), minlength=groups * positions * num_codes)
        counts = counts.reshape(groups, positions, num_codes)
        overall = counts.sum(axis=(0, 1)) + 0.5
        grids = np.bincount(places, minlength=groups)
        return cls(overall / overall.sum(), counts.sum(axis=0), len(flat), counts, grids)

    def bits(
        self,
        codes: np.ndarray,
        slices: np.ndarray | None = None,
        concentrations: tuple[float, float] = DEFAULT,
    ) -> np.ndarray:
        """Bits of whole code grids.

        Args:
            codes: (M, ...) of the same grid.
            slices: (M,) slice position of each; None to know the grid position alone. A slice
                position without training grids has the histogram of the grid position.
            concentrations: a and b, in grids; above 0.

        Returns:
            (M,) float64, bits.

        Raises:
            ValueError: if the grids differ.

        Example:
            >>> same = np.zeros((1000, 2, 2), dtype=int)
            >>> bool(Unigram.fit(same, 8).bits(same[:1])[0] < 0.2)
            True
        """
        flat = codes.reshape(len(codes), -1).astype(np.int64)
        if flat.shape[1] != len(self.counts):
            raise ValueError(
                f"the codes have {flat.shape[1]} positions, those of training {len(self.counts)}"
            )
        here = np.arange(flat.shape[1])
        a, b = concentrations
        chance = (self.counts[here, flat] + a * self.overall[flat]) / (self.grids + a)
        if slices is not None:
            known = np.asarray(slices) < len(self.slice_grids)
            place = np.where(known, slices, 0)
            count = np.where(known[:, None], self.slice_counts[place[:, None], here, flat], 0)
            grids = np.where(known, self.slice_grids[place], 0)[:, None]
            chance = (count + b * chance) / (grids + b)
        return -np.log2(chance).sum(axis=1)

    def choose(self, codes: np.ndarray, slices: np.ndarray | None = None) -> tuple[float, float]:
        """The concentrations, of a fixed short list, with the fewest bits on validation codes.

        Args:
            codes: (M, ...) of the same grid, of other participants.
            slices: (M,) slice positions, as of `bits`.

        Returns:
            a and b, of `CONCENTRATIONS`; `DEFAULT` where there are no validation codes.
        """
        if len(codes) == 0:
            return DEFAULT
        seconds = CONCENTRATIONS if slices is not None else DEFAULT[1:]
        return min(
            product(CONCENTRATIONS, seconds),
            key=lambda pair: float(self.bits(codes, slices, pair).mean()),
        )
