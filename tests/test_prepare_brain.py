"""How `prepare` finds the brains of whole heads: deepbet, and what `auto` becomes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from monai_vqbrain.cohorts import make_phantom
from monai_vqbrain.errors import UnusableImageError, UsageError
from monai_vqbrain.provenance import read_provenance
from monai_vqbrain.stages.prepare import prepare
from monai_vqbrain.stages.slicing import normalisation as module
from monai_vqbrain.stages.slicing.normalisation import Normalisation, normalise
from monai_vqbrain.transforms.brain_extraction import (
    _network,
    brain_methods,
    extract_brain,
    is_installed,
)
from monai_vqbrain.transforms.mask import solid
from monai_vqbrain.transforms.registration import Registration

SMALL = {"size": (48, 48), "spacing": 4.0, "count": 4}
HEAD = Normalisation(brain=("given", "zero", "deepbet"))
needs_deepbet = pytest.mark.skipif(not is_installed(), reason="deepbet is not installed")


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One simulated participant as a whole head, and without the skull."""
    folder = tmp_path_factory.mktemp("simulated")
    made = [
        make_phantom(
            folder / name, 1, seed=3, resolution_mm=4, second_sessions=0, skull=name == "head"
        )
        for name in ("head", "brain")
    ]
    return made[0], made[1]


def image_of(cohort: Path) -> Path:
    return next(cohort.glob("sub-*/ses-01/anat/*_T1w.nii.gz"))


@pytest.fixture
def extracted(monkeypatch: pytest.MonkeyPatch, cohorts: tuple[Path, Path]) -> list[int]:
    """One entry per extraction, which gives the true brain in no time, as if deepbet were here."""
    calls: list[int] = []
    truth = solid(np.asarray(nib.load(image_of(cohorts[1])).dataobj) > 0)

    def extract(array: np.ndarray, affine: np.ndarray) -> np.ndarray:
        calls.append(array.size)
        return truth

    monkeypatch.setattr(module, "extract_brain", extract)
    monkeypatch.setattr(module, "require_deepbet", lambda what: None)
    installed(monkeypatch, True)
    return calls


def installed(monkeypatch: pytest.MonkeyPatch, here: bool) -> None:
    for name in ("plan", "brain"):
        monkeypatch.setattr(f"monai_vqbrain.stages.slicing.{name}.is_installed", lambda: here)


def sources(run: Path) -> set[str]:
    return set(pd.read_csv(run / "2-slices/slices.tsv", sep="\t")["mask_source"])


@needs_deepbet
def test_a_real_head_against_its_reference_mask(shared_data: Path) -> None:
    """The one of ten with the lowest Dice, 79 years old."""
    image, reference = (
        nib.load(shared_data / f"ixi-heads/IXI608-HH-2599_{kind}.nii.gz")
        for kind in ("T1w", "desc-brain_mask")
    )
    found = extract_brain(np.asarray(image.dataobj), image.affine)
    assert dice(found, np.asarray(reference.dataobj) > 0) > 0.97


@needs_deepbet
def test_a_simulated_head_in_any_orientation(cohorts: tuple[Path, Path]) -> None:
    """The same bits again, and the same brain where the voxels are stored in another order."""
    head, bare = (nib.as_closest_canonical(nib.load(image_of(cohort))) for cohort in cohorts)
    found = extract_brain(np.asarray(head.dataobj), head.affine)
    assert dice(found, solid(np.asarray(bare.dataobj) > 0)) > 0.96
    turned = head.as_reoriented(np.array([[2, -1], [0, 1], [1, -1]]))
    again = extract_brain(np.asarray(turned.dataobj), turned.affine)
    back = nib.as_closest_canonical(nib.Nifti1Image(again.astype(np.uint8), turned.affine))
    assert np.array_equal(np.asarray(back.dataobj) > 0, found)


@needs_deepbet
def test_an_image_without_a_brain_is_refused() -> None:
    with pytest.raises(ValueError, match="deepbet finds no brain"):
        extract_brain(np.zeros((40, 40, 40), dtype=np.int16), np.eye(4))


def test_a_brain_of_the_wrong_volume_is_refused(
    cohorts: tuple[Path, Path], extracted: list[int], tmp_path: Path
) -> None:
    head = nib.load(image_of(cohorts[0]))
    small = nib.Nifti1Image(np.asarray(head.dataobj), np.diag([0.4, 0.4, 0.4, 1]) @ head.affine)
    nib.save(small, tmp_path / "small.nii.gz")
    with pytest.raises(UnusableImageError, match=r"the brain that deepbet finds has 1\d\d ml"):
        normalise(tmp_path / "small.nii.gz", HEAD)


def test_a_whole_head_needs_no_alignment_and_its_brain_is_found_once(
    cohorts: tuple[Path, Path], tmp_path: Path, extracted: list[int]
) -> None:
    run = tmp_path / "run"
    prepare(cohorts[0], run, align="none", **SMALL)
    assert sources(run) == {"deepbet"}
    (mask,) = (run / "1-volumes").glob("*_desc-brain_mask.nii.gz")
    assert np.allclose(nib.load(mask).affine, nib.load(image_of(cohorts[0])).affine)
    prepare(cohorts[0], run, align="none", axis="coronal", **SMALL)
    assert len(extracted) == 1
    qc = pd.read_csv(run / "2-slices/qc/qc.tsv", sep="\t")
    prepare(cohorts[1], tmp_path / "bare", align="none", **SMALL)
    bare = pd.read_csv(tmp_path / "bare/2-slices/qc/qc.tsv", sep="\t")
    assert sources(tmp_path / "bare") == {"zero-background"}
    assert qc["brain_ml"][0] == pytest.approx(bare["brain_ml"][0], rel=0.02)


@pytest.mark.parametrize("align", ["rigid", "affine"])
def test_the_registration_of_a_head_compares_brains(
    cohorts: tuple[Path, Path], extracted: list[int], monkeypatch: pytest.MonkeyPatch, align: str
) -> None:
    pytest.importorskip("SimpleITK")
    compared: list[tuple[np.ndarray, str]] = []

    def recorded(array: np.ndarray, affine: np.ndarray, brain: Any, kind: str) -> Any:
        compared.append((brain, kind))
        raise ValueError("enough")

    monkeypatch.setattr(module, "register", recorded)
    with pytest.raises(UnusableImageError, match="enough"):
        normalise(image_of(cohorts[0]), Normalisation(align, brain=HEAD.brain))
    ((brain, kind),) = compared
    assert kind == align
    assert brain.any()
    assert not brain.all()


def test_auto_takes_a_mask_then_a_zero_background_then_deepbet(
    cohorts: tuple[Path, Path], extracted: list[int], tmp_path: Path
) -> None:
    head, bare = (image_of(cohort) for cohort in cohorts)
    image = nib.load(bare)
    inside = solid(np.asarray(image.dataobj) > 0).astype(np.uint8)
    nib.save(nib.Nifti1Image(inside, image.affine), tmp_path / "mask.nii.gz")
    assert normalise(head, HEAD, tmp_path / "mask.nii.gz").mask_source == "derivative"
    assert normalise(bare, HEAD).mask_source == "zero-background"
    assert extracted == []
    assert normalise(head, HEAD).mask_source == "deepbet"
    alone = Normalisation(brain=("deepbet",))  # asked for: the mask is skipped
    assert normalise(head, alone, tmp_path / "mask.nii.gz").mask_source == "deepbet"


def test_the_way_of_auto_is_kept_until_deepbet_can_do_better(
    cohorts: tuple[Path, Path],
    tmp_path: Path,
    extracted: list[int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(module, "register", lambda *_: Registration(np.eye(4), 0.5))
    head, bare = tmp_path / "run", tmp_path / "bare"
    installed(monkeypatch, False)
    prepare(cohorts[0], head, align="none", **SMALL)
    prepare(cohorts[1], bare, align="none", **SMALL)
    assert sources(head) == {"template"}
    said = capsys.readouterr()
    assert "whole heads have the template's brain mask, which cuts off" in said.err + said.out
    problems = pd.read_csv(head / "2-slices/problems.tsv", sep="\t").iloc[-1]
    assert problems["path"] == "1 whole heads"
    assert problems["advice"] == "pip install 'monai-vqbrain[strip]' and repeat the command"
    installed(monkeypatch, True)
    prepare(cohorts[1], bare, align="none", **SMALL)
    assert "is up to date" in capsys.readouterr().out
    prepare(cohorts[0], head, align="none", **SMALL)
    assert sources(head) == {"deepbet"}
    installed(monkeypatch, False)
    capsys.readouterr()
    prepare(cohorts[0], head, align="none", **SMALL)
    assert "is up to date" in capsys.readouterr().out
    options = (read_provenance(head / "2-slices") or {})["options"]
    assert (options["brain"], options["brain_asked"]) == (["given", "zero", "deepbet"], "auto")


def test_the_ways_in_their_order() -> None:
    assert brain_methods("auto", deepbet=False) == ("given", "zero", "template")
    assert brain_methods("template", deepbet=True) == ("template",)


def test_without_deepbet_it_says_what_to_install(
    cohorts: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(monkeypatch, False)
    words = r"brain extraction needs deepbet: pip install 'monai-vqbrain\[strip\]'"
    with pytest.raises(UsageError, match=f"--brain deepbet: {words}"):
        prepare(cohorts[0], tmp_path / "run", brain="deepbet")
    with pytest.raises(UsageError, match=f"this run finds the brains .*: {words}"):
        normalise(image_of(cohorts[0]), HEAD)
    monkeypatch.setitem(sys.modules, "deepbet", None)
    _network.cache_clear()
    with pytest.raises(ImportError, match=words):
        extract_brain(np.ones((8, 8, 8)), np.eye(4))
