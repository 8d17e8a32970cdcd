"""Sets of images as metrics take them."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np


class ImageArray(Protocol):
    """(N, W, H) images, float in [0, 1] or uint8: an array, or what is indexed as one.

    Metrics take a part of it at a time, so that images on disk need not fit into memory.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """N, W, H."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of what is taken."""

    @property
    def ndim(self) -> int:
        """3."""

    def __len__(self) -> int:
        """N."""

    def __getitem__(self, which: Any, /) -> Any:
        """An array of one image, or of several."""
