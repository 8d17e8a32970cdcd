"""One look for every long step: what, how far, time left."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def progress(items: Iterable[Item], what: str, total: int | None = None) -> Iterable[Item]:
    """Iterate over `items` with a bar on standard error: what, how far, time left."""
    return tqdm(items, desc=what, total=total, **BAR)


BAR: dict[str, Any] = {
    "dynamic_ncols": True,
    "mininterval": 0.5,
    "bar_format": "{desc:<18} {percentage:3.0f} % |{bar}| "
    "{elapsed} gone, {remaining} left{postfix}",
}
