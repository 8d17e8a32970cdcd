"""N4: a field that is known is taken away, and put back."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy.ndimage import zoom

from monai_vqbrain.transforms import CorrectBias, CorrectBiasd
from monai_vqbrain.transforms.bias import bias_at, log_bias
from monai_vqbrain.transforms.blocks import block_means
from monai_vqbrain.transforms.template import template_image

RNG = np.random.default_rng(0)


def coarse() -> tuple[np.ndarray, np.ndarray]:
    """The template at 2 mm."""
    voxels, affine = template_image()
    return voxels[::2, ::2, ::2], affine @ np.diag([2.0, 2.0, 2.0, 1.0])


def biased() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The template under a strong field, its affine, and the field."""
    voxels, affine = coarse()
    knots = RNG.uniform(-0.4, 0.4, (3, 3, 3))
    field = np.exp(zoom(knots, np.array(voxels.shape) / 3, order=3))
    return voxels * field.astype(np.float32), affine, field


def test_a_known_field_is_taken_away() -> None:
    image, affine, field = biased()
    brain = image > 0
    with_it, without = (
        bias_at(log_bias(array, affine, brain, 8.0), affine, image.shape)[brain]
        for array in (image, coarse()[0])
    )
    before = np.std(np.log(field[brain]))
    assert before > 0.12
    assert np.std(np.log(field[brain] / with_it * without)) < 0.5 * before


def test_the_same_bits_every_time() -> None:
    image, affine, _ = biased()
    first, second = (log_bias(image, affine, image > 0, 8.0) for _ in range(2))
    assert np.array_equal(first.values, second.values)


def test_it_is_undone() -> None:
    image, affine, _ = biased()
    volume = MetaTensor(torch.from_numpy(image)[None], affine=torch.from_numpy(affine))
    correct = CorrectBias(8.0)
    flat = correct(volume.double())
    assert flat.dtype == torch.float32
    assert torch.equal(flat.affine, volume.affine)
    assert not torch.allclose(flat.as_tensor(), volume.as_tensor(), rtol=0.05)
    assert torch.allclose(correct.inverse(flat).as_tensor(), volume.as_tensor(), rtol=1e-5)


def test_items_are_corrected_in_their_mask_and_back() -> None:
    image, affine, _ = biased()
    volume = MetaTensor(torch.from_numpy(image)[None], affine=torch.from_numpy(affine))
    item = {"image": volume, "mask": torch.from_numpy(image > 0.1)[None], "sex": "F"}
    correct = CorrectBiasd("image", spacing=8.0)
    flat = correct(item)
    assert flat["sex"] == "F"
    assert torch.equal(
        flat["image"].as_tensor(), CorrectBias(8.0)(volume, item["mask"]).as_tensor()
    )
    back = correct.inverse(flat)["image"]
    assert torch.allclose(back.as_tensor(), volume.as_tensor(), rtol=1e-5)
    assert back.applied_operations == []


def test_wrong_arguments_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="spacing must be positive, in mm, got 0"):
        CorrectBias(0)
    with pytest.raises(ValueError, match=r"expected a volume \(C, X, Y, Z\), got shape"):
        CorrectBias()(torch.ones(8, 8, 8))
    with pytest.raises(ValueError, match="bias field: 8 of 2 x 2 x 2 blocks of 4 mm"):
        CorrectBias()(torch.ones(1, 8, 8, 8))
    with pytest.raises(ValueError, match="bias field: 300 of 10 x 10 x 3 blocks of 4 mm"):
        CorrectBias()(torch.ones(1, 40, 40, 12))
    with pytest.raises(
        ValueError, match=r"mask has shape \(1, 4, 4, 4\), the volume \(1, 8, 8, 8\)"
    ):
        CorrectBias()(torch.ones(1, 8, 8, 8), torch.ones(1, 4, 4, 4))
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(ImportError, match=r"need SimpleITK: pip install 'monai-vqbrain\[align\]'"):
        CorrectBias()(torch.ones(1, 32, 32, 32))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("mm", [1.0, 3.0, 4.4])
def test_blocks_are_means(order: str, mm: float) -> None:
    array = np.asarray(RNG.integers(0, 200, (24, 12, 36), dtype=np.uint8), order=order)
    affine = np.array([[0, 2.0, 0, 5], [-1.0, 0, 0, 6], [0, 0, 0.5, 7], [0, 0, 0, 1]])
    blocks = block_means(array, affine, mm)
    factor = np.maximum(1, np.round(mm / np.array([1.0, 2.0, 0.5]))).astype(int)
    sides = [(n // k, k) for n, k in zip(array.shape, factor, strict=True)]
    split = array.reshape(*(side for pair in sides for side in pair))
    assert np.allclose(blocks.values, split.mean(axis=(1, 3, 5)))
    assert np.allclose(blocks.spacing, factor * [1.0, 2.0, 0.5])
    centre = affine[:3, :3] @ ((factor - 1) / 2) + affine[:3, 3]
    assert np.allclose(blocks.affine[:3, 3], centre)
