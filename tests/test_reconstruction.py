"""The bundle of the VQ-VAE reconstructs volumes: of a folder, or a simulated one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from monai_vqbrain.cohorts import make_phantom
from monai_vqbrain.errors import UsageError
from monai_vqbrain.runs import reconstruction
from monai_vqbrain.runs.bundles import run_bundle
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.reconstruction import volume_items
from monai_vqbrain.stages.exporting.models import write_models


def test_a_volume_is_reconstructed_in_its_own_space(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make_phantom(tmp_path / "source", 1, resolution_mm=4, second_sessions=0)
    write_models(RunFolder(trained_run), "vqvae", tmp_path / "models")
    out = tmp_path / "out"
    ids = {"models_dir": tmp_path / "models", "dataset_dir": source, "output_dir": out}
    run_bundle("vqvae", "inference", {name: str(path) for name, path in ids.items()})
    assert f"results: {out}" in capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == {
        "sub-phantom01_ses-01_desc-reconstruction_T1w.nii.gz", "scores.tsv", "panel.png",
    }  # fmt: skip
    image = nib.load(next(source.rglob("*_T1w.nii.gz")))
    found = nib.load(next(out.glob("*.nii.gz")))
    assert found.shape == image.shape
    np.testing.assert_allclose(found.affine, image.affine)
    values = np.asarray(found.dataobj)
    assert 0 <= values.min() < values.max() <= 1
    scores = pd.read_csv(out / "scores.tsv", sep="\t")
    assert set(scores["participant_id"]) == {"sub-phantom01"}
    assert scores["index"].tolist() == sorted(scores["index"])


def test_without_data_there_is_one_simulated_volume(tmp_path: Path) -> None:
    items = volume_items(None, tmp_path)
    assert [item["name"] for item in items] == ["sub-phantom01_ses-01"]
    assert Path(items[0]["image"]).is_relative_to(tmp_path / "simulated")
    assert Path(items[0]["image"]).is_file()


def test_a_folder_without_volumes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="is not a source of T1 volumes"):
        volume_items(tmp_path, tmp_path / "out")
    monkeypatch.setattr(reconstruction, "read_cohort", lambda *_: SimpleNamespace(scans=()))
    with pytest.raises(UsageError, match="dataset_dir .*: it has no volumes"):
        volume_items(tmp_path, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("vqvae", "vqbrain-reconstruction/sub-phantom01_ses-01_desc-reconstruction_T1w.nii.gz"),
        ("pixelcnn", "vqbrain-run/6-samples/default/overview.png"),
    ],
)
def test_a_bundle_infers_out_of_the_box_as_typed(name: str, result: str, tmp_path: Path) -> None:
    config = str(ROOT / "bundles" / name / "configs" / "inference.json")
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", config]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / result).is_file()
