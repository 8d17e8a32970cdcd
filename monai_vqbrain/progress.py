"""The progress bar of every long step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def progress(items: Iterable[Item], what: str, total: int | None = None) -> Iterable[Item]:
    """Iterate over `items` with a progress bar on standard error.

    Args:
        items: the items.
        what: the label of the bar.
        total: their number, if `items` has no length.
    """
    return tqdm(items, desc=what, total=total, **BAR)


BAR: dict[str, Any] = {
    "dynamic_ncols": True,
    "mininterval": 0.5,
    "bar_format": "{desc:<18} {percentage:3.0f} % |{bar}| "
    "{elapsed} elapsed, {remaining} remaining{postfix}",
}
