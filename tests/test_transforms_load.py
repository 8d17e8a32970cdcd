"""One slice from disk."""

from __future__ import annotations

import pickle
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from monai_vqbrain.transforms import LoadSliced


def write(folder: Path, values: np.ndarray) -> dict[str, str]:
    """A stack and its mask, as prepare writes them."""
    image = nib.Nifti1Image(values, np.diag([1.8, 1.8, 3.6, 1]))
    image.header.set_slope_inter(1 / 255, 0)
    nib.save(image, folder / "image.nii")
    nib.save(nib.Nifti1Image((values > 99).astype(np.uint8), np.eye(4)), folder / "mask.nii")
    return {"image": str(folder / "image.nii"), "label": str(folder / "mask.nii")}


STACK = np.random.default_rng(0).integers(0, 256, (12, 10, 4), dtype=np.uint8)


@pytest.mark.parametrize("index", range(4))
def test_a_slice_is_nibabels(tmp_path: Path, index: int) -> None:
    paths = write(tmp_path, STACK)
    item = LoadSliced()({**paths, "index": index, "age": None})
    theirs = nib.load(paths["image"]).get_fdata()[..., index]
    assert item["image"].dtype == torch.float32
    assert np.allclose(item["image"][0].numpy(), theirs, atol=1e-6)
    assert np.array_equal(item["mask"][0].numpy(), STACK[..., index] > 99)
    assert set(item) == {"image", "mask", "index", "age"}


def test_values_lie_between_0_and_1_and_may_be_changed(tmp_path: Path) -> None:
    paths = write(tmp_path, np.full((3, 3, 1), 255, dtype=np.uint8))
    item = LoadSliced()({**paths, "index": 0})
    assert float(item["image"].max()) <= 1
    item["image"] += 1
    item["mask"][:] = False
    assert LoadSliced()({**paths, "index": 0})["mask"].all()


def test_a_stack_written_anew_is_read_anew(tmp_path: Path) -> None:
    paths = write(tmp_path, STACK)
    LoadSliced()({**paths, "index": 0})
    (tmp_path / "next").mkdir()
    for name, path in write(tmp_path / "next", 255 - STACK).items():
        Path(path).replace(paths[name])
    item = LoadSliced()({**paths, "index": 0})
    assert np.allclose(item["image"][0].numpy() * 255, 255 - STACK[..., 0], atol=1e-3)


def test_other_keys_and_pickling(tmp_path: Path) -> None:
    paths = write(tmp_path, STACK)
    load = pickle.loads(pickle.dumps(LoadSliced("scan", "brain")))
    item = load({"scan": paths["image"], "brain": paths["label"], "index": 1})
    assert set(item) == {"scan", "mask", "index"}
