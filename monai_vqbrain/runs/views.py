"""The views of training slices that augment them, and the conditions that say which view it is."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

MAX_VIEWS = 31
MAX_SHIFT = 3  # pixels; the copy check looks as far

# An unshifted slice. Shifts are in pixels, along the slice's first and second axis.
PLAIN_VIEW: Mapping[str, float] = {"shift_x": 0.0, "shift_y": 0.0}


def slice_views(number: int) -> list[dict[str, Any]]:
    """The parameters of each view: `view`, its number, and `shift`, in pixels; no shift twice.

    Views are not mirrored: a prior that learns mirrored brains beside others confuses left and
    right, although the view is a condition, and does not gain a bit.
    """
    reach = range(-MAX_SHIFT, MAX_SHIFT + 1)
    shifts = [list(shift) for shift in itertools.product(reach, reach) if any(shift)]
    order = np.random.default_rng(0).permutation(len(shifts))
    return [{"view": view, "shift": shifts[place]} for view, place in enumerate(order[:number])]


def conditions_of_view(view: Mapping[str, Any]) -> dict[str, float]:
    """A view's values of the conditions in `PLAIN_VIEW`."""
    return dict(zip(PLAIN_VIEW, view["shift"], strict=True))


def view_conditions(views: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """The conditions in which views differ from plain slices, as `PixelCNN` takes them."""
    rows = [conditions_of_view(view) for view in views]
    differing = [n for n, plain in PLAIN_VIEW.items() if any(row[n] != plain for row in rows)]
    return {name: [-float(MAX_SHIFT), float(MAX_SHIFT)] for name in differing}
