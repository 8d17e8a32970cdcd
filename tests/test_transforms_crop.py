"""Random crops around the brain."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import CacheDataset, DataLoader
from monai.transforms import Compose, Randomizable
from monai.utils import set_determinism

from monai_vqbrain.transforms import RandBrainCrop, RandBrainCropd

TRAINING = Path(__file__).parents[1] / "bundles/vqvae/configs/train.json"
IMPORTS = ["$import monai_vqbrain.components"]


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


def several(crop: Callable[[torch.Tensor], torch.Tensor], count: int = 6) -> torch.Tensor:
    image = disc() * torch.arange(1.0, 48 * 48 + 1).reshape(1, 48, 48)  # no two crops are equal
    return torch.stack([crop(image) for _ in range(count)])


@pytest.mark.parametrize("dictionary", [False, True])
@pytest.mark.parametrize("by", ["seed", "state"])
def test_a_random_state_repeats_and_leaves_pytorchs_generator_alone(
    dictionary: bool, by: str
) -> None:
    def state() -> dict[str, Any]:
        return {"seed": 4} if by == "seed" else {"state": np.random.RandomState(4)}

    crop = RandBrainCropd("i", (16, 16), mirror=True) if dictionary else RandBrainCrop((16, 16))
    call = (lambda image: crop({"i": image})["i"]) if dictionary else crop
    before = torch.get_rng_state()
    assert crop.set_random_state(**state()) is crop
    first = several(call)
    assert torch.equal(several(call), first) is False
    crop.set_random_state(**state())
    assert torch.equal(several(call), first)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_composes_random_state_reaches_it() -> None:
    composed = Compose([RandBrainCropd("i", (16, 16), mirror=True)])
    composed.set_random_state(seed=7)
    first = several(lambda image: composed({"i": image})["i"])
    composed.set_random_state(seed=7)
    assert torch.equal(several(lambda image: composed({"i": image})["i"]), first)
    composed.set_random_state(seed=8)
    assert not torch.equal(several(lambda image: composed({"i": image})["i"]), first)


def test_monais_determinism_repeats_it() -> None:
    draws = []
    for _ in range(2):
        set_determinism(5)
        composed = Compose([RandBrainCrop((16, 16))])
        draws.append(several(composed))
    set_determinism(None)
    assert torch.equal(*draws)


def test_pytorchs_generator_may_stay_in_charge() -> None:
    crop = RandBrainCrop((16, 16), mirror=True, torch_generator=True)
    bare = RandBrainCrop((16, 16), mirror=True)
    crop.set_random_state(seed=1)
    torch.manual_seed(3)
    first = several(crop)
    torch.manual_seed(3)
    assert torch.equal(several(bare), first)


@pytest.mark.parametrize("torch_generator", [False, True])
def test_workers_draw_different_crops(torch_generator: bool) -> None:
    torch.manual_seed(0)
    image = disc() * torch.arange(1.0, 48 * 48 + 1).reshape(1, 48, 48)
    crop = RandBrainCropd("image", (16, 16), torch_generator=torch_generator)
    data = CacheDataset([{"image": image}] * 8, Compose([crop]), progress=False)
    loader = DataLoader(data, batch_size=4, num_workers=2)
    first, second = (batch["image"] for batch in loader)
    assert not torch.equal(first, second)


def drawn_from_pytorch(item: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A mirrored (24, 16) crop, drawn from PyTorch's generator: what trained weights rest on."""
    image = item["image"]
    brain = image[0].flatten().nonzero()
    pixel = int(brain[int(torch.randint(len(brain), ()))])
    starts = [
        max(0, min(centre - asked // 2, 48 - asked))
        for centre, asked in zip(divmod(pixel, 48), (24, 16), strict=True)
    ]
    crop = image[:, starts[0] : starts[0] + 24, starts[1] : starts[1] + 16]
    return {"image": crop.flip(1) if torch.rand(()) < 0.5 else crop}


def epochs(transform: Callable[[Any], Any], cached: int) -> torch.Tensor:
    """Two epochs as the bundle loads them, PyTorch's generator seeded before each."""
    set_determinism(0)
    slices = [{"image": disc() * torch.rand(1, 48, 48)} for _ in range(12)]
    data = CacheDataset(
        slices, Compose([transform]), cache_num=cached, copy_cache=False, progress=False
    )
    sampler = torch.utils.data.RandomSampler(data, num_samples=32)
    loader = DataLoader(data, batch_size=8, sampler=sampler, num_workers=0)
    batches = []
    for epoch in (1, 2):
        torch.manual_seed(epoch)
        batches += [batch["image"] for batch in loader]
    set_determinism(None)
    return torch.cat(batches)


@pytest.mark.parametrize("cached", [0, 12])
def test_crops_of_the_training_bundle_come_from_pytorchs_generator(cached: int) -> None:
    """Compose and DataLoader set a random state unasked: crops of training must not follow it."""
    config = json.loads(TRAINING.read_text())["train"]["preprocessing"]["transforms"][-1]
    parser = ConfigParser({"crop": config | {"size": [24, 16]}, "imports": IMPORTS})
    parser.get_parsed_content("imports")
    crop = parser.get_parsed_content("crop")
    assert isinstance(crop, Randomizable)
    assert torch.equal(epochs(crop, cached), epochs(drawn_from_pytorch, cached))


def test_what_is_wrong_is_named() -> None:
    with pytest.raises(ValueError, match=r"positive sides such as \(64, 64\), got \(0, 4\)"):
        RandBrainCrop((0, 4))
    with pytest.raises(ValueError, match=r"the crop has 2 sides, but the image is \(1, 4, 4, 4\)"):
        RandBrainCrop((2, 2))(torch.zeros(1, 4, 4, 4))
