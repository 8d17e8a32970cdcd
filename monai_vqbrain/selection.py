"""Some of many, evenly spaced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


def evenly_spaced(count: int, most: int | None) -> list[int]:
    """At most `most` indices below `count`, evenly spaced from the first to the last.

    Example:
        >>> evenly_spaced(10, 4)
        [0, 3, 6, 9]
        >>> evenly_spaced(3, 8)
        [0, 1, 2]
    """
    if most is None or count <= most:
        return list(range(count))
    return [int(index) for index in np.linspace(0, count - 1, most)]


def thin_out(items: Sequence[Item], most: int | None) -> list[Item]:
    """At most `most` of the items, evenly spaced; all of them for None."""
    return [items[index] for index in evenly_spaced(len(items), most)]
