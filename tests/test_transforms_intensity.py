"""Intensities in [0, 1], set by the brain."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor, decollate_batch, list_data_collate
from monai.transforms import Compose, Flipd, Invertd

from monai_vqbrain.transforms import ScaleBrainIntensity, ScaleBrainIntensityd
from monai_vqbrain.transforms.intensity import brain_percentile, top_percentile

RNG = np.random.default_rng(0)
VALUES = {
    "uint8": RNG.integers(0, 256, 3001, dtype=np.uint8),
    "int8": RNG.integers(-128, 128, 1000, dtype=np.int8),
    "uint16": RNG.integers(0, 65536, 5000, dtype=np.uint16),
    "int16": RNG.integers(-1024, 3000, 4096, dtype=np.int16),
    "big-endian int16": RNG.integers(-1024, 3000, 4096).astype(">i2"),
    "int32": RNG.integers(-1024, 300000, 999, dtype=np.int32),
    "float32": RNG.normal(size=777).astype(np.float32),
    "one value": np.array([7], dtype=np.uint8),
}


@pytest.mark.parametrize("percentile", [0, 0.5, 50, 99.5, 100])
@pytest.mark.parametrize("kind", VALUES)
def test_the_percentile_is_numpys(kind: str, percentile: float) -> None:
    mine = brain_percentile(VALUES[kind], percentile)
    assert mine == pytest.approx(np.percentile(VALUES[kind], percentile), rel=1e-6)


def test_only_the_brain_sets_the_scale() -> None:
    image = torch.zeros(1, 10, 10)
    image[:, 2:8, 2:8] = torch.linspace(10, 100, 36).reshape(6, 6)
    mask = image != 0
    image[:, 0, 0] = 5000.0
    scaled = ScaleBrainIntensity(percentile=100)(image, mask)
    assert torch.allclose(scaled[:, 2:8, 2:8], image[:, 2:8, 2:8] / 100)
    assert float(scaled.max()) == 1.0


def test_a_floor_keeps_the_dark_half_and_leaves_the_background_black() -> None:
    image = torch.zeros(1, 20, 20)
    image[:, 5:15, 5:15] = torch.linspace(-2, 2, 100).reshape(10, 10)
    clipped = ScaleBrainIntensity()(image)
    kept = ScaleBrainIntensity(floor=0.5)(image)
    assert (clipped[:, 5:10, 5:15] == 0).all()
    assert (kept[:, 6:10, 5:15] > 0).all()
    assert (kept[image == 0] == 0).all()


@pytest.mark.parametrize("make", [np.array, torch.tensor, MetaTensor])
def test_the_kind_of_the_input_is_kept(make: type) -> None:
    image = make(np.arange(64, dtype=np.int16).reshape(1, 8, 8))
    scaled = ScaleBrainIntensity()(image)
    assert type(scaled) is type(image)
    assert scaled.dtype in (np.float32, torch.float32)
    assert scaled.min() >= 0
    assert scaled.max() == 1


def test_the_dictionary_version_uses_the_mask_where_there_is_one() -> None:
    image = torch.arange(1.0, 101.0).reshape(1, 10, 10)
    scale = ScaleBrainIntensityd(["image", "other"], percentile=100, allow_missing_keys=True)
    assert float(scale({"image": image})["image"][0, 4, 9]) == pytest.approx(0.5)
    assert float(scale({"image": image, "mask": image <= 50})["image"][0, 2, 4]) == 0.5


def counts() -> MetaTensor:
    """0 to 255 at a rotated place."""
    affine = torch.tensor([[0.0, 2, 0, 5], [-2, 0, 0, 6], [0, 0, 3, 7], [0, 0, 0, 1]])
    return MetaTensor(torch.arange(256.0).reshape(1, 16, 16), affine=affine)


def test_the_inverse_gives_the_intensities_back_but_for_clipped_ones() -> None:
    image, scale = counts(), ScaleBrainIntensity(percentile=90)
    scaled = scale(image)
    back = scale.inverse(scaled)
    high = np.percentile(np.arange(1, 256), 90)
    expected = image.as_tensor().clamp(max=float(high))
    assert torch.allclose(back.as_tensor(), expected, atol=1e-3)
    assert torch.equal(back.affine, image.affine)
    assert back.applied_operations == image.applied_operations == []


def test_the_inverse_with_a_floor_gives_negative_intensities_back() -> None:
    image = MetaTensor(torch.linspace(-2, 2, 256).reshape(1, 16, 16))
    scale = ScaleBrainIntensity(percentile=100, floor=0)
    assert torch.allclose(scale.inverse(scale(image)).as_tensor(), image.as_tensor(), atol=1e-5)


def test_compose_and_invertd_undo_the_scaling() -> None:
    chain = Compose(
        [ScaleBrainIntensityd(["image", "other"], percentile=100), Flipd("image", spatial_axis=0)]
    )
    item = {"image": counts(), "other": 2 * counts(), "mask": counts() > 9, "sex": "F"}
    back = chain.inverse(chain(item))
    for key in ("image", "other"):
        assert torch.allclose(back[key].as_tensor(), item[key].as_tensor(), rtol=1e-5)
        assert back[key].applied_operations == []
    assert back["sex"] == "F"
    batch = list_data_collate([chain(item), chain(item)])
    batch["pred"] = MetaTensor(batch["image"].as_tensor() * 0.5)
    undo = Invertd("pred", transform=chain, orig_keys="image", nearest_interp=False)
    for one in decollate_batch(batch):
        undone = undo(one)["pred"]
        assert torch.allclose(undone.as_tensor(), 0.5 * item["image"].as_tensor(), rtol=1e-5)
        assert torch.equal(undone.affine, item["image"].affine)


def test_only_a_metatensor_can_be_scaled_back() -> None:
    scale = ScaleBrainIntensity()
    with pytest.raises(ValueError, match="`data` should be either `MetaTensor` or dictionary"):
        scale.inverse(scale(counts().as_tensor()))
    with pytest.raises(ValueError, match="has empty 'applied_operations'"):
        scale.inverse(counts())


def test_what_cannot_be_scaled_is_said() -> None:
    with pytest.raises(ValueError, match="the brain mask is empty"):
        ScaleBrainIntensity()(torch.zeros(1, 4, 4))
    with pytest.raises(
        ValueError, match=r"99\.5th percentile is -1, not above 0: the image is empty"
    ):
        ScaleBrainIntensity()(-torch.ones(1, 4, 4))
    with pytest.raises(ValueError, match="need 0 <= floor < percentile <= 100, got floor 60, "):
        ScaleBrainIntensity(50, floor=60)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
@pytest.mark.parametrize("percentile", [50.0, 99.5, 100.0])
@pytest.mark.parametrize("count", [1, 2, 70, 40_000])
def test_top_percentile_is_numpys(dtype: type, percentile: float, count: int) -> None:
    rng = np.random.default_rng(count)
    brain = rng.normal(100, 30, count).clip(1, 250).astype(dtype)
    among = np.zeros(3 * count + 5, dtype=dtype)
    among[rng.permutation(len(among))[:count]] = brain
    found = top_percentile(among, count, percentile)
    assert found == pytest.approx(np.percentile(brain, percentile), rel=1e-6)


def test_top_percentile_of_values_in_an_unlucky_order() -> None:
    among = np.zeros(64 * 100)
    among[::64] = 9.0  # all that is looked at first is high
    among[1] = 5.0
    assert top_percentile(among, 101, 0.0) == 5.0


def test_top_percentile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="the brain mask is empty"):
        top_percentile(np.zeros(5), 0, 50.0)
