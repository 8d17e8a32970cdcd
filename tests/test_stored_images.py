"""Slices in a file, read when they are used."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from monai_vqbrain.stages.reporting.stored_images import store


def test_threads_that_read_at_once_get_their_own_slices() -> None:
    images = np.random.default_rng(0).integers(0, 256, (300, 64, 64), dtype=np.uint8)
    stored = store(np.array_split(images, 7))

    def differs(seed: int) -> int:
        rows = np.random.default_rng(seed).integers(0, len(images), 2000)
        return int((stored[rows] != images[rows]).sum())

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(differs, range(8))) == 0
