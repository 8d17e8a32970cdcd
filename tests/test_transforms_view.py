"""Mirrored and shifted where an item asks for it, and only there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.transforms import Flip
from scipy import ndimage

from monai_vqbrain.transforms import ViewSliced


def test_items_that_ask_are_mirrored_along_their_first_axis_and_others_left() -> None:
    image, mask = torch.rand(1, 5, 7), torch.rand(1, 5, 7)
    view = ViewSliced(["image"])
    found = view({"image": image, "mask": mask, "mirrored": True})
    assert torch.equal(found["image"], torch.as_tensor(Flip(0)(image)))
    assert found["mask"] is mask
    assert torch.equal(image, view(found)["image"])
    for item in ({"image": image}, {"image": image, "mirrored": False, "shift": (0, 0)}):
        assert view(item)["image"] is image


@pytest.mark.parametrize("shift", [(1, 0), (-2, 3), (0, -1), (5, -7), (9, 0)])
def test_shifted_images_are_those_of_scipy(shift: tuple[int, int]) -> None:
    image = torch.rand(1, 5, 7)
    before = image.clone()
    found = ViewSliced("image")({"image": image, "shift": shift})["image"]
    expected = ndimage.shift(image[0].numpy(), shift, order=0)
    np.testing.assert_array_equal(found[0].numpy(), expected)
    assert torch.equal(image, before)
