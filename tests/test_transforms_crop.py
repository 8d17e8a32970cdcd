"""Random crops around the brain."""

from __future__ import annotations

import pytest
import torch
from monai.data import CacheDataset

from monai_vqbrain.transforms import RandBrainCrop, RandBrainCropd


def disc(size: int = 48) -> torch.Tensor:
    """A disc of radius 6 about pixel (12, 30): (1, size, size)."""
    x, y = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return (((x - 12) ** 2 + (y - 30) ** 2) <= 36)[None].float()


def test_every_crop_holds_brain_and_is_a_part_of_the_image() -> None:
    torch.manual_seed(0)
    image = disc() * torch.rand(1, 48, 48)
    parts = image[0].unfold(0, 16, 1).unfold(1, 16, 1)  # every 16 x 16 part
    for _ in range(50):
        crop = RandBrainCrop((16, 16))(image)
        assert crop.shape == (1, 16, 16)
        assert crop.any()
        assert (parts == crop[0]).all(dim=(-1, -2)).any()


def test_crops_are_centred_on_all_of_the_brain() -> None:
    torch.manual_seed(0)
    where = torch.stack(torch.meshgrid(torch.arange(48), torch.arange(48), indexing="ij"))
    crop = RandBrainCrop((8, 8))
    centres = torch.empty(400, 2, dtype=torch.int64)
    for row in centres:
        crop.randomize(disc())
        row[:] = crop(where, randomize=False)[:, 4, 4]
    for axis, middle in ((0, 12), (1, 30)):
        assert set(centres[:, axis].tolist()) == set(range(middle - 6, middle + 7))


@pytest.mark.parametrize(
    ("image", "size", "shape"),
    [
        (disc(), (64, 16), (1, 48, 16)),
        (torch.zeros(1, 20, 20), (8, 8), (1, 8, 8)),
        (torch.rand(2, 9, 10, 11), (4, 5, 6), (2, 4, 5, 6)),
    ],
    ids=["longer than the image", "nothing but background", "3D"],
)
def test_shapes(image: torch.Tensor, size: tuple[int, ...], shape: tuple[int, ...]) -> None:
    assert RandBrainCrop(size)(image).shape == shape


def test_a_seed_gives_the_same_crop() -> None:
    crop = RandBrainCrop((16, 16))
    torch.manual_seed(3)
    first = torch.stack([crop(disc()) for _ in range(5)])
    torch.manual_seed(3)
    assert torch.equal(torch.stack([crop(disc()) for _ in range(5)]), first)
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize("mirror", [True, False])
def test_half_of_the_crops_are_mirrored_if_asked(mirror: bool) -> None:
    torch.manual_seed(0)
    ramp = torch.arange(1.0, 17).reshape(1, 16, 1).expand(1, 16, 16)
    crop = RandBrainCrop((16, 16), mirror=mirror)
    turned = sum(bool(torch.equal(crop(ramp), ramp.flip(1))) for _ in range(200))
    assert 70 < turned < 130 if mirror else turned == 0


def test_a_dictionary_is_cropped_at_one_place() -> None:
    image = disc() * torch.rand(1, 48, 48)
    item = {"image": image, "mask": image > 0, "sex": "F"}
    result = RandBrainCropd(("image", "mask"), (16, 16), mirror=True)(item)
    assert torch.equal(result["image"] > 0, result["mask"])
    assert result["sex"] == "F"
    assert item["image"].shape == (1, 48, 48)


def test_monais_cache_keeps_no_crop() -> None:
    torch.manual_seed(0)
    data = CacheDataset([{"image": disc()}], RandBrainCropd("image", (8, 8)), progress=False)
    assert len({str(data[0]["image"].tolist()) for _ in range(20)}) > 1


def test_what_is_wrong_is_named() -> None:
    with pytest.raises(ValueError, match=r"positive sides such as \(64, 64\), got \(0, 4\)"):
        RandBrainCrop((0, 4))
    with pytest.raises(ValueError, match=r"the crop has 2 sides, but the image is \(1, 4, 4, 4\)"):
        RandBrainCrop((2, 2))(torch.zeros(1, 4, 4, 4))
