"""The world coordinate of every voxel is kept by all transforms."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy.spatial.transform import Rotation

from monai_vqbrain.transforms import (
    AlignToTemplate,
    AlignToTemplated,
    BrainMask,
    BrainMaskd,
    CorrectBias,
    CorrectBiasd,
    ExtractSlices,
    ExtractSlicesd,
    RandBrainCrop,
    RandBrainCropd,
    ScaleBrainIntensity,
    ScaleBrainIntensityd,
    ViewSliced,
)
from monai_vqbrain.transforms.align import MATRIX
from monai_vqbrain.transforms.template import template_image

OFFSET = 1000.0  # mm; keeps coordinates positive, so that no transform clips them
SLICE = 30
SIZE = {"size": (40, 40), "spacing": 1.5, "count": 3}


@pytest.fixture(scope="module")
def volume() -> MetaTensor:
    """A rotated, anisotropic, translated brain (5, X, Y, Z).

    Its channels: intensity; x, y, z of each voxel in mm plus OFFSET; 1.
    """
    voxels, affine = template_image()
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("xyz", (9, -6, 11), degrees=True).as_matrix()
    pose[:3, 3] = 14, -23, 31
    affine = pose @ affine @ np.diag([2.0, 2.0, 3.0, 1.0])
    voxels = voxels[::2, ::2, ::3]
    grid = np.indices(voxels.shape).reshape(3, -1)
    world = (affine[:3, :3] @ grid + affine[:3, 3:] + OFFSET).reshape(3, *voxels.shape)
    channels = np.concatenate([voxels[None], world, np.ones_like(voxels)[None]])
    return MetaTensor(torch.from_numpy(channels.astype(np.float32)), affine=affine)


def one_slice(volume: MetaTensor) -> MetaTensor:
    """The plane SLICE of the volume (5, X, Y), with its own 4x4 affine."""
    affine = volume.affine.clone()
    affine[:3, 3] += SLICE * affine[:3, 2]
    return MetaTensor(volume.as_tensor()[..., SLICE].clone(), affine=affine)


def brain(volume: MetaTensor) -> torch.Tensor:
    return volume.as_tensor()[:1] > 0


def crops(image: MetaTensor, size: tuple[int, ...], mirror: bool) -> list[MetaTensor]:
    """Crops by both versions, with several seeds; with `mirror`, half of them are mirrored."""
    crop, cropd = RandBrainCrop(size, mirror), RandBrainCropd("image", size, mirror)
    found = []
    for seed in range(6):
        found.append(crop.set_random_state(seed)(image))
        found.append(cropd.set_random_state(seed)({"image": image})["image"])
    handedness = {bool(torch.det(one.affine[:3, :3]) > 0) for one in found}
    assert len(handedness) == (2 if mirror else 1)
    return found


def views(volume: MetaTensor, **asked: object) -> list[MetaTensor]:
    return [ViewSliced("image")({"image": one_slice(volume), **asked})["image"]]


def on_grid_of(other: MetaTensor, volume: MetaTensor) -> list[MetaTensor]:
    """The volume's channels with the affine of a mask of the same shape."""
    assert other.shape[1:] == volume.shape[1:]
    return [MetaTensor(volume.as_tensor(), affine=other.affine)]


def alignment_undone(aligned: MetaTensor) -> list[MetaTensor]:
    """The volume with its world coordinates again, by the matrix that was recorded."""
    matrix = aligned.applied_operations[-1]["extra_info"][MATRIX]
    return [MetaTensor(aligned.as_tensor(), affine=matrix @ aligned.affine)]


def item(volume: MetaTensor) -> dict[str, torch.Tensor]:
    return {"image": volume, "mask": brain(volume)}


CASES: dict[str, Callable[[MetaTensor], list[MetaTensor]]] = {
    "crop of a slice": lambda v: crops(one_slice(v), (24, 30), mirror=False),
    "mirrored crop of a slice": lambda v: crops(one_slice(v), (24, 30), mirror=True),
    "crop of a volume": lambda v: crops(v, (24, 30, 17), mirror=False),
    "mirrored crop of a volume": lambda v: crops(v, (500, 30, 17), mirror=True),
    "unchanged view": views,
    "mirrored view": lambda v: views(v, mirrored=True),
    "shifted view": lambda v: views(v, shift=(3, -5)),
    "mirrored and shifted view": lambda v: views(v, mirrored=True, shift=[-4, 2]),
    "axial slices": lambda v: ExtractSlices(**SIZE)(v, brain(v)),
    "sagittal slices": lambda v: ExtractSlices("sagittal", **SIZE)(v, brain(v)),
    "slices, dictionary": lambda v: [
        one["image"] for one in ExtractSlicesd("image", axis="coronal", **SIZE)(item(v))
    ],
    "alignment": lambda v: alignment_undone(AlignToTemplate("rigid")(v, brain(v))),
    "alignment, dictionary": lambda v: alignment_undone(
        AlignToTemplated("image", kind="rigid")(item(v))["image"]
    ),
    "bias": lambda v: [CorrectBias(8.0)(v, brain(v))],
    "bias, dictionary": lambda v: [CorrectBiasd("image", spacing=8.0)(item(v))["image"]],
    "mask": lambda v: on_grid_of(BrainMask()(v[:1]), v),
    "mask, dictionary": lambda v: on_grid_of(BrainMaskd()({"image": v[:1]})["mask"], v),
    "intensity": lambda v: [ScaleBrainIntensity(100)(v)],
    "intensity, dictionary": lambda v: [
        ScaleBrainIntensityd("image", percentile=100)({"image": v})["image"]
    ],
}


@pytest.mark.parametrize("case", CASES)
def test_a_voxel_keeps_its_world_coordinate(volume: MetaTensor, case: str) -> None:
    before = volume.affine.clone()
    for result in CASES[case](volume):
        values = result.as_tensor().double().numpy()
        sides = values.shape[1:]
        grid = np.indices((*sides, 1)[:3]).reshape(3, -1)
        affine = result.affine.double().numpy()
        world = affine[:3, :3] @ grid + affine[:3, 3:]
        ones = values[4].reshape(-1)
        known = ones > 0.5 * ones.max()  # a shift brings in background
        assert known.mean() > 0.7
        carried = values[1:4].reshape(3, -1)[:, known] / ones[known] - OFFSET
        assert np.abs(carried - world[:, known]).max() < 0.01
    assert torch.equal(volume.affine, before)


def test_plain_tensors_stay_plain(volume: MetaTensor) -> None:
    plain = one_slice(volume).as_tensor()
    view = {"image": plain, "mirrored": True, "shift": (1, 1)}
    for result in (RandBrainCrop((8, 8), mirror=True)(plain), ViewSliced("image")(view)["image"]):
        assert type(result) is torch.Tensor


def test_a_moved_slice_keeps_its_metadata_and_history(volume: MetaTensor) -> None:
    one = ExtractSlices(**SIZE)(volume, brain(volume))[1]
    one.applied_operations = [{"class": "Other", "id": 1}]
    view = ViewSliced("image")({"image": one, "mirrored": True})["image"]
    crop = RandBrainCrop((8, 8))(one)
    for moved in (view, crop):
        assert moved.meta["position_mm"] == one.meta["position_mm"]
        assert moved.applied_operations == one.applied_operations
        assert moved.applied_operations is not one.applied_operations
