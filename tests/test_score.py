"""Images under a prior: maps of bits in the images' own space."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from monai_vqbrain.errors import UsageError, VQBrainError
from monai_vqbrain.inferers import code_bits
from monai_vqbrain.networks.conditions import condition_row
from monai_vqbrain.runs.codes import code_items
from monai_vqbrain.runs.networks import load_network
from monai_vqbrain.runs.views import PLAIN_VIEW
from monai_vqbrain.stages.reconstruct import reconstruct
from monai_vqbrain.stages.score import score


def a_stack(run: Path) -> Path:
    """A test participant's slices as a volume."""
    table = pd.read_csv(run / "2-slices/slices.tsv", sep="\t")
    return run / "2-slices" / str(table["stack"][table["split"] == "test"].iloc[0])


def test_a_volumes_map_lies_on_its_voxels(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = a_stack(trained_run)
    score(trained_run, [image], output=tmp_path, condition={"sex": "F"})
    folder = next(path for path in tmp_path.iterdir() if path.is_dir())
    bits = nib.load(folder / f"{folder.name}_desc-bits_T1w.nii.gz")
    original = nib.load(image)
    assert bits.shape == original.shape
    np.testing.assert_allclose(bits.affine, original.affine)
    mask = nib.load(str(image).replace("_T1w", "_desc-brain_mask"))  # lies beside it
    values, inside = bits.get_fdata(), mask.get_fdata() > 0
    assert (values[~inside] == 0).all()
    assert 1 < values[inside].mean() < 8  # 16 codes: 4 bits, where nothing is known
    table = pd.read_csv(folder / f"{folder.name}_bits.tsv", sep="\t")
    assert len(table) == original.shape[2]
    record = json.loads((folder / "provenance.json").read_text())
    counted = table.loc[table["counts"], "bits_per_code"].mean()
    assert record["bits_per_code"] == pytest.approx(counted, abs=1e-4)
    assert record["condition"] == {"sex": "F"}
    assert 1 < record["usual"]["mean"] < 8
    out = capsys.readouterr().out
    assert f"{record['bits_per_code']:.2f} bits per code over" in out
    assert "1 of 1 images scored" in out


def test_a_slices_bits_are_those_of_its_codes(trained_run: Path, tmp_path: Path) -> None:
    stack = nib.load(a_stack(trained_run))
    pixels = np.asanyarray(stack.dataobj.get_unscaled())[..., 1]
    Image.fromarray(np.rot90(pixels)).save(tmp_path / "slice.png")
    score(trained_run, [tmp_path / "slice.png"], output=tmp_path / "out")
    table = pd.read_csv(tmp_path / "out/slice/slice_bits.tsv", sep="\t")
    vqvae, prior = (load_network(trained_run / name) for name in ("3-vqvae", "5-prior"))
    with torch.inference_mode():
        codes = vqvae.index_quantize(torch.from_numpy(pixels.copy())[None, None] / 255)
    row = condition_row(prior.settings["conditions"], PLAIN_VIEW)  # nothing else is known
    expected = float(code_bits(prior, codes, row[None]).mean())
    assert table["bits_per_code"].item() == pytest.approx(expected, abs=1e-3)
    known = [item["codes"] for item in code_items(trained_run, "test")]
    assert any(torch.equal(codes[0], grid) for grid in known)


def test_an_unlikely_place_shows(trained_run: Path, tmp_path: Path) -> None:
    image = nib.load(a_stack(trained_run))
    values = np.asanyarray(image.dataobj.get_unscaled()).copy()
    middle = values[12:20, 12:20]
    middle[...] = np.where(middle > 0, 255 - middle // 2, 0)  # inside out
    changed = nib.Nifti1Image(values, image.affine, image.header)
    nib.save(changed, tmp_path / "changed.nii.gz")
    score(trained_run, [a_stack(trained_run), tmp_path / "changed.nii.gz"], output=tmp_path / "out")
    maps = {f.parent.name: nib.load(f).get_fdata() for f in tmp_path.glob("out/*/*bits_T1w*")}
    (plain,) = (m for name, m in maps.items() if name != "changed")
    assert maps["changed"][12:20, 12:20].mean() > plain[12:20, 12:20].mean()


def test_an_image_of_another_size_is_named(trained_run: Path, tmp_path: Path) -> None:
    Image.fromarray(np.eye(20, dtype=np.uint8)).save(tmp_path / "small.png")
    words = (
        "small.png: has slices of 20x20 pixels, and the prior was trained on 32x32: give a volume"
    )
    with pytest.raises(VQBrainError, match=words):
        score(trained_run, [tmp_path / "small.png"])


def test_a_reconstruction_is_not_replaced_by_scores(trained_run: Path, tmp_path: Path) -> None:
    image = a_stack(trained_run)
    reconstruct(trained_run, [image], output=tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(VQBrainError, match="exists and holds no scores: give another --output"):
        score(trained_run, [image], output=tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_unknown_condition_is_named(trained_run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--condition diagnosis=ill: this prior knows AD, CN"):
        score(trained_run, [tmp_path], condition={"diagnosis": "ill"})
