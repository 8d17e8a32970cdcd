"""The solid brain mask."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy import ndimage

from monai_vqbrain.transforms import BrainMask, BrainMaskd
from monai_vqbrain.transforms.mask import solid


def holed_ball(rank: int) -> np.ndarray:
    """A ball with a hole inside and a furrow, two voxels wide, from outside."""
    distance = np.sqrt(sum((axis - 12.0) ** 2 for axis in np.indices((25,) * rank)))
    ball = (distance < 9) & (distance > 2)
    ball[12:14, 14:] = False
    return ball


@pytest.mark.parametrize("rank", [2, 3])
def test_holes_are_filled_and_furrows_closed(rank: int) -> None:
    ball = holed_ball(rank)
    filled = solid(ball)
    assert filled[(12,) * rank]
    assert filled[(12, 17) + (12,) * (rank - 2)]
    assert (filled | ~ball).all()
    assert filled.sum() < 1.4 * ball.sum() if rank == 3 else True


@pytest.mark.parametrize("rank", [2, 3])
def test_filling_agrees_with_scipy(rank: int) -> None:
    noise = np.random.default_rng(0).random((20,) * rank) > 0.4
    assert np.array_equal(solid(noise, closing=0), ndimage.binary_fill_holes(noise))


def test_planes_of_a_stack_know_nothing_of_each_other() -> None:
    stack = np.random.default_rng(1).random((20, 18, 3)) > 0.4
    together = solid(stack, planar=True)
    alone = [solid(stack[..., k]) for k in range(3)]
    assert np.array_equal(together, np.stack(alone, axis=-1))


def test_a_brain_at_the_frames_border_is_not_eroded() -> None:
    half = np.zeros((16, 16), dtype=bool)
    half[:, :6] = True
    assert np.array_equal(solid(half), half)


def test_the_transform_keeps_affine_and_takes_any_channel() -> None:
    image = MetaTensor(torch.zeros(2, 12, 12, 12), affine=2 * torch.eye(4, dtype=torch.float64))
    image[0, 4:8, 4:8, 4:8] = -1.0
    image[1, 6, 6, 6] = 0.5
    mask = BrainMask()(image)
    assert mask.shape == (1, 12, 12, 12)
    assert mask.dtype == torch.bool
    assert torch.equal(mask.affine, image.affine)
    assert int(mask.sum()) == 64


def test_the_dictionary_version_adds_a_key() -> None:
    item = {"scan": torch.ones(1, 5, 5), "age": 70}
    result = BrainMaskd("scan", "brain")(item)
    assert set(result) == {"scan", "age", "brain"}
    assert set(item) == {"scan", "age"}


def test_a_negative_closing_is_refused() -> None:
    with pytest.raises(ValueError, match="closing must be 0 or more voxels, got -1"):
        BrainMask(closing=-1)
