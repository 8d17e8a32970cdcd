"""Planted lesions: their shape and place, the AUC of a map, and the table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from conftest import benchmark_modules
from sklearn.metrics import roc_auc_score

from monai_vqbrain.metrics.bootstrap import Interval


@pytest.fixture(scope="module")
def benchmark() -> Iterator[Any]:
    """The script, as a module."""
    with benchmark_modules("lesions") as found:
        yield found.lesions


def test_an_ellipse_has_the_area_of_the_circle_and_a_soft_edge(benchmark: Any) -> None:
    shapes = [benchmark.ellipse(6.0, angle, 12) for angle in np.linspace(0, np.pi, 20)]
    shape = shapes[3]
    assert np.mean([each.sum() for each in shapes]) == pytest.approx(np.pi * 6**2, rel=0.02)
    assert (shape[12, 12], shape[0, 0]) == (1, 0)
    assert ((shape > 0.1) & (shape < 0.9)).any()


def test_an_ellipse_is_longer_along_its_angle(benchmark: Any) -> None:
    upright, lying = (benchmark.ellipse(6.0, angle, 12) >= 0.5 for angle in (0, np.pi / 2))
    assert upright.any(axis=1).sum() > upright.any(axis=0).sum()
    assert np.array_equal(upright.T, lying)


def test_a_lesion_lies_in_the_white_matter_also_at_the_border(benchmark: Any) -> None:
    white = np.zeros((2, 40, 40), dtype=bool)
    white[0, 8:24, 20:36] = True
    white[1, :14, :14] = True
    lesions = benchmark.place_lesions(white, radius=3.0, seed=0)
    inside = lesions >= 0.5
    assert inside.any(axis=(1, 2)).all()
    assert (white & inside).sum() >= 0.9 * inside.sum()
    assert np.array_equal(lesions, benchmark.place_lesions(white, radius=3.0, seed=0))


def test_the_auc_is_that_of_brain_pixels_of_each_participant(benchmark: Any) -> None:
    rng = np.random.default_rng(0)
    values, lesions = rng.random((3, 8, 8)), rng.random((3, 8, 8)) < 0.3
    masks = np.zeros((3, 8, 8), dtype=bool)
    masks[:, :, 2:] = True
    values[~masks] = 9  # what lies outside the brain must not count
    found = benchmark.auc(values, lesions, masks, ["a", "b", "a"])
    areas = [roc_auc_score(lesions[i][masks[i]], values[i][masks[i]]) for i in ([0, 2], [1])]
    assert found.value == pytest.approx(np.mean(areas))
    assert (found.low, found.high) == (pytest.approx(min(areas)), pytest.approx(max(areas)))


def test_the_table_has_one_row_per_change_and_radius(benchmark: Any) -> None:
    area = Interval(0.714, 0.68, 0.74, 7, 7)
    names = ("brighter", "none", "darker")
    found = {(name, r): dict.fromkeys(benchmark.MAPS, area) for r in (8.0, 3.0) for name in names}
    head, *rows = benchmark.table(found).splitlines()
    assert "bits (score)" in head
    assert [row.split()[:2] for row in rows] == [
        [name, radius] for name in ("none", "darker", "brighter") for radius in ("3", "8")
    ]
    assert rows[0].split()[2:4] == ["0.71", "(0.68-0.74)"]
    assert benchmark.flat("run", found)["run_none_8mm_bits"]["high"] == 0.74
