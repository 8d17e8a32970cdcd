"""Alignment to the template: where it puts real and simulated heads, and the way back."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor, decollate_batch, list_data_collate
from monai.transforms import Compose, Invertd
from scipy.spatial.transform import Rotation

from monai_vqbrain.cohorts import make_phantom
from monai_vqbrain.transforms import AlignToTemplate, AlignToTemplated, CorrectBiasd
from monai_vqbrain.transforms.registration import correlation, register
from monai_vqbrain.transforms.template import SPACE, template_brain, template_image


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two simulated participants with skull and scalp."""
    out = tmp_path_factory.mktemp("heads")
    return make_phantom(out / "p", 2, seed=3, skull=True, second_sessions=0)


def head(heads: Path, number: int) -> tuple[np.ndarray, np.ndarray]:
    image = nib.load(next(heads.glob(f"sub-phantom0{number}/ses-01/anat/*_T1w.nii.gz")))
    return np.asarray(image.dataobj), image.affine


@pytest.fixture(scope="module")
def upright(heads: Path) -> np.ndarray:
    """How the second head lies to the template."""
    return register(*head(heads, 2)).matrix


def brain_points() -> np.ndarray:
    """(N, 3) mm of some voxels of the template's brain."""
    brain, affine = template_brain()
    return np.argwhere(brain)[::5000] @ affine[:3, :3].T + affine[:3, 3]


def moved(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def pose(degrees: tuple[float, float, float], mm: tuple[float, float, float]) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    matrix[:3, 3] = mm
    return matrix


def in_sitk(matrix: np.ndarray) -> np.ndarray:
    """The same map between LPS coordinates."""
    return np.diag([-1, -1, 1, 1]) @ matrix @ np.diag([-1, -1, 1, 1])


def test_a_known_map_is_found_again() -> None:
    voxels, affine = template_image()
    known = pose((8, -5, 11), (12, -30, 25)) @ np.diag([0.92, 1.05, 0.88, 1])
    found = register(voxels, known @ affine, voxels > 0)
    away = np.linalg.norm(
        moved(brain_points(), found.matrix) - moved(brain_points(), known), axis=1
    )
    assert away.max() < 0.5
    assert found.correlation > 0.9
    assert np.allclose(found.into_template(known @ affine), affine, atol=0.5)


def test_a_rigid_map_neither_scales_nor_shears() -> None:
    voxels, affine = template_image()
    known = pose((-10, 6, 3), (-20, 10, 15))
    found = register(voxels, known @ affine, voxels > 0, kind="rigid")
    assert np.allclose(found.matrix[:3, :3] @ found.matrix[:3, :3].T, np.eye(3), atol=1e-9)
    away = moved(brain_points(), found.matrix) - moved(brain_points(), known)
    assert np.linalg.norm(away, axis=1).max() < 0.5


@pytest.mark.parametrize("degrees", [(15, -10, 12), (-14, 9, -15)])
def test_a_whole_head_is_found_however_it_lies(
    heads: Path, upright: np.ndarray, degrees: tuple[float, float, float]
) -> None:
    array, affine = head(heads, 2)
    turned = pose(degrees, (30, -40, 35))
    found = register(array, turned @ affine).matrix
    away = moved(brain_points(), found) - moved(brain_points(), turned @ upright)
    assert np.linalg.norm(away, axis=1).max() < 1.5


def test_order_and_direction_of_the_axes_do_not_matter(heads: Path, upright: np.ndarray) -> None:
    array, affine = head(heads, 2)
    image = nib.Nifti1Image(array, affine)
    to = nib.orientations.axcodes2ornt("PSR")
    other = image.as_reoriented(
        nib.orientations.ornt_transform(nib.orientations.io_orientation(affine), to)
    )
    assert nib.aff2axcodes(other.affine) == ("P", "S", "R")
    found = register(np.asarray(other.dataobj), other.affine).matrix
    away = moved(brain_points(), found) - moved(brain_points(), upright)
    assert np.linalg.norm(away, axis=1).max() < 1.0


def test_simpleitk_resamples_by_the_map_onto_the_template(shared_data: Path) -> None:
    import SimpleITK as sitk  # noqa: N813

    path = shared_data / "ds002748/sub-04/anat/sub-04_T1w.nii.gz"
    image = nib.load(path)
    array = np.asarray(image.dataobj.get_unscaled())
    found = register(array, image.affine, array > 0)
    template, affine = template_image()
    reference = sitk.GetImageFromArray(template.T)
    lps = np.diag([-1, -1, 1, 1]) @ affine
    reference.SetDirection((lps[:3, :3] / np.linalg.norm(lps[:3, :3], axis=0)).ravel().tolist())
    reference.SetOrigin(lps[:3, 3].tolist())
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(in_sitk(found.matrix)[:3, :3].ravel().tolist())
    transform.SetTranslation(in_sitk(found.matrix)[:3, 3].tolist())
    there = sitk.GetArrayFromImage(
        sitk.Resample(sitk.ReadImage(str(path), sitk.sitkFloat32), reference, transform)
    ).T
    brain = template_brain()[0]
    assert np.corrcoef(there[brain], template[brain])[0, 1] == pytest.approx(
        correlation(array, image.affine, found.matrix), abs=0.01
    )
    assert np.linalg.det(found.matrix[:3, :3]) > 0


@pytest.mark.parametrize("threads", [1, 3])
def test_the_same_bits_whatever_the_number_of_threads(
    heads: Path, upright: np.ndarray, threads: int
) -> None:
    from SimpleITK import ProcessObject

    before = ProcessObject.GetGlobalDefaultNumberOfThreads()
    ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    try:
        assert np.array_equal(register(*head(heads, 2)).matrix, upright)
        assert ProcessObject.GetGlobalDefaultNumberOfThreads() == threads
    finally:
        ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def test_z_scores_and_counts_align_alike(shared_data: Path) -> None:
    image = nib.load(min((shared_data / "ixi-hh").glob("**/*_T1w.nii.gz")))
    array = np.asarray(image.dataobj.get_unscaled())
    brain = array > 0
    z = np.where(brain, (array - array[brain].mean()) / array[brain].std(), 0).astype(np.float32)
    first = moved(brain_points(), register(array, image.affine, brain).matrix)
    second = moved(brain_points(), register(z, image.affine, brain).matrix)
    assert np.linalg.norm(first - second, axis=1).max() < 1.5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (np.diag([-1.0, 1, 1, 1]), None),  # a mirrored head is aligned, not mirrored back
        (np.diag([0.6, 0.6, 0.6, 1]), "it scales the template by 0.6"),
        (np.diag([0.45, 0.45, 0.45, 1]), "the alignment to MNI152 fails"),
        (pose((0, 0, 120), (0, 0, 0)), "it turns the head by"),
    ],
)
def test_what_cannot_be_is_refused(change: np.ndarray, words: str | None) -> None:
    voxels, affine = template_image()
    if words is None:
        assert np.linalg.det(register(voxels, change @ affine, voxels > 0).matrix[:3, :3]) > 0
        return
    with pytest.raises(ValueError, match=words):
        register(voxels, change @ affine, voxels > 0)


def test_a_head_with_too_large_a_brain_is_refused(heads: Path) -> None:
    array, affine = head(heads, 1)
    with pytest.raises(ValueError, match=r"the brain would have 2\d\d\d ml"):
        register(array, np.diag([1.1, 1.1, 1.1, 1]) @ affine)


def test_wrong_arguments_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    flat, affine = np.ones((8, 8, 8)), np.diag([16.0, 16.0, 16.0, 1.0])
    with pytest.raises(ValueError, match="kind must be rigid or affine, got 'similar'"):
        register(flat, affine, kind="similar")
    with pytest.raises(ValueError, match="a whole head must be aligned by kind 'affine'"):
        register(flat, affine, kind="rigid")
    with pytest.raises(ValueError, match="the volume measures 8 x 8 x 8 mm: to be aligned"):
        register(flat, np.eye(4))
    with pytest.raises(ValueError, match="kind must be rigid or affine, got 'similar'"):
        AlignToTemplate("similar")
    with pytest.raises(ValueError, match="every voxel is the same: there is nothing to align"):
        register(flat, affine)
    with pytest.raises(ValueError, match="the brain mask is empty: there is nothing to align"):
        register(flat, affine, np.zeros((8, 8, 8), dtype=bool))
    with pytest.raises(ValueError, match=r"expected a volume \(C, X, Y, Z\), got shape"):
        AlignToTemplate()(torch.zeros(8, 8, 8))
    with pytest.raises(
        ValueError, match=r"mask has shape \(1, 4, 4, 4\), the volume \(1, 8, 8, 8\)"
    ):
        AlignToTemplate()(torch.zeros(1, 8, 8, 8), torch.ones(1, 4, 4, 4))
    with pytest.raises(ValueError, match="a whole head must be aligned by kind 'affine'"):
        AlignToTemplated("image", kind="rigid", whole_head=True)
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(ImportError, match=r"need SimpleITK: pip install 'monai-vqbrain\[align\]'"):
        register(template_image()[0], np.eye(4), template_image()[0] > 0)


@pytest.fixture
def item() -> dict[str, MetaTensor]:
    voxels, affine = template_image()
    there = torch.from_numpy(pose((3, 4, -5), (5, 6, 7)) @ affine)
    image = MetaTensor(torch.from_numpy(voxels)[None], affine=there)
    return {"image": image, "mask": MetaTensor((image != 0).as_tensor(), affine=there)}


def test_image_and_mask_move_together_and_back(item: dict[str, MetaTensor]) -> None:
    align = AlignToTemplated("image", kind="rigid")
    aligned = align(item)
    affine = torch.from_numpy(template_image()[1])
    for key in ("image", "mask"):
        assert torch.allclose(aligned[key].affine, affine, atol=0.3)
        assert torch.equal(aligned[key].as_tensor(), item[key].as_tensor())
    assert aligned["image"].meta["template"] == SPACE
    back = align.inverse(aligned)
    assert torch.allclose(back["image"].affine, item["image"].affine, atol=1e-9)
    assert torch.allclose(back["mask"].affine, item["mask"].affine, atol=1e-9)
    assert "template" not in back["image"].meta
    assert back["image"].applied_operations == []


def test_a_mask_made_by_hand_moves_with_its_image(item: dict[str, MetaTensor]) -> None:
    plain = item | {"mask": (item["image"] != 0).as_tensor()}
    aligned = AlignToTemplated("image", kind="rigid")(plain)
    assert torch.equal(aligned["mask"].affine, aligned["image"].affine)


@pytest.mark.parametrize("bias_first", [True, False])
def test_aligned_and_corrected_and_all_back(item: dict[str, MetaTensor], bias_first: bool) -> None:
    steps = [AlignToTemplated("image", kind="rigid"), CorrectBiasd("image", spacing=8.0)]
    chain = Compose(steps[::-1] if bias_first else steps)
    back = chain.inverse(chain(item))["image"]
    assert torch.allclose(back.affine, item["image"].affine.double(), atol=1e-9)
    assert torch.allclose(back.as_tensor(), item["image"].as_tensor(), rtol=1e-5)


@pytest.mark.parametrize("change", [lambda v: v.astype(np.float32) + 1000, lambda v: v - 300.0])
def test_air_need_not_be_zero(
    heads: Path, upright: np.ndarray, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    array, affine = head(heads, 2)
    found = register(change(array), affine).matrix
    away = moved(brain_points(), found) - moved(brain_points(), upright)
    assert np.linalg.norm(away, axis=1).max() < 1.5


def test_monai_collates_and_inverts_it(item: dict[str, MetaTensor]) -> None:
    chain = Compose([AlignToTemplated("image", kind="rigid")])
    batch = list_data_collate([chain(item)])
    batch["pred"] = batch["image"]
    undo = Invertd("pred", transform=chain, orig_keys="image", nearest_interp=False)
    undone = undo(decollate_batch(batch)[0])
    assert torch.allclose(undone["pred"].affine, item["image"].affine.double(), atol=1e-6)


def test_a_whole_head_gets_the_templates_brain(heads: Path) -> None:
    array, affine = head(heads, 2)
    image = MetaTensor(torch.from_numpy(array)[None], affine=torch.from_numpy(affine))
    aligned = AlignToTemplated("image", whole_head=True)({"image": image})
    mask = aligned["mask"]
    assert mask.shape == image.shape
    assert torch.equal(mask.affine, aligned["image"].affine)
    litres = int(mask.sum()) * abs(np.linalg.det(affine[:3, :3])) / 1e6
    assert 1.2 < litres < 2
    bare = make_phantom(heads.parent / "bare", 2, seed=3, second_sessions=0)
    truth = head(bare, 2)[0] > 0
    both = (truth & mask[0].numpy()).sum()
    assert 2 * both / (truth.sum() + mask.sum()) > 0.93
