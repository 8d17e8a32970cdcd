"""The arithmetic inside figures, and that every figure is a picture of sensible size."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from monai_vqbrain.stages.reporting import figures


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(imread(BytesIO(png), format="png"))


def test_codes_are_ranked_by_the_brightness_of_their_patches() -> None:
    codes = np.array([[[0, 3], [5, 3]]])
    brightness = np.array([10, 200, 90, 220])  # of the four cells, in the codes' order
    images = brightness.reshape(1, 2, 2).repeat(4, axis=1).repeat(4, axis=2).astype(np.uint8)
    ranks = figures.code_brightness([(images, codes)], 6)
    np.testing.assert_allclose(ranks, [0, np.nan, np.nan, 1, np.nan, 0.5])
    twice = figures.code_brightness([(images, codes), (images // 2, codes[:, ::-1])], 6)
    both = np.concatenate([images, images // 2]), np.concatenate([codes, codes[:, ::-1]])
    np.testing.assert_allclose(twice, figures.code_brightness([both], 6))


def test_montage_shows_the_second_axis_upwards() -> None:
    image = np.zeros((1, 8, 6), dtype=np.uint8)
    image[0, 7, 5] = 255  # the last x, the last y
    wall = pixels(figures.montage(image))[..., 0]
    assert wall[0, -1] == 1
    assert wall[-1, -1] == wall[0, 0] == 0
    assert wall.shape == (6 * 128, 8 * 128)  # enlarged by a whole factor up to 1024 pixels


def test_montage_fills_its_last_row_with_black() -> None:
    wall = pixels(figures.montage(np.full((5, 450, 450), 255, dtype=np.uint8), columns=2))[..., 0]
    assert wall.shape == (3 * 450, 2 * 450)
    assert wall[-1, 0] == 1
    assert wall[-1, -1] == 0


@pytest.mark.parametrize(
    "history",
    [
        pd.DataFrame({"epoch": [1, 2], "loss": [0.2, 0.1]}),
        pd.DataFrame({"epoch": [1, 2], "seconds": [500, 900], "loss": [-1.0, -2.0]}),
        pd.DataFrame({"epoch": [1, 2], "seconds": [5, 9], "ssim_brain": [np.nan, 0.5]}),
        pd.DataFrame({"epoch": [1]}),
    ],
    ids=["no time", "negative loss", "missing values", "nothing to plot"],
)
def test_curves_of_any_history(history: pd.DataFrame) -> None:
    picture = pixels(figures.curves(history, ("loss", "ssim_brain"), "ssim_brain"))
    assert picture.shape[0] > 100


def test_bars_of_one_participant_have_no_interval() -> None:
    value = {"mean": 0.5, "low": None, "high": None}
    assert pixels(figures.bars({"this VQ-VAE": value}, "SSIM")).size


def test_by_position_draws_each_axis_and_gaps() -> None:
    known = {"mean": 0.8, "low": 0.7, "high": 0.9}
    groups = [
        {"group": "axial -12", "ssim_brain": known},
        {"group": "axial 34", "ssim_brain": known | {"low": None}},
        {"group": "coronal 4", "ssim_brain": known},
        {"group": "coronal 8", "ssim_brain": {"mean": None, "low": None, "high": None}},
    ]
    assert pixels(figures.by_position(groups)).shape[1] > 400
    assert pixels(figures.by_position(groups[:1])).shape[1] > 400


def test_by_participant_names_participants_by_label_only() -> None:
    scores = pd.DataFrame({"participant_id": ["a", "a", "b"], "ssim_brain": [0.8, 0.9, 0.7]})
    assert pixels(figures.by_participant(scores, {"a": "P01", "b": "P02"}, None)).size
