"""Images through a VQ-VAE and back: their own space, their own units, scores of every slice."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from made_run import finish_again
from nibabel.affines import apply_affine
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity
from torch import nn

from monai_vqbrain import cli
from monai_vqbrain.cohorts.ids import safe_id
from monai_vqbrain.errors import UnusableImageError, UsageError, VQBrainError
from monai_vqbrain.networks import BrainVQVAE
from monai_vqbrain.provenance import describe, write_provenance
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.freshness import training_inputs
from monai_vqbrain.runs.participants import RunParticipants
from monai_vqbrain.stages.images.batch import read_input_image, result_names
from monai_vqbrain.stages.images.input_volume import (
    SliceFrame,
    brain_mask_of,
    own_positions,
    read_input_volume,
)
from monai_vqbrain.stages.images.output import write_reconstruction
from monai_vqbrain.stages.images.reconstruction import (
    Reconstruction,
    reconstruct_image,
)
from monai_vqbrain.stages.reconstruct import reconstruct
from monai_vqbrain.stages.slicing.brain import find_brain
from monai_vqbrain.stages.slicing.normalisation import Normalisation
from monai_vqbrain.stages.slicing.volume import read_volume
from monai_vqbrain.transforms import ExtractSlices
from monai_vqbrain.transforms.brain_extraction import brain_methods, is_installed
from monai_vqbrain.transforms.brain_slices import brain_slices
from monai_vqbrain.transforms.input_image import InputImage

CPU = torch.device("cpu")
SHAPE, MM = (30, 36, 28), 5.0
FRAME = SliceFrame("axial", (64, 72), 2.5)
COS, SIN = np.cos(0.25), np.sin(0.25)  # 14 degrees
WAYS = {
    "RAS": np.diag([MM, MM, MM, 1]),
    "LAS": np.diag([-MM, MM, MM, 1]),
    "PSR": np.array([[0, 0, MM, -60], [-MM, 0, 0, 80], [0, MM, 0, -70], [0, 0, 0, 1.0]]),
    "oblique": np.array(
        [[-MM, 0, 0, 70], [0, MM * COS, -MM * SIN, -80], [0, MM * SIN, MM * COS, -95], [0, 0, 0, 1]]
    ),
    "thick": np.diag([MM, MM, 1.3 * MM, 1]),
}  # fmt: skip


def egg(seed: int = 0) -> np.ndarray:
    """An egg of about a litre with texture, unlike its mirror image, fading to 0 at its rim."""
    offsets = (np.indices(SHAPE).T - np.array(SHAPE) / 2).T * MM
    depth = 1 - sum((o / r) ** 2 for o, r in zip(offsets, (55, 75, 55), strict=True))
    texture = gaussian_filter(np.random.default_rng(seed).random(SHAPE), 2)
    return np.clip(4 * depth, 0, 1) * (0.1 + 0.9 * (texture - texture.min()) / np.ptp(texture))


def volume_file(
    path: Path, way: str = "LAS", change: Callable[[np.ndarray], np.ndarray] | None = None
) -> Path:
    """The egg as a file; 8 bits with a slope of 3.5, unless `change` makes other values of it."""
    values = change(egg()) if change else np.rint(200 * egg()).astype(np.uint8)
    image = nib.Nifti1Image(values, WAYS[way])
    image.header.set_slope_inter(1.0 if change else 3.5, 0)
    image.header["descrip"] = b"acquired"
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


def through(
    original: InputImage, folder: Path, network: nn.Module | None = None
) -> tuple[Reconstruction, nib.Nifti1Image, np.ndarray]:
    """Reconstruct and write; gives the result, the NIfTI made, and the error's values."""
    result = reconstruct_image(original, network or nn.Identity(), CPU)
    folder.mkdir()
    write_reconstruction(result, folder, "x", picture=False)
    made = nib.load(folder / "x_desc-reconstruction_T1w.nii.gz")
    return result, made, nib.load(folder / "x_desc-error_T1w.nii.gz").get_fdata()


@pytest.mark.parametrize(
    ("way", "axis"),
    [*((way, "axial") for way in WAYS), ("oblique", "sagittal"), ("PSR", "coronal")],
)
def test_what_the_network_leaves_alone_comes_back_where_it_was(
    tmp_path: Path, way: str, axis: str
) -> None:
    path = volume_file(tmp_path / "in.nii.gz", way)
    original = read_input_volume(path, SliceFrame(axis, (72, 72), 2.5))
    _, made, error = through(original, tmp_path / "out")
    source = nib.load(path)
    assert made.shape == source.shape
    assert np.array_equal(made.affine, source.affine)
    assert made.header["sform_code"] == source.header["sform_code"]
    assert made.header["qform_code"] == source.header["qform_code"]
    before, after = source.get_fdata(), made.get_fdata()
    brain = before > 0
    assert np.corrcoef(before[brain], after[brain])[0, 1] > 0.99
    assert np.corrcoef(before[::-1][brain], after[brain])[0, 1] < 0.8  # no mirror image
    assert np.abs(np.median(after[brain] / before[brain]) - 1) < 0.02  # the file's units
    _, high = original.limits
    assert np.allclose(error, after / high - np.clip(before / high, 0, 1), atol=3e-4)
    assert np.median(after[~brain]) == 0
    assert b"acquired" not in made.header["descrip"].item()


def test_images_about_their_mean_come_back_in_their_units(tmp_path: Path) -> None:
    def normalised(values: np.ndarray) -> np.ndarray:
        brain = values > 0
        scores = (values - values[brain].mean()) / values[brain].std()
        return np.where(brain, scores, 0).astype(np.float32)

    path = volume_file(tmp_path / "in.nii.gz", change=normalised)
    _, made, _ = through(read_input_volume(path, FRAME), tmp_path / "out")
    before, after = nib.load(path).get_fdata(), made.get_fdata()
    brain = before != 0
    assert before[brain].min() < -1.5
    assert np.median(np.abs(after[brain] - before[brain])) < 0.1
    assert np.median(np.abs(after[~brain])) == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_slices_are_scaled_and_masked_as_prepare_does(tmp_path: Path, dtype: type) -> None:
    def changed(values: np.ndarray) -> np.ndarray:
        shift = 0 if dtype == np.uint8 else 120
        return np.where(values > 0, 200 * values - shift, 0).astype(dtype)

    path = volume_file(tmp_path / "in.nii.gz", "oblique", changed)
    original = read_input_volume(path, FRAME)
    positions = [place["position_mm"] for place in original.places]
    extract = ExtractSlices("axial", FRAME.size, FRAME.spacing, positions=positions)
    volume, brain, _ = find_brain(read_volume(path), None)
    expected = brain_slices(volume.array, volume.affine, brain, extract)
    np.testing.assert_array_equal(original.slices, expected.image[0])
    np.testing.assert_array_equal(original.mask, expected.mask[0])
    fractions = [place["brain_fraction"] for place in original.places]
    np.testing.assert_allclose(fractions, expected.brain_fraction)


@pytest.mark.parametrize(("way", "axis", "own"), [("PSR", "coronal", 0), ("thick", "axial", 2)])
def test_slices_lie_on_the_volumes_own(way: str, axis: str, own: int) -> None:
    brain = egg() > 0
    along = {"coronal": 1, "axial": 2}[axis]
    voxels = np.zeros((SHAPE[own], 3))
    voxels[:, own] = np.arange(SHAPE[own])
    planes = apply_affine(WAYS[way], voxels)[:, along]
    occupied = brain.any(axis=tuple(a for a in range(3) if a != own))
    positions = own_positions(brain, WAYS[way], axis)
    np.testing.assert_allclose(positions, np.sort(planes[occupied]), atol=1e-6)


class Blur(nn.Module):
    """A stand-in for a VQ-VAE that loses detail, and now and then leaves [0, 1]."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return 1.3 * nn.functional.avg_pool2d(images, 5, stride=1, padding=2) - 0.05


def test_every_slice_has_the_scores_of_scikit_image(tmp_path: Path) -> None:
    original = read_input_volume(
        volume_file(tmp_path / "in.nii.gz"), SliceFrame("axial", (104, 104), 2.5)
    )
    result, _, _ = through(original, tmp_path / "out", Blur())
    table = pd.read_csv(tmp_path / "out" / "x_scores.tsv", sep="\t")
    assert list(table) == [
        "index", "position_mm", "position_rel", "brain_fraction",
        "ssim_brain", "ssim_whole", "psnr_brain", "psnr_whole",
    ]  # fmt: skip
    assert list(table["index"]) == list(range(original.slices.shape[2]))
    made = Blur()(torch.from_numpy(original.slices.transpose(2, 0, 1))[:, None]).clamp(0, 1)
    thin = 0
    for row in table.itertuples():
        image, mask = original.slices[..., row.index], original.mask[..., row.index]
        prediction = made[row.index, 0].numpy()
        _, values = structural_similarity(
            prediction, image, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
            data_range=1, full=True,
        )  # fmt: skip
        assert row.ssim_whole == pytest.approx(values.mean(), abs=1e-4)
        if (squared := ((prediction - image) ** 2).mean()) > 0:
            assert row.psnr_whole == pytest.approx(-10 * np.log10(squared), abs=1e-2)
        assert row.brain_fraction == pytest.approx(mask.mean(), abs=1e-5)
        if mask.mean() < 0.05:
            thin += 1
            assert np.isnan(row.ssim_brain)
            assert np.isnan(row.psnr_brain)
            continue
        assert row.ssim_brain == pytest.approx(values[mask].mean(), abs=1e-4)
        squared = ((prediction - image)[mask] ** 2).mean()
        assert row.psnr_brain == pytest.approx(-10 * np.log10(squared), abs=1e-2)
    assert 0 < thin < len(table) / 2
    summary = result.summary((0.4, 0.6))
    counted = table.dropna()
    assert summary["ssim_brain"] == pytest.approx(counted["ssim_brain"].mean(), abs=1e-5)
    assert summary["slices_scored"] == len(counted) == len(table) - thin
    middle = counted[counted["position_rel"].between(0.4, 0.6)]
    assert summary["ssim_brain_trained_on"] == pytest.approx(middle["ssim_brain"].mean(), abs=1e-5)
    assert summary["error_brain"] > 2 * summary["error_brain_resampling"] > 0


def test_what_lies_beside_the_frame_is_told_and_not_reconstructed(tmp_path: Path) -> None:
    path = volume_file(tmp_path / "in.nii.gz", "RAS")
    original = read_input_volume(path, SliceFrame("axial", (64, 40), 2.5))  # 100 mm of 145
    _, made, error = through(original, tmp_path / "out")
    brain = egg() > 0
    y = apply_affine(WAYS["RAS"], np.argwhere(brain))[:, 1]
    beside = np.mean(np.abs(y - (y.min() + y.max()) / 2) > 50)
    assert 0.1 < beside < 0.9
    words = f"{beside:.1%} of the brain lies outside the run's frame and is not reconstructed"
    assert original.notes == (words,)
    edge = SHAPE[1] // 2 - 12
    assert not made.get_fdata()[:, :edge].any()
    assert error[:, :edge].min() < -0.3


def brain_slice() -> np.ndarray:
    """(W, H) uint8 with a bright patch at the right and one at the front."""
    plane = np.rint(200 * egg()[:, :, SHAPE[2] // 2]).astype(np.uint8)
    plane[22:24, 16:20], plane[14:17, 27:29] = 250, 250
    return np.ascontiguousarray(plane)


def upright(plane: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.rot90(plane))  # rows from the front


def colours(plane: np.ndarray) -> Image.Image:
    return Image.fromarray(upright(plane)).convert("RGBA")


FLAT: dict[str, tuple[str, Callable[[np.ndarray], Any]]] = {
    "8 bits": ("x.png", lambda p: Image.fromarray(upright(p))),
    "grey in colour channels": ("x.png", colours),
    "16 bits": ("x.tiff", lambda p: Image.fromarray(upright(p).astype(np.uint16) * 19)),
    "real numbers": ("x.tif", lambda p: Image.fromarray(upright(p).astype(np.float32) / 250)),
    "a sample": ("x.nii.gz", lambda p: nifti(p[..., None], np.diag([2, 2, 3, 1.0]), 1 / 255)),
    "two axes": ("x.nii", lambda p: nifti(p, np.diag([2, 2, 2, 1.0]), 2.0)),
    "LPS": ("x.nii", lambda p: nifti(p[::-1, ::-1, None], np.diag([-2, -2, 2, 1.0]))),
    "transposed": ("x.nii", lambda p: nifti(p.T[None], np.eye(4)[[2, 1, 0, 3]])),
    "z-scores": ("x.nii", lambda p: nifti(np.where(p, p / 50.0 - 2, 0)[..., None], np.eye(4))),
}


def nifti(values: np.ndarray, affine: np.ndarray, slope: float = 1.0) -> nib.Nifti1Image:
    image = nib.Nifti1Image(values, affine)
    image.header.set_slope_inter(slope, 0)
    return image


def flat_file(folder: Path, kind: str) -> Path:
    name, make = FLAT[kind]
    image = make(brain_slice())
    image.save(folder / name) if isinstance(image, Image.Image) else nib.save(image, folder / name)
    return folder / name


@pytest.mark.parametrize("kind", FLAT)
def test_a_slice_keeps_its_pixels_its_place_and_its_units(tmp_path: Path, kind: str) -> None:
    path = flat_file(tmp_path, kind)
    original = read_input_image(path, FRAME)
    result, made, _ = through(original, tmp_path / "out")
    plane = brain_slice()
    high = np.percentile(plane[plane > 0], 99.5)
    by_type = {"8 bits": 255, "grey in colour channels": 255, "a sample": 255, "real numbers": 250}
    wanted = np.clip(plane / by_type.get(kind, high), 0, 1)
    if kind != "z-scores":  # whichever way it is stored, the network sees it on the axes of RAS
        np.testing.assert_allclose(original.slices[..., 0], wanted, atol=1e-6)
    if path.suffix in (".png", ".tiff", ".tif"):
        before = np.rot90(np.asarray(Image.open(path).convert("F")), -1)[..., None]
        assert np.array_equal(made.affine, np.eye(4))
    else:
        before = nib.load(path).get_fdata()
        assert np.array_equal(made.affine, nib.load(path).affine)
    assert made.shape == before.shape
    low, top = original.limits
    inside = before != 0
    expected = np.clip(before[inside], low, top)
    np.testing.assert_allclose(made.get_fdata()[inside], expected, atol=(top - low) / 4000)
    assert not made.get_fdata()[~inside].any()
    assert result.scores["ssim_brain"].tolist() == pytest.approx([1.0])


def test_a_slice_that_is_no_multiple_of_the_factor(tmp_path: Path) -> None:
    path = flat_file(tmp_path, "8 bits")
    assert any(side % 4 for side in brain_slice().shape)
    result = reconstruct_image(read_input_image(path, FRAME), BrainVQVAE(width=4).eval(), CPU)
    assert result.unit.shape == (*brain_slice().shape, 1)


def test_without_a_zero_background_a_slice_has_a_whole_score_only(tmp_path: Path) -> None:
    Image.fromarray(upright(brain_slice()) // 2 + 40).save(tmp_path / "x.png")
    original = read_input_image(tmp_path / "x.png", FRAME)
    result, _, _ = through(original, tmp_path / "out", Blur())
    assert "where the brain is stays unknown: no in-brain score" in original.notes[0]
    summary = result.summary((0, 1))
    assert summary["ssim_brain"] is None
    assert summary["slices_scored"] == 0
    assert 0 < summary["ssim_whole"] < 1


def test_pixels_of_another_size_are_told(tmp_path: Path) -> None:
    nib.save(nifti(brain_slice()[..., None], np.diag([0.9, 0.9, 5, 1])), tmp_path / "x.nii")
    note = "its pixels have 0.9 x 0.9 mm, those trained on 2.5 mm: expect less"
    assert read_input_image(tmp_path / "x.nii", FRAME).notes == (note,)


def bad_file(folder: Path, kind: str) -> Path:
    plane, volume = brain_slice(), np.rint(200 * egg()).astype(np.uint8)
    path = folder / ("x.png" if kind.startswith("picture") else "x.nii")
    pictures = {
        "picture in colour": lambda: Image.fromarray(np.stack([plane, plane, plane // 2], -1)),
        "picture, transparent": lambda: Image.fromarray(np.stack([plane] * 4, -1)),
        "picture, torn": lambda: Image.fromarray(plane),
        "picture, a line": lambda: Image.fromarray(plane[:1]),
        "picture, a pixel": lambda: Image.fromarray(plane[:1, :1]),
    }
    arrays: dict[str, np.ndarray] = {
        "4D": np.stack([volume, volume], -1),
        "NaN": np.where(egg() > 0.5, np.nan, egg()),
        "flat, NaN": np.where(plane > 190, np.nan, plane)[..., None],
        "flat, complex": plane[..., None].astype(np.complex64),
        "flat, negative": -plane[..., None].astype(np.float32),
        "whole head": volume + 7,
        "torn": volume,
    }
    if kind in pictures:
        pictures[kind]().save(path)
    elif kind in arrays:
        nib.save(nifti(arrays[kind], np.diag([MM, MM, MM, 1])), path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "DICOM":
        path.write_bytes(bytes(128) + b"DICM" + bytes(99))
    if "torn" in kind:
        path.write_bytes(path.read_bytes()[:-700])
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "does not exist: check the path"),
        ("folder", "is a folder: name the images in it; DICOM is converted with dcm2niix first"),
        ("DICOM", "is DICOM: convert it with dcm2niix first"),
        ("4D", "holds 2 volumes: give one T1 volume, or their average"),
        ("NaN", "voxels are NaN or infinite: set them to 0"),
        ("torn", "is damaged"),
        ("whole head", "not skull-stripped .*: skull-strip it, or use --brain auto"),
        ("flat, NaN", "pixels are NaN or infinite: set them to 0 or make the image again"),
        ("flat, complex", "voxels of type complex64: give one number per voxel"),
        ("picture in colour", "is in colour: give a greyscale picture"),
        ("picture, transparent", "is transparent in places: give a plain greyscale picture"),
        ("picture, torn", "cannot be opened .*: get the file again"),
        ("picture, a line", "has 36 x 1 pixels: give a picture of a whole slice"),
        ("picture, a pixel", "has 1 x 1 pixels: give a picture of a whole slice"),
    ],
)
def test_what_cannot_be_used_is_said(tmp_path: Path, kind: str, words: str) -> None:
    frame = replace(FRAME, how=Normalisation(brain=("zero",)))
    with pytest.raises(UnusableImageError, match=words):
        read_input_image(bad_file(tmp_path, kind), frame)


def test_several_pages_are_refused(tmp_path: Path) -> None:
    pages = [Image.fromarray(brain_slice())] * 2
    pages[0].save(tmp_path / "x.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(UnusableImageError, match="holds 2 pages: give one picture per file"):
        read_input_image(tmp_path / "x.tif", FRAME)


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("a/x_T1w.nii.gz", "a/x_desc-brain_mask.nii.gz"),
        ("a/brain.nii", "a/brain_desc-brain_mask.nii"),
        (
            "sub-1/anat/sub-1_T1w.nii.gz",
            "derivatives/strip/sub-1/anat/sub-1_desc-brain_mask.nii.gz",
        ),
        ("sub-1/anat/sub-1_T1w.nii.gz", None),
    ],
)
def test_the_mask_is_the_one_that_prepare_would_find(
    tmp_path: Path, image: str, mask: str | None
) -> None:
    path = volume_file(tmp_path / image, change=lambda v: (200 * v + 9).astype(np.float32))
    (tmp_path / "dataset_description.json").write_text("{}")
    if mask is not None:
        volume_file(tmp_path / mask, change=lambda v: (v > 0).astype(np.uint8))
    assert brain_mask_of(path) == (tmp_path / mask if mask else None)
    if mask is not None:
        original = read_input_volume(path, FRAME)
        assert original.mask_path == tmp_path / mask
        np.testing.assert_array_equal(original.brain, egg() > 0)


def test_names_are_distinct_as_long_as_paths_are() -> None:
    paths = [Path(p) for p in ("a/brain.mgz", "b/brain.mgz", "a_brain.nii", "c/s.nii", "c/s.png")]
    assert len(set(result_names(paths).values())) == len(paths)
    assert list(result_names([Path("a/x.nii"), Path("a/../a/x.nii")]).values()) == ["x"]


@pytest.fixture(scope="module", name="run")
def _run(prepared_run: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The prepared run with a VQ-VAE that was never trained."""
    path = tmp_path_factory.mktemp("run") / "run"
    shutil.copytree(prepared_run, path)
    run = RunFolder(path)
    run.vqvae.mkdir()
    torch.manual_seed(0)
    network = BrainVQVAE(width=4, num_codes=8, code_dim=2)
    definition = {"_target_": "BrainVQVAE", **network.settings}
    (run.vqvae / "config.json").write_text(json.dumps({"network_def": definition}))
    torch.save(network.state_dict(), run.vqvae / "model.pt")
    made_from = training_inputs(run.path, "vqvae")
    write_provenance(run.vqvae, made_from, {"seed": 0}, seconds=0.0)
    return run


def scan_of(prepared_run: Path, split: str) -> tuple[str, Path]:
    rows = pd.read_csv(prepared_run / "2-slices" / "slices.tsv", sep="\t")
    row = rows[rows["split"] == split].iloc[0]
    return row["participant_id"], prepared_run.parent / "people" / row["source"]


def call(*words: object, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["vqbrain", *map(str, words)])
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_the_command_leaves_a_folder_an_image(
    run: RunFolder, prepared_run: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    trainee, scan = scan_of(prepared_run, "training")
    other = volume_file(tmp_path / "site" / "sub-x_T1w.nii.gz", "oblique")
    picture = flat_file(tmp_path, "8 bits")
    words = ("reconstruct", run.path, scan, tmp_path / "gone.nii", other, tmp_path, picture)
    assert call(*words, "--device", "cpu", monkeypatch=monkeypatch) == 1
    told = capsys.readouterr()
    made = run.path / "reconstructions"
    errors = [line for line in told.err.splitlines() if line.startswith("Error: ")]
    assert [line.split(": ")[1] for line in errors] == [f"{tmp_path}/gone.nii", str(tmp_path)]
    assert f"3 of 5 images reconstructed: {made}" in told.out
    assert f"{trainee} is a training participant of this run: the result is optimistic" in told.out
    assert told.out.count("optimistic") == 1
    assert "sub-x: in-brain SSIM " in told.out
    for name, files in {"sub-x": 5, "x": 6}.items():
        folder = made / name
        assert len(list(folder.iterdir())) == files
        record = json.loads((folder / "provenance.json").read_text())
        assert set(record["files"]) == {p.name for p in folder.iterdir()} - {"provenance.json"}
        assert record["made_from"]["3-vqvae"] == describe({"m": run.vqvae / "model.pt"})["m"]
        assert record["options"] == {
            "axis": "axial",
            "size": [32, 32],
            "spacing": 6.0,
            "how": {
                "align": "none",
                "bias": False,
                "affine": "auto",
                "brain": list(brain_methods("auto", deepbet=is_installed())),
            },
            "space": "",
        }
        assert record["split"] is None
        assert record["notes"] == []
        with Image.open(folder / f"{name}.png") as panel:
            assert min(panel.size) > 200
    record = json.loads(
        (made / scan.name.removesuffix("_T1w.nii.gz") / "provenance.json").read_text()
    )
    assert record["split"] == "training"
    assert record["scores"]["slices"] > record["scores"]["slices_scored"] > 4
    with Image.open(made / "x" / "x_desc-reconstruction_T1w.png") as back:
        assert back.size == brain_slice().shape


def test_a_result_is_replaced_as_a_whole_and_nothing_else_is(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, output = flat_file(tmp_path, "8 bits"), tmp_path / "out"
    reconstruct(run.path, [image], output=output, device="cpu")
    first = (output / "x" / "x_scores.tsv").read_bytes()
    (output / "x" / "left over.txt").write_text("old")
    reconstruct(run.path, [image], output=output, device="cpu")
    assert not (output / "x" / "left over.txt").exists()
    assert (output / "x" / "x_scores.tsv").read_bytes() == first
    twin = tmp_path / "elsewhere" / "x.png"
    twin.parent.mkdir()
    shutil.copy(image, twin)
    words = f"x holds the reconstruction of {image}: delete it, or give another --output"
    with pytest.raises(VQBrainError, match=words):
        reconstruct(run.path, [twin], output=output, device="cpu")
    (output / "y").mkdir()
    (output / "y" / "work.txt").write_text("of years")
    image.rename(tmp_path / "y.png")
    with pytest.raises(VQBrainError, match="y exists and holds no reconstruction: give another "):
        reconstruct(run.path, [tmp_path / "y.png"], output=output, device="cpu")
    assert (output / "y" / "work.txt").is_file()
    assert "0 of 1 images reconstructed" in capsys.readouterr().out


def test_one_that_the_system_does_not_give_does_not_end_the_others(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    secret, image = tmp_path / "secret.png", flat_file(tmp_path, "8 bits")
    shutil.copy(image, secret)

    def read(path: Path, frame: SliceFrame) -> InputImage:
        if path == secret:
            raise PermissionError(13, "Permission denied", str(path))
        return read_input_image(path, frame)

    monkeypatch.setattr("monai_vqbrain.stages.reconstruct.read_input_image", read)
    words = r"secret.png: .*Permission denied: .*secret.png': fix this, or leave this image out"
    with pytest.raises(VQBrainError, match=words):
        reconstruct(run.path, [secret, image], output=tmp_path / "out", device="cpu")
    assert "1 of 2 images reconstructed" in capsys.readouterr().out
    assert (tmp_path / "out" / "x" / "x.png").is_file()


def test_results_beside_each_other_and_the_users_own_folders_stay(
    run: RunFolder, tmp_path: Path
) -> None:
    output, image = tmp_path / "out", flat_file(tmp_path, "8 bits")
    images = [image, *(tmp_path / f"x.{ending}.png" for ending in ("old", "partial"))]
    for twin in images[1:]:
        shutil.copy(image, twin)
    for own in ("y.old", "y.partial"):
        (output / own).mkdir(parents=True)
        (output / own / "work.txt").write_text("of years")
    shutil.copy(image, tmp_path / "y.png")
    for _ in range(2):
        reconstruct(run.path, [*images, tmp_path / "y.png"], output=output, device="cpu")
    assert all((output / path.stem / f"{path.stem}.png").is_file() for path in images)
    assert all((output / own / "work.txt").is_file() for own in ("y.old", "y.partial"))


def test_two_images_of_one_name_both_stay(run: RunFolder, tmp_path: Path) -> None:
    for site in "ab":
        (tmp_path / site).mkdir()
        flat_file(tmp_path / site, "8 bits")
    reconstruct(
        run.path,
        [tmp_path / "a/x.png", tmp_path / "b/x.png"],
        output=tmp_path / "out",
        device="cpu",
    )
    names = sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir())
    assert names == ["a_x", "b_x"]


def test_participants_are_known_by_their_file_or_their_name(
    run: RunFolder, prepared_run: Path, tmp_path: Path
) -> None:
    who, scan = scan_of(prepared_run, "validation")
    people = RunParticipants(run)
    found = describe({"scan": scan})["scan"]["sha256"]
    assert people.find(tmp_path / "renamed.nii", found) == who
    assert people.find(Path(f"{who}_slice-3.png"), "") == who
    assert people.find(Path(f"{who}/mri/brain.mgz"), "") == who
    assert people.find(Path(f"{who}1_T1w.nii.gz"), "") is None
    people.splits[safe_id("anna#1")] = "test"
    assert people.find(Path("anna#1/mri/brain.mgz"), "") == safe_id("anna#1")
    assert people.splits[who] == "validation"


def test_a_run_that_is_not_ready_is_refused(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="2-slices is not in .* first run: vqbrain prepare SOURCE"):
        reconstruct(tmp_path, [tmp_path / "x.nii"])
    shutil.copytree(run.path, tmp_path / "run", ignore=shutil.ignore_patterns("reconstructions"))
    table = tmp_path / "run" / "2-slices" / "slices.tsv"
    table.write_text(table.read_text().replace("test", "training"))
    finish_again(table.parent)
    with pytest.raises(VQBrainError, match="3-vqvae was trained on other slices"):
        reconstruct(tmp_path / "run", [tmp_path / "x.nii"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="device cuda: PyTorch finds no CUDA device here; use"):
        reconstruct(run.path, [tmp_path / "x.nii"], device="cuda")


@pytest.mark.parametrize(
    "scan", ["ds002748/sub-04/anat/sub-04_T1w.nii.gz", "ixi-hh/IXI013-HH-1212_T1w.nii.gz"]
)
def test_real_brains_come_back_where_they_were(shared_data: Path, scan: str) -> None:
    original = read_input_volume(shared_data / scan, SliceFrame("axial", (192, 216), 0.9))
    back = original.back(original.slices)
    assert np.corrcoef(original.unit[original.brain], back[original.brain])[0, 1] > 0.99
    assert original.notes == ()
