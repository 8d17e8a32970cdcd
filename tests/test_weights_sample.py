"""Samples from weights outside of a run: those of the package, and of an exported bundle."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from monai_vqbrain.errors import UsageError, VQBrainError
from monai_vqbrain.runs.folder import DEFAULT_RUN, RunFolder
from monai_vqbrain.runs.geometry import GEOMETRY, read_geometry
from monai_vqbrain.runs.packaged import MODELS, PACKAGED, default_weights, find_models
from monai_vqbrain.stages.exporting.models import write_models
from monai_vqbrain.stages.sample import SampleOptions, draw_samples, sample

MAX_BYTES = 8_000_000  # of all weights in the wheel


@pytest.fixture(scope="session")
def weights(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a bundle of the prior with the networks of the trained run."""
    folder = tmp_path_factory.mktemp("weights")
    write_models(RunFolder(trained_run), "pixelcnn", folder / MODELS)
    write_models(RunFolder(trained_run), "vqvae", folder / MODELS / "vqvae")
    return folder


def images(folder: Path) -> list[np.ndarray]:
    return [np.asarray(nib.load(path).dataobj) for path in sorted(folder.glob("*.nii.gz"))]


def affines(folder: Path) -> np.ndarray:
    return np.stack([nib.load(path).affine for path in sorted(folder.glob("*.nii.gz"))])


@pytest.mark.parametrize("volume", [False, True], ids=["slices", "volumes"])
def test_weights_draw_what_their_run_draws(
    volume: bool, weights: Path, trained_run: Path, tmp_path: Path
) -> None:
    options = {"number": 2, "seed": 3, "volume": volume, "name": f"set{volume:d}"}
    own = draw_samples(trained_run, SampleOptions(**options))
    found = draw_samples(tmp_path / "out", SampleOptions(**options, weights=str(weights)))
    assert len(images(found)) == 2
    for one, other in zip(images(found), images(own), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(affines(found), affines(own), atol=1e-4)
    tables = [pd.read_csv(folder / "samples.tsv", sep="\t") for folder in (found, own)]
    pd.testing.assert_frame_equal(*tables)


def test_weights_inpaint_as_their_run_does(
    weights: Path, trained_run: Path, tmp_path: Path
) -> None:
    slices = nib.load(next((trained_run / "2-slices" / "stacks").glob("*_T1w.nii")))
    image = nib.Nifti1Image(np.asarray(slices.dataobj)[:, :, 1:2], slices.affine)
    mask = np.zeros(image.shape, np.uint8)
    mask[10:20, 10:20] = 1
    files = {"known": str(tmp_path / "slice.nii"), "mask": str(tmp_path / "mask.nii")}
    nib.save(image, files["known"])
    nib.save(nib.Nifti1Image(mask, slices.affine), files["mask"])
    options = {"number": 1, "name": "hole", **files}
    own = draw_samples(trained_run, SampleOptions(**options))
    found = draw_samples(tmp_path / "out", SampleOptions(**options, weights=str(weights)))
    np.testing.assert_array_equal(images(found), images(own))


def test_other_weights_make_a_set_stale(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sample(tmp_path, number=1, weights=weights)
    sample(tmp_path, number=1, weights=weights)
    assert "6-samples/default is up to date" in capsys.readouterr().out
    sample(tmp_path, number=1, weights=PACKAGED[0])
    assert "sampling 6-samples/default (3-vqvae changed)" in capsys.readouterr().out


def test_weights_are_not_mixed_with_the_networks_of_a_run(weights: Path, trained_run: Path) -> None:
    with pytest.raises(UsageError, match="is a run with networks of its own.*another folder"):
        sample(trained_run, weights=weights)


def test_unknown_weights_name_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"weights ds2748: .*give ds002748, or the folder of an"):
        sample(tmp_path, weights="ds2748")


def test_a_condition_that_the_weights_lack_is_refused(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no condition height"):
        sample(tmp_path, weights=weights, condition={"height": "3"})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, r"geometry.json is not there: these weights are not whole"),
        ({"size": [32]}, r"geometry.json is damaged: get these weights again"),
        ({"affine": [[1.0]]}, r"geometry.json is damaged: get these weights again"),
        ({"spacing": "wide"}, r"geometry.json is damaged \(.*spacing"),
    ],
    ids=["missing", "size", "affine", "spacing"],
)
def test_a_damaged_geometry_is_one_line(
    content: dict[str, object] | None, words: str, weights: Path, tmp_path: Path
) -> None:
    folder = tmp_path / MODELS
    folder.mkdir()
    (folder / "model.pt").touch()
    if content is not None:
        whole = json.loads((weights / MODELS / GEOMETRY).read_text())
        (folder / GEOMETRY).write_text(json.dumps(whole | content))
    with pytest.raises(VQBrainError, match=words):
        read_geometry(str(tmp_path))


def test_the_bundle_of_the_prior_has_weights_where_its_default_run_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = find_models("", PACKAGED[0]).prior.parent
    assert default_weights(DEFAULT_RUN, shipped) == PACKAGED[0]
    assert default_weights(DEFAULT_RUN, tmp_path) == str(tmp_path)
    assert default_weights("a-run", shipped) is None
    (tmp_path / DEFAULT_RUN / "5-prior").mkdir(parents=True)
    assert default_weights(DEFAULT_RUN, shipped) is None


@pytest.fixture(scope="session")
def packaged_files() -> list[Path]:
    """All files of the weights in the package."""
    return [path for folder in find_models("", PACKAGED[0]) for path in folder.rglob("*")]


def test_the_packaged_weights_are_small(packaged_files: list[Path]) -> None:
    assert sum(path.stat().st_size for path in packaged_files) <= MAX_BYTES


def test_the_packaged_weights_name_no_participant(packaged_files: list[Path]) -> None:
    names = {path.name for path in packaged_files}
    assert names == {"model.pt", "config.json", "conditions.json", GEOMETRY}
    for path in packaged_files:
        assert b"sub-" not in path.read_bytes()


def test_weights_of_a_run_name_no_participant(weights: Path, trained_run: Path) -> None:
    table = pd.read_csv(trained_run / "2-slices" / "participants.tsv", sep="\t", dtype=str)
    names = [name.encode() for name in table["participant_id"]]
    files = [path for path in weights.rglob("*") if path.is_file()]
    assert len(files) == 7
    for path in files:
        assert not [name for name in names if name in path.read_bytes()]
