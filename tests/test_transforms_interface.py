"""What MONAI expects of every transform: a backend, keys that may be missing."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends

from monai_vqbrain import transforms
from monai_vqbrain.transforms import (
    AlignToTemplated,
    BrainMaskd,
    CorrectBiasd,
    ExtractSlicesd,
    LoadSliced,
    RandBrainCropd,
    ScaleBrainIntensityd,
    ViewSliced,
)
from monai_vqbrain.transforms.template import template_image

PUBLIC = {name: getattr(transforms, name) for name in transforms.__all__}
TRANSFORMS = {
    name: one for name, one in PUBLIC.items() if inspect.isclass(one) and issubclass(one, Transform)
}
KEYS = ["absent", "image"]
DICTIONARY: dict[str, Callable[..., MapTransform]] = {
    "AlignToTemplated": lambda keys, **how: AlignToTemplated(keys, kind="rigid", **how),
    "BrainMaskd": BrainMaskd,
    "CorrectBiasd": CorrectBiasd,
    "ExtractSlicesd": lambda keys, **how: ExtractSlicesd(keys, size=(8, 8), count=2, **how),
    "LoadSliced": LoadSliced,
    "RandBrainCropd": lambda keys, **how: RandBrainCropd(keys, (8, 8), **how),
    "ScaleBrainIntensityd": ScaleBrainIntensityd,
    "ViewSliced": ViewSliced,
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_transform_names_its_backend(name: str) -> None:
    backend = TRANSFORMS[name].backend
    assert backend
    assert all(isinstance(one, TransformBackends) for one in backend)


def test_every_dictionary_transform_is_in_the_table() -> None:
    mapped = {name for name, one in TRANSFORMS.items() if issubclass(one, MapTransform)}
    assert mapped == set(DICTIONARY)
    assert {name for name in TRANSFORMS if name.endswith("d")} == mapped


def item_for(name: str, folder: Path) -> dict[str, Any]:
    """An item with `image` that the transform can process, and nothing under `absent`."""
    generator = torch.Generator().manual_seed(0)
    if name == "LoadSliced":
        path = str(folder / "stack.nii")
        nib.save(nib.Nifti1Image(np.ones((8, 6, 3), dtype=np.uint8), np.eye(4)), path)
        return {"image": path, "label": path, "index": 1}
    if name == "AlignToTemplated":
        voxels, affine = template_image()
        return {"image": MetaTensor(torch.from_numpy(voxels)[None], affine=affine)}
    sides = (24, 24) if name in ("RandBrainCropd", "ViewSliced") else (48, 48, 48)
    return {"image": 50 + torch.rand(1, *sides, generator=generator), "mirrored": True}


@pytest.mark.parametrize("name", DICTIONARY)
def test_a_missing_key_raises_unless_it_is_allowed(name: str, tmp_path: Path) -> None:
    item = item_for(name, tmp_path)
    with pytest.raises(KeyError, match=f"Key `absent` of transform `{name}` was missing"):
        DICTIONARY[name](KEYS)(item)
    result = DICTIONARY[name](KEYS, allow_missing_keys=True)(item)
    for one in result if isinstance(result, list) else [result]:
        assert "image" in one
        assert "absent" not in one


@pytest.mark.parametrize("name", DICTIONARY)
def test_an_item_without_any_of_the_keys_is_unchanged(name: str) -> None:
    item = {"sex": "F", "index": 2}
    result = DICTIONARY[name](KEYS, allow_missing_keys=True)(item)
    assert (result[0] if isinstance(result, list) else result) == item


def test_slices_of_several_keys_are_loaded_with_one_mask(tmp_path: Path) -> None:
    item = item_for("LoadSliced", tmp_path)
    both = LoadSliced(["image", "other"])(item | {"other": item["image"]})
    assert torch.equal(both["image"], both["other"])
    assert set(both) == {"image", "other", "mask", "index"}
    del item["label"]
    assert set(LoadSliced(allow_missing_keys=True)(item)) == {"image", "index"}
    with pytest.raises(KeyError, match="label"):
        LoadSliced()(item)


def test_slices_are_stacked_back_without_a_missing_key() -> None:
    image = torch.ones(1, 16, 16, 16)
    extract = ExtractSlicesd(KEYS, size=(16, 16), spacing=1, count=2, allow_missing_keys=True)
    assert set(extract.inverse(extract({"image": image}))) == {"image", "mask"}


def test_a_mask_is_made_of_the_first_image_that_an_item_has() -> None:
    empty, full = torch.zeros(1, 5, 5), torch.ones(1, 5, 5)
    assert BrainMaskd(["image", "other"])({"image": full, "other": empty})["mask"].all()
