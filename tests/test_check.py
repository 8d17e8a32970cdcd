"""What prepare would do, said beforehand."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from monai_vqbrain.cohorts import make_phantom
from monai_vqbrain.errors import UsageError
from monai_vqbrain.stages.check import check
from monai_vqbrain.stages.prepare import prepare_slices
from monai_vqbrain.stages.slicing.options import PrepareOptions
from monai_vqbrain.stages.slicing.plan_text import plan_lines


@pytest.fixture(name="source")
def _source(tmp_path: Path) -> Path:
    """Six participants, one of them with a 4D image, one without any."""
    rows = ["participant_id\tgroup\tage"]
    for n in range(6):
        folder = tmp_path / "bids" / f"sub-{n}" / "anat"
        folder.mkdir(parents=True)
        values = np.zeros((20, 20, 20, 3 if n == 5 else 1), dtype=np.uint8)
        values[5:15, 5:15, 5:15] = np.random.default_rng(n).integers(90, 110, (10, 10, 10, 1))
        nib.save(nib.Nifti1Image(values, np.diag([8, 8, 8, 1])), folder / f"sub-{n}_T1w.nii.gz")
        rows.append(f"sub-{n}\t{'AD' if n % 2 else 'CN'}\t{70 + n}")
    (tmp_path / "bids" / "participants.tsv").write_text("\n".join([*rows, "sub-9\tCN\t60"]))
    return tmp_path / "bids"


def said(source: Path, capsys: pytest.CaptureFixture[str], **options: object) -> str:
    return "\n".join(plan_lines(check(source, **options)))  # type: ignore[arg-type]


def test_the_plan_is_printed(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = said(source, capsys)
    for words in (
        "(layout bids)",
        "participants 6, volumes 6",
        "column group; known for 6 of 6 volumes",
        "no column: select one with --column sex=NAME; known for 0",
        "5 of 20 x 20 x 20 voxels of 8 x 8 x 8 mm",
        "0 with a mask file, 6 by their zero background",
        "axial, 128 x 128 at 1.8 mm, 16 per volume, 3.6 mm apart, the first 36 mm below",
        "problem     sub-9: has no T1w image",
        "problem     sub-5/anat/sub-5_T1w.nii.gz: holds 3 volumes",
    ):
        assert words in out


@pytest.fixture
def no_deepbet(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("plan", "brain"):
        monkeypatch.setattr(f"monai_vqbrain.stages.slicing.{module}.is_installed", lambda: False)


def test_whole_heads_are_seen_and_how_their_brains_are_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], no_deepbet: None
) -> None:
    make_phantom(tmp_path / "heads", participants=1, resolution_mm=6, skull=True)
    out = said(tmp_path / "heads", capsys, align="none", brain="zero")
    assert "brain       all by their zero background" in out
    assert "not skull-stripped" in out
    assert "skull-strip it, or use --brain auto" in out
    out = said(tmp_path / "heads", capsys)
    assert "align       affine: 1 of 1 inspected volumes are whole heads" in out
    assert "0 with a mask file, 1 by the template's brain" in out
    assert "cuts off 13 to 16 % of the brain (outer cortex)" in out
    assert "pip install 'monai-vqbrain[strip]'" in out
    assert "the first 36 mm below the top of the template's brain" in out
    assert "problems    none" in out


def test_with_deepbet_it_extracts_the_brains_of_heads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monai_vqbrain.stages.slicing.plan.is_installed", lambda: True)
    make_phantom(tmp_path / "heads", participants=1, resolution_mm=6, skull=True)
    out = said(tmp_path / "heads", capsys)
    assert "0 with a mask file, 1 extracted by deepbet" in out
    assert "cuts off" not in out


def test_heads_in_mni_space_are_left_where_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monai_vqbrain.stages.slicing.plan.is_installed", lambda: True)
    heads = make_phantom(tmp_path / "p", 1, resolution_mm=6, skull=True, second_sessions=0)
    name = "sub-A_ses-M000_space-MNI152NLin2009cSym_desc-Crop_res-1x1x1_T1w.nii.gz"
    path = tmp_path / "caps" / "subjects" / "sub-A" / "ses-M000" / "t1_linear" / name
    path.parent.mkdir(parents=True)
    next(heads.glob("sub-phantom01/ses-01/anat/*_T1w.nii.gz")).rename(path)
    out = said(tmp_path / "caps", capsys)
    assert "align       none: all are in the space MNI152NLin2009cSym" in out
    assert "1 by their zero background, otherwise extracted by deepbet" in out


def test_what_auto_means_is_decided_by_volumes_that_hold_a_brain(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    heads = make_phantom(tmp_path / "heads", participants=8, resolution_mm=8, skull=True)
    for path in sorted(heads.glob("sub-*/ses-01/anat/*_T1w.nii.gz"))[:4]:
        path.write_bytes(b"nothing")
    out = said(heads, capsys)
    assert "align       affine: 5 of 5 inspected volumes are whole heads" in out
    assert out.count("problem     ") == 4


def test_the_splits_are_those_that_prepare_makes(
    source: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (source / "sub-5" / "anat" / "sub-5_T1w.nii.gz").unlink()
    lines = said(source, capsys).splitlines()
    all_counts = next(line.split()[3:] for line in lines if line.split()[:1] == ["all"])
    folder = prepare_slices(
        source, tmp_path / "run", PrepareOptions(size=(16, 16), spacing=8.0, count=2)
    )
    table = (folder / "participants.tsv").read_text()
    assert [table.count(f"\t{s}\t") for s in ("training", "validation", "test")] == [
        int(n) for n in all_counts
    ]


def test_other_options_are_said_too(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "coronal, 64 x 80 at 2 mm, 5 per volume, evenly spaced" in said(
        source, capsys, axis="coronal", size=(64, 80), spacing=2.0, count=5
    )
    assert "at -20:20:4 mm of the images' own space" in said(source, capsys, positions="-20:20:4")


def test_nothing_is_written(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(source.parent.rglob("*"))
    said(source, capsys)
    assert sorted(source.parent.rglob("*")) == before


def test_a_source_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        check(tmp_path / "nowhere")
