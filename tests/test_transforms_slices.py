"""Volumes to slices and back, beside nibabel and inside MONAI's own machinery."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import (
    CacheDataset,
    DataLoader,
    MetaTensor,
    PersistentDataset,
    decollate_batch,
    list_data_collate,
)
from monai.transforms import Compose, EnsureChannelFirstd, Flipd, LoadImaged
from scipy.spatial.transform import Rotation

from monai_vqbrain.transforms import (
    BrainMaskd,
    ExtractSlices,
    ExtractSlicesd,
    ScaleBrainIntensityd,
)

SHAPE = (30, 26, 28)
TURN = Rotation.from_euler("xyz", [12, -7, 5], degrees=True).as_matrix()
DIRECTIONS = {
    "RAS": np.eye(3) * 2.0,
    "LAS": np.diag([-2.0, 2.0, 2.0]),
    "PSR": np.array([[0, 0, 2.0], [-2.0, 0, 0], [0, 2.0, 0]]),
    "oblique": TURN @ np.diag([-2.0, 2.0, 2.0]),
    "anisotropic": np.diag([1.0, 1.2, 3.0]),
}


def volume(kind: str) -> MetaTensor:
    """Three channels that hold each voxel's own x, y, z in mm, and its affine."""
    affine = np.eye(4)
    affine[:3, :3] = DIRECTIONS[kind]
    affine[:3, 3] = [4.0, -9.0, 11.0] - affine[:3, :3] @ (np.array(SHAPE) / 2)
    voxels = np.indices(SHAPE).reshape(3, -1)
    world = (affine[:3, :3] @ voxels + affine[:3, 3:]).reshape(3, *SHAPE)
    return MetaTensor(
        torch.from_numpy(world.astype(np.float32)),
        affine=torch.from_numpy(affine),
        meta={"participant_id": "sub-07"},
    )


def brain() -> torch.Tensor:
    mask = torch.zeros(1, *SHAPE, dtype=torch.bool)
    mask[:, 5:25, 5:21, 4:24] = True
    return mask


def nifti(path: Path, kind: str = "LAS") -> str:
    """A blurred block on zero background, stored as 16-bit integers."""
    values = brain()[0].numpy() * np.random.default_rng(0).integers(200, 900, SHAPE)
    nib.save(nib.Nifti1Image(values.astype(np.int16), volume(kind).affine.numpy()), path)
    return str(path)


@pytest.mark.parametrize("axis", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("kind", DIRECTIONS)
def test_each_slices_affine_tells_where_its_pixels_are(kind: str, axis: str) -> None:
    """The pixels hold world coordinates: affine @ (i, j, 0) must be what is written there."""
    extract = ExtractSlices(axis, size=(9, 7), spacing=1.7, count=3)
    slices = extract(volume(kind), brain())
    for one in slices:
        i, j = np.indices((9, 7)).reshape(2, -1)
        pixels = np.stack([i, j, 0 * i, 0 * i + 1])
        world = (one.affine.numpy() @ pixels)[:3].reshape(3, 9, 7)
        assert np.abs(one.as_tensor().numpy() - world).max() < 0.01
    along = {"axial": 2, "coronal": 1, "sagittal": 0}[axis]
    assert [one.meta["index"] for one in slices] == [0, 1, 2]
    for one in slices:
        assert one.meta["position_mm"] == pytest.approx(float(one.affine[along, 3]))
    assert slices[1].meta["position_rel"] == pytest.approx(0.5, abs=0.01)


def test_a_slice_knows_its_participant_and_how_much_of_it_is_brain() -> None:
    extract = ExtractSlices(size=(40, 40), spacing=2.0, indices=[2, 14])
    outside, inside = extract(volume("RAS"), brain())
    assert inside.meta["participant_id"] == "sub-07"
    assert outside.meta["brain_fraction"] == 0
    assert inside.meta["brain_fraction"] == pytest.approx(20 * 16 / 1600)
    assert outside.meta["position_rel"] < 0 < inside.meta["position_rel"] < 1


def test_positions_in_mm_are_kept() -> None:
    slices = ExtractSlices(size=(8, 8), positions=[12.5, 7.5, 10.0])(volume("oblique"), brain())
    assert [one.meta["position_mm"] for one in slices] == [7.5, 10.0, 12.5]


@pytest.mark.parametrize("axis", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("kind", DIRECTIONS)
def test_inverse_puts_the_slices_where_they_were(kind: str, axis: str) -> None:
    original = volume(kind)
    extract = ExtractSlices(axis, size=(44, 44), spacing=1.5, positions=np.arange(-20, 40, 1.5))
    again = extract.inverse(extract(original, brain())[::-1])
    assert again.shape == original.shape
    assert torch.equal(again.affine, original.affine)
    inner = (..., slice(12, 18), slice(11, 15), slice(11, 17))
    assert (again[inner] - original[inner]).abs().max() < 0.01


def test_inverse_on_the_volumes_own_planes_gives_the_volume_back() -> None:
    original = volume("RAS")
    own = ExtractSlices(size=SHAPE[:2], spacing=2.0, indices=range(SHAPE[2]))
    whole = torch.ones(1, *SHAPE, dtype=torch.bool)
    assert torch.allclose(
        own.inverse(own(original, whole)).as_tensor(), original.as_tensor(), atol=1e-3
    )


def test_a_networks_output_goes_back_with_its_inputs_metadata() -> None:
    extract = ExtractSlices(size=(44, 44), spacing=1.5, count=8)
    slices = extract(volume("oblique"), brain())
    outputs = [MetaTensor(0.5 * one.as_tensor(), meta=one.meta) for one in slices]
    half, whole = extract.inverse(outputs), extract.inverse(slices)
    assert torch.allclose(half.as_tensor(), 0.5 * whole.as_tensor(), atol=1e-4)


def test_the_stack_is_the_slices_side_by_side() -> None:
    extract = ExtractSlices(size=(12, 10), count=4)
    stack = extract.cut(volume("LAS"), brain())
    assert stack.image.shape == (3, 12, 10, 4)
    assert stack.mask.shape == (1, 12, 10, 4)
    slices = extract(volume("LAS"), brain())
    assert np.array_equal(np.stack([s.numpy() for s in slices], axis=-1), stack.image)
    assert np.allclose(stack.grid.affine[:, 2], slices[0].affine[:, 2])


def test_inputs_without_metadata_have_the_identity_affine() -> None:
    slices = ExtractSlices(size=(20, 20), spacing=1.0, indices=[10])(brain().float().numpy())
    assert np.allclose(slices[0].affine[2, 3], 10)
    assert float(slices[0].max()) == 1


def pipeline(where: dict[str, Any] | None = None) -> Compose:
    """Everything ours between MONAI's own, before and after."""
    return Compose([
        LoadImaged("image"),
        EnsureChannelFirstd("image"),
        BrainMaskd(),
        ScaleBrainIntensityd("image"),
        ExtractSlicesd("image", size=(24, 20), spacing=2.0, **(where or {"count": 3})),
        Flipd(["image", "mask"], spatial_axis=0),
    ])  # fmt: skip


def items(folder: Path, people: int = 2) -> list[dict[str, Any]]:
    kinds = list(DIRECTIONS)
    return [
        {
            "image": nifti(folder / f"{n}.nii.gz", kinds[n]),
            "participant_id": f"sub-{n}",
            "age": 70.0,
        }
        for n in range(people)
    ]


def test_composed_with_monais_own(tmp_path: Path) -> None:
    cut = pipeline()(items(tmp_path)[1])
    assert len(cut) == 3
    for index, item in enumerate(cut):
        assert item["image"].shape == item["mask"].shape == (1, 24, 20)
        assert item["mask"].dtype == torch.bool
        assert float(item["image"].min()) >= 0
        assert float(item["image"].max()) <= 1
        assert item["index"] == index
        assert (item["participant_id"], item["age"]) == ("sub-1", 70.0)
        assert item["image"].meta["participant_id"] == "sub-1"
        assert item["image"].affine[0, 0] == -2  # MONAI's flip moved the affine along
        assert item["image"].meta["filename_or_obj"].endswith("1.nii.gz")


def test_cached_and_loaded_by_workers(tmp_path: Path) -> None:
    cached = CacheDataset(items(tmp_path), pipeline(), progress=False, num_workers=1)
    loader = DataLoader(cached, batch_size=2, num_workers=2, collate_fn=list_data_collate)
    batch = next(iter(loader))
    assert batch["image"].shape == (6, 1, 24, 20)
    assert batch["participant_id"] == ["sub-0"] * 3 + ["sub-1"] * 3
    single = decollate_batch(batch)
    assert len(single) == 6
    for got, whole in zip(single, [i for cut in cached for i in cut], strict=True):
        assert torch.equal(got["image"].as_tensor(), whole["image"].as_tensor())
        assert torch.equal(got["image"].affine, whole["image"].affine)
        assert float(got["position_rel"]) == pytest.approx(whole["position_rel"])


@pytest.mark.parametrize("track_meta", [False, True])
def test_kept_on_disk_between_runs(tmp_path: Path, track_meta: bool) -> None:
    source, cache = items(tmp_path, 1), tmp_path / "cache"
    options = {"track_meta": track_meta, "weights_only": not track_meta}
    PersistentDataset(source, pipeline(), cache_dir=cache, **options)[0]
    again = PersistentDataset(source, pipeline(), cache_dir=cache, **options)[0]
    direct = pipeline()(source[0])
    for got, expected in zip(again, direct, strict=True):
        assert torch.equal(torch.as_tensor(got["image"]), expected["image"].as_tensor())
        assert got["position_mm"] == expected["position_mm"]


def test_inverse_of_a_dictionary_after_a_batch(tmp_path: Path) -> None:
    extract = ExtractSlicesd(
        "image", size=(40, 40), spacing=1.5, positions=np.arange(-20.0, 42, 1.5)
    )
    load = Compose(
        [LoadImaged("image"), EnsureChannelFirstd("image"), ScaleBrainIntensityd("image")]
    )
    original = load(items(tmp_path, 2)[1])
    back = extract.inverse(decollate_batch(list_data_collate(extract(original))))
    assert back["image"].shape == original["image"].shape
    assert back["participant_id"] == "sub-1"
    assert "position_mm" not in back
    assert torch.allclose(back["image"].affine, original["image"].affine)
    inside = back["mask"][0, 6:24, 6:20, 5:23]
    assert inside.all()
    assert not back["mask"][0, :4].any()


def test_several_images_are_cut_alike() -> None:
    image = volume("oblique")
    item = {"a": image, "b": 2 * image, "mask": brain()}
    for one in ExtractSlicesd(["a", "b"], size=(8, 8), count=2)(item):
        assert torch.allclose(2 * one["a"].as_tensor(), one["b"].as_tensor(), atol=1e-3)
    with pytest.raises(ValueError, match="'b' has another affine than 'a': resample one onto"):
        ExtractSlicesd(["a", "b"])({**item, "b": volume("LAS")})


def test_what_is_refused_is_said() -> None:
    with pytest.raises(ValueError, match="axis must be one of axial, coronal, sagittal, got 'up'"):
        ExtractSlices("up")
    with pytest.raises(
        ValueError, match="give one of positions, indices and count, got indices and"
    ):
        ExtractSlices(indices=[1], count=3)
    with pytest.raises(ValueError, match=r"expected a volume \(C, X, Y, Z\), got shape \(4, 4\)"):
        ExtractSlices()(torch.ones(4, 4))
    with pytest.raises(ValueError, match="the mask has shape"):
        ExtractSlices()(torch.ones(1, 4, 4, 4), torch.ones(1, 4, 4, 5))
    extract = ExtractSlices(size=(8, 8), count=4)
    slices, others = extract(volume("RAS"), brain()), extract(volume("LAS"), brain())
    with pytest.raises(ValueError, match=r"without gap or repeat, got \[0, 2\]"):
        extract.inverse([slices[0], slices[2]])
    with pytest.raises(ValueError, match="slices of several volumes: give those of one at a time"):
        extract.inverse([slices[0], others[1]])
    with pytest.raises(ValueError, match="has no 'index' in its meta"):
        extract.inverse([torch.ones(1, 8, 8)])
