"""Where a header places the voxels: sform against qform, units, and what ITK makes of it."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation

from monai_vqbrain.errors import UnusableImageError
from monai_vqbrain.stages.check import check
from monai_vqbrain.stages.prepare import prepare
from monai_vqbrain.stages.slicing.geometry import affine_of_header
from monai_vqbrain.stages.slicing.normalisation_cache import NormalisationCache, NormalisationResult
from monai_vqbrain.stages.slicing.plan_text import plan_lines
from monai_vqbrain.transforms.grid import read_at
from monai_vqbrain.transforms.registration import Registration

SHAPE = (40, 48, 36)
TWO_MM = np.diag([2.0, 2.0, 2.0, 1.0])
FOUR_MM = np.diag([4.0, 4.0, 4.0, 1.0])


def turned(degrees: float, shift: float = 0.0) -> np.ndarray:
    affine = FOUR_MM.copy()
    affine[:3, :3] = Rotation.from_euler("x", degrees, degrees=True).as_matrix() @ affine[:3, :3]
    affine[:3, 3] = shift
    return affine


def image(
    sform: np.ndarray | None, qform: np.ndarray | None, unit: int = 2, seed: int = 0
) -> nib.Nifti1Image:
    """A brain of 1.3 litres at 4 mm on a zero background, with these two affines."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    inside = sum(axis**2 for axis in axes) < 0.72
    values = inside * np.random.default_rng(seed).integers(60, 200, SHAPE)
    made = nib.Nifti1Image(values.astype(np.int16), sform)
    made.set_qform(qform, 0 if qform is None else 1)
    made.set_sform(sform, 0 if sform is None else 2)
    made.header["xyzt_units"] = unit
    return made


MIRRORED = np.diag([-4.0, 4.0, 4.0, 1.0])
DISAGREE = {
    "sizes": (FOUR_MM, TWO_MM, "voxels of 4 x 4 x 4 and 2 x 2 x 2"),
    "mirrored": (FOUR_MM, MIRRORED, "one is the mirror image of the other"),
    "turned": (FOUR_MM, turned(90), "turned by 90 degrees"),
}


@pytest.mark.parametrize("case", DISAGREE)
def test_an_sform_and_a_qform_that_disagree_are_refused_unless_one_is_named(case: str) -> None:
    sform, qform, words = DISAGREE[case]
    made = image(sform, qform)
    with pytest.raises(UnusableImageError, match=f"sform and a qform that disagree: {words}"):
        affine_of_header(made)
    assert np.allclose(affine_of_header(made, "sform")[0], sform)
    assert np.allclose(affine_of_header(made, "qform")[0], qform, atol=1e-6)


def test_voxel_sizes_beside_the_sform_disagree_too_and_are_no_qform() -> None:
    made = image(FOUR_MM, None)
    made.header["pixdim"][1:4] = 2
    with pytest.raises(UnusableImageError, match="voxels of 4 x 4 x 4 and 2 x 2 x 2"):
        affine_of_header(made)
    assert np.allclose(affine_of_header(made, "sform")[0], FOUR_MM)
    with pytest.raises(UnusableImageError, match="has no qform, but voxels of 4 x 4 x 4"):
        affine_of_header(made, "qform")


def test_another_pose_is_a_line_and_the_sform_counts() -> None:
    made = image(FOUR_MM, turned(10, shift=20))
    affine, remarks = affine_of_header(made)
    assert np.allclose(affine, FOUR_MM)
    assert remarks[0][0].endswith("differ: turned by 10 degrees, first voxel 35 mm apart")
    affine, remarks = affine_of_header(made, "qform")
    assert np.allclose(affine, turned(10, 20), atol=1e-4)
    assert remarks == []


@pytest.mark.parametrize("choice", ["auto", "sform", "qform"])
def test_affines_that_agree_are_one(choice: str) -> None:
    oblique = turned(17.3, shift=-55)
    for made in (image(oblique, oblique), image(oblique, None), image(None, oblique)):
        affine, remarks = affine_of_header(made, choice)
        assert np.allclose(affine, oblique, atol=1e-3)
        assert remarks == []


@pytest.mark.parametrize(("unit", "mm"), [(1, 1000.0), (2, 1.0), (3, 0.001), (0, 1.0)])
def test_metres_and_microns_become_millimetres(unit: int, mm: float) -> None:
    stored = np.diag([1 / mm, 1 / mm, 1 / mm, 1]) @ turned(12, shift=-70)
    affine, _ = affine_of_header(image(stored, stored, unit))
    assert np.allclose(affine, turned(12, shift=-70), atol=1e-3)


@pytest.mark.parametrize(("unit", "words"), [(1, "4e\\+03 x 4e\\+03"), (3, "0.004 x 0.004")])
def test_units_that_cannot_be_true_are_refused(unit: int, words: str) -> None:
    with pytest.raises(UnusableImageError, match=f"voxels of {words} .*: correct the affine"):
        affine_of_header(image(FOUR_MM, FOUR_MM, unit))


def test_check_prints_what_prepare_uses(tmp_path: Path) -> None:
    """Heights of the brain: 116 mm at 4 mm by the qform, half of it by the sform."""
    source = tmp_path / "source"
    source.mkdir()
    nib.save(image(TWO_MM, FOUR_MM), source / "p1_T1w.nii.gz")
    nib.save(image(None, FOUR_MM), source / "p2_T1w.nii.gz")
    metres = np.diag([0.004, 0.004, 0.004, 1])
    nib.save(image(metres, metres, unit=1), source / "p3_T1w.nii.gz")
    plain = "\n".join(plan_lines(check(source)))
    assert "volumes     2 of 40 x 48 x 36 voxels of 4 x 4 x 4 mm" in plain
    assert "problem     p1_T1w.nii.gz: has an sform and a qform that disagree" in plain
    chosen = "\n".join(plan_lines(check(source, affine="qform")))
    assert "volumes     3 of 40 x 48 x 36 voxels of 4 x 4 x 4 mm" in chosen
    assert "disagree" not in chosen
    prepare(source, tmp_path / "refused", size=(32, 32), spacing=5, count=2)
    problems = pd.read_csv(tmp_path / "refused/2-slices/problems.tsv", sep="\t")
    assert (
        problems.loc[problems["path"] == "p1_T1w.nii.gz", "problem"].str.contains("disagree").all()
    )
    prepare(source, tmp_path / "run", size=(32, 32), spacing=5, count=2, affine="qform")
    heights = pd.read_csv(tmp_path / "run/2-slices/qc/qc.tsv", sep="\t")["height_mm"]
    assert heights.nunique() == 1
    assert 100 < heights[0] < 130


ITK_CASES = {
    "sform": (turned(12, -60), None, 2),
    "qform": (None, turned(-8, -60), 2),
    "both": (turned(12, -60), turned(12, -60), 2),
    "left to right": (turned(5) @ np.diag([-1, 1, 1, 1.0]), None, 2),
    "metres": (np.diag([0.001, 0.001, 0.001, 1]) @ turned(12, -60),) * 2 + (1,),
    "microns": (np.diag([1000, 1000, 1000, 1]) @ turned(12, -60),) * 2 + (3,),
}


@pytest.mark.parametrize("case", ITK_CASES)
def test_the_transform_file_places_the_image_rightly_in_itk(case: str, tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    made = image(*ITK_CASES[case])
    nib.save(made, tmp_path / "image.nii.gz")
    matrix = turned(7, 9) @ np.diag([0.25, 0.27, 0.24, 1])  # template -> volume, mm
    cache = NormalisationCache(tmp_path, "p", "")
    cache.write(NormalisationResult(place=Registration(matrix, 0.5)))
    grid = sitk.Image(30, 30, 30, sitk.sitkFloat32)  # of the template, ITK's LPS
    grid.SetSpacing([5.0, 5.0, 5.0])
    grid.SetOrigin([-70.0, -70.0, -70.0])
    moved = sitk.Resample(
        sitk.ReadImage(str(tmp_path / "image.nii.gz"), sitk.sitkFloat32),
        grid, sitk.ReadTransform(str(cache.transform)), sitk.sitkLinear, 0.0,
    )  # fmt: skip
    itk = sitk.GetArrayFromImage(moved).T
    to_ras = np.diag([-5.0, -5.0, 5.0, 1.0])
    to_ras[:3, 3] = [70, 70, -70]
    to_voxels = np.linalg.inv(affine_of_header(made)[0]) @ matrix @ to_ras
    ours = read_at(np.asarray(made.dataobj, dtype=np.float32), to_voxels, itk.shape)
    assert np.count_nonzero(itk) > 1000
    assert np.corrcoef(itk.ravel(), ours.ravel())[0, 1] > 0.999
