"""Left and right exchanged where an item asks for it, and only there."""

from __future__ import annotations

import torch
from monai.transforms import Flip

from monai_vqbrain.transforms import MirrorMarkedd


def test_marked_items_are_mirrored_along_their_first_axis_and_others_left() -> None:
    image, mask = torch.rand(1, 5, 7), torch.rand(1, 5, 7)
    mirror = MirrorMarkedd(["image"])
    found = mirror({"image": image, "mask": mask, "mirrored": True})
    assert torch.equal(found["image"], torch.as_tensor(Flip(0)(image)))
    assert found["mask"] is mask
    assert torch.equal(image, mirror(found)["image"])
    for item in ({"image": image}, {"image": image, "mirrored": False}):
        assert mirror(item)["image"] is image
