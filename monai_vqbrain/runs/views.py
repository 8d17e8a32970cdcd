"""The views of training slices that augment them, and the conditions that say which view it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

MAX_VIEWS = 31
MAX_SHIFT = 3  # pixels; the copy check looks as far

# A slice as it lies in its stack. Shifts are in pixels, along the slice's first and second axis.
PLAIN_VIEW: Mapping[str, str | float] = {"mirrored": "no", "shift_x": 0.0, "shift_y": 0.0}


def slice_views(number: int, sagittal: bool) -> list[dict[str, Any]]:
    """The parameters of each view: `view`, its number; `mirrored`; `shift`, in pixels."""
    shifts = np.random.default_rng(0).integers(-MAX_SHIFT, MAX_SHIFT + 1, (number, 2)).tolist()
    if not sagittal:
        shifts[0] = [0, 0]
    return [
        {"view": view, "mirrored": view % 2 == 0 and not sagittal, "shift": shift}
        for view, shift in enumerate(shifts)
    ]


def conditions_of_view(view: Mapping[str, Any]) -> dict[str, str | float]:
    """A view's values of the conditions in `PLAIN_VIEW`."""
    x, y = view["shift"]
    return {"mirrored": "yes" if view["mirrored"] else "no", "shift_x": x, "shift_y": y}


def view_conditions(views: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The conditions in which views differ from plain slices, as `PixelCNN` takes them."""
    rows = [conditions_of_view(view) for view in views]
    differing = [n for n, plain in PLAIN_VIEW.items() if any(row[n] != plain for row in rows)]
    reach = [-float(MAX_SHIFT), float(MAX_SHIFT)]
    found: dict[str, list[Any]] = dict.fromkeys(differing, reach)
    return found | ({"mirrored": ["no", "yes"]} if "mirrored" in differing else {})
