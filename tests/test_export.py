"""Networks that leave their run: weights of the package, model cards, bundles, configurations."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from conftest import benchmark_modules
from made_metrics import sample_metrics

from monai_vqbrain.cli import vqbrain
from monai_vqbrain.errors import UsageError, VQBrainError
from monai_vqbrain.networks import BrainVQVAE
from monai_vqbrain.runs.bundles import BUNDLES, bundle_folder
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.networks import load_network
from monai_vqbrain.stages.bundle import export_bundle, verify_bundle
from monai_vqbrain.stages.config import copy_config
from monai_vqbrain.stages.exporting import card as card_module
from monai_vqbrain.stages.exporting.card import TrainingData, model_card, read_evaluation
from monai_vqbrain.stages.sample import SampleOptions, draw_samples

DATA = TrainingData("Simulated brains.", "CC0")


def participants(run: Path) -> list[str]:
    table = pd.read_csv(run / "2-slices" / "participants.tsv", sep="\t", dtype=str)
    return list(table["participant_id"])


def test_the_card_has_the_figures_of_the_evaluation(
    evaluated_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = json.loads((evaluated_run / "7-report" / "metrics.json").read_text())
    metrics |= sample_metrics()  # the run has too few samples for an audit
    monkeypatch.setattr(card_module, "read_evaluation", lambda run: metrics)
    card = model_card(RunFolder(evaluated_run), "networks of a test", DATA, prior=True)
    assert card.startswith("# Model card: networks of a test\n")
    assert "Simulated brains. Licence: CC0." in card
    ssim = metrics["fidelity"]["test"]["ssim_brain"]["mean"]
    assert f"| in-brain SSIM of reconstructions | {ssim:.3f}" in card
    assert f"| bits per code | {metrics['prior']['bits_per_code']:.3f}" in card
    assert f"| AUC of membership inference | {metrics['audit']['membership']['auc']:.2f}" in card
    assert not [name for name in participants(evaluated_run) if name in card]


def test_the_card_of_a_vqvae_has_nothing_on_a_prior(evaluated_run: Path) -> None:
    card = model_card(RunFolder(evaluated_run), "a VQ-VAE", DATA, prior=False)
    assert "evaluated without samples, so that no audit was made" in card
    assert "bits per code |" not in card
    assert "| prior |" not in card


def test_figures_of_other_samples_are_refused(evaluated_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(evaluated_run, run)
    draw_samples(run, SampleOptions(number=2, name="more"))
    with pytest.raises(VQBrainError, match="7-report has the figures of other networks or samples"):
        read_evaluation(RunFolder(run))


def test_a_run_without_figures_is_refused(trained_run: Path) -> None:
    with pytest.raises(UsageError, match="7-report is not in .*first run: vqbrain evaluate"):
        read_evaluation(RunFolder(trained_run))


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """The script that fills the package, on a copy of the bundles in `folder`."""
    ignored = shutil.ignore_patterns("models", "model-card.md")
    for name in BUNDLES:
        shutil.copytree(bundle_folder(name), tmp_path / name, ignore=ignored)
    with benchmark_modules("packaged_weights") as modules:
        script = modules.packaged_weights
        monkeypatch.setattr(script, "bundle_folder", lambda name: tmp_path / name)
        yield SimpleNamespace(script=script, folder=tmp_path)


def test_one_command_fills_the_package(
    packaged: SimpleNamespace, evaluated_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packaged.script.main([str(evaluated_run)])
    assert "bytes in all, of 8,000,000" in capsys.readouterr().out
    folders = [packaged.folder / name for name in BUNDLES]
    assert {path.name for folder in folders for path in (folder / "models").iterdir()} == {
        "model.pt", "config.json", "conditions.json", "geometry.json",
    }  # fmt: skip
    metadata = json.loads((folders[1] / "configs" / "metadata.json").read_text())
    metrics = json.loads((evaluated_run / "7-report" / "metrics.json").read_text())
    assert metadata["eval_metrics"]["bits_per_code"] == pytest.approx(
        metrics["prior"]["bits_per_code"], abs=1e-4
    )
    assert metadata["network_data_format"]["outputs"]["pred"]["num_channels"] == 16
    assert "ds002748" in metadata["data_source"]
    written = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    for path in written:
        assert not [n for n in participants(evaluated_run) if n.encode() in path.read_bytes()]


def test_weights_that_are_too_large_for_the_wheel_are_refused(
    packaged: SimpleNamespace, evaluated_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packaged.script, "MOST", 1000)
    with pytest.raises(VQBrainError, match=r"bytes: the wheel carries 1,000 at most"):
        packaged.script.main([str(evaluated_run)])


@pytest.fixture(scope="module")
def exported(evaluated_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A bundle of each network of the evaluated run."""
    folder = tmp_path_factory.mktemp("exported")
    return {
        name: export_bundle(name, folder / f"{name}.zip", evaluated_run, licence="CC0")
        for name in BUNDLES
    }


@pytest.fixture
def unpacked(exported: dict[str, Path], tmp_path: Path) -> Path:
    """The folder of the exported VQ-VAE."""
    shutil.unpack_archive(exported["vqvae"], tmp_path)
    return tmp_path / "vqbrain_vqvae"


@pytest.mark.parametrize("name", BUNDLES)
def test_an_exported_bundle_passes_the_zoos_checks(
    name: str, exported: dict[str, Path], shared_data: Path
) -> None:
    schema = shared_data.parent / "zoo" / "meta_schema_20240725.json"
    if not schema.is_file():
        pytest.skip(f"the model zoo's metadata schema is not at {schema}")
    found = verify_bundle(exported[name], schema)
    assert "the metadata follow the schema" in found
    assert "inference.json: models/model.pt fits the network" in found


@pytest.mark.parametrize("name", BUNDLES)
def test_a_shipped_bundle_passes_the_zoos_checks(name: str) -> None:
    assert "train.json: models/model.pt fits the network" in verify_bundle(name)


@pytest.mark.parametrize("name", BUNDLES)
def test_the_zip_holds_a_bundle_without_images_and_ids(
    name: str, exported: dict[str, Path], evaluated_run: Path
) -> None:
    with zipfile.ZipFile(exported[name]) as archive:
        files = {entry: archive.read(entry) for entry in archive.namelist()}
    inside = {entry.removeprefix(f"vqbrain_{name}/") for entry in files}
    assert inside >= {
        "LICENSE", "docs/README.md", "docs/model-card.md", "configs/metadata.json",
        "configs/train.json", "configs/inference.json", "models/model.pt", "models/model.ts",
    }  # fmt: skip
    assert not {path for path in inside if Path(path).suffix in (".nii", ".gz", ".png", ".tsv")}
    ids = [participant.encode() for participant in participants(evaluated_run)]
    assert not [entry for entry, content in files.items() for one in ids if one in content]
    metadata = json.loads(files[f"vqbrain_{name}/configs/metadata.json"])
    assert metadata["data_source"].endswith("Licence: CC0")
    assert all(isinstance(value, float) for value in metadata["eval_metrics"].values())


def test_the_torchscript_is_the_network(unpacked: Path) -> None:
    script = torch.jit.load(unpacked / "models" / "model.ts")
    images = torch.rand(2, 1, 32, 32)
    with torch.inference_mode():
        expected = load_network(unpacked / "models")(images)
        torch.testing.assert_close(script(images), expected)


def test_the_same_export_is_the_same_file(
    exported: dict[str, Path], evaluated_run: Path, tmp_path: Path
) -> None:
    again = export_bundle("vqvae", tmp_path / "again.zip", evaluated_run, licence="CC0")
    with zipfile.ZipFile(again) as one, zipfile.ZipFile(exported["vqvae"]) as other:
        names = [name for name in one.namelist() if not name.endswith(".ts")]
        assert {n: one.read(n) for n in names} == {n: other.read(n) for n in names}


def test_samples_come_from_an_exported_prior(exported: dict[str, Path], tmp_path: Path) -> None:
    shutil.unpack_archive(exported["pixelcnn"], tmp_path)
    weights = str(tmp_path / "vqbrain_pixelcnn")
    drawn = draw_samples(tmp_path / "out", SampleOptions(number=1, weights=weights))
    assert (drawn / "sample-0001.png").is_file()


@pytest.mark.parametrize(
    ("name", "out", "words"),
    [
        ("gan", "gan.zip", "bundle gan: there are vqvae and pixelcnn"),
        ("vqvae", "vqvae", "a bundle is exported as a zip file: give a name with .zip"),
        ("vqvae", "there.zip", "there.zip exists: give another name, or delete it first"),
    ],
)
def test_exports_that_cannot_be_are_refused(
    name: str, out: str, words: str, evaluated_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "there.zip").touch()
    with pytest.raises(UsageError, match=words):
        export_bundle(name, tmp_path / out, evaluated_run)


def test_a_prior_that_is_not_trained_is_not_exported(prepared_run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no prior: first run: vqbrain train prior"):
        export_bundle("pixelcnn", tmp_path / "prior.zip", prepared_run)


def test_a_missing_file_is_named(unpacked: Path) -> None:
    (unpacked / "docs" / "README.md").unlink()
    words = "vqbrain_vqvae fails the check that all files are there: docs/README.md is missing"
    with pytest.raises(VQBrainError, match=words):
        verify_bundle(unpacked)


def test_incomplete_metadata_are_named(unpacked: Path) -> None:
    path = unpacked / "configs" / "metadata.json"
    metadata = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in metadata.items() if k != "task"}))
    with pytest.raises(VQBrainError, match="metadata are complete: metadata.json has no task"):
        verify_bundle(unpacked)


def test_weights_of_another_network_are_found(unpacked: Path) -> None:
    torch.save(BrainVQVAE(width=4).state_dict(), unpacked / "models" / "model.pt")
    with pytest.raises(VQBrainError, match="train.json: models/model.pt fits the network: Error"):
        verify_bundle(unpacked)


def test_a_missing_property_is_found(unpacked: Path) -> None:
    path = unpacked / "configs" / "inference.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in config.items() if k != "dataset_dir"}))
    with pytest.raises(VQBrainError, match="no property is missing: .*dataset_dir"):
        verify_bundle(unpacked)


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        (None, UsageError, "there is no such file or folder; give vqvae or pixelcnn, a folder or"),
        (b"text", VQBrainError, "is no zip file, or a damaged one"),
    ],
)
def test_what_is_no_bundle_is_one_line(
    content: bytes | None, error: type[VQBrainError], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "bundle.zip"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error, match=words):
        verify_bundle(path)


def test_a_zip_of_several_folders_is_no_bundle(tmp_path: Path) -> None:
    path = tmp_path / "bundle.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/LICENSE", "")
        archive.writestr("b/LICENSE", "")
    with pytest.raises(VQBrainError, match="must hold one folder, and has 2"):
        verify_bundle(path)


def test_the_commands_on_bundles() -> None:
    listed = CliRunner().invoke(vqbrain, ["bundle", "list"])
    assert [line.split()[0] for line in listed.output.splitlines()] == list(BUNDLES)
    assert "with weights" in listed.output
    missing = CliRunner().invoke(vqbrain, ["bundle", "export", "vqvae", "vqvae.zip"])
    assert missing.exit_code == 2
    assert "Missing option '--run'" in missing.output
    for words in (["bundle", "export"], ["bundle", "verify"], ["config", "copy"]):
        text = CliRunner().invoke(vqbrain, [*words, "--help"]).output
        assert f"Example: vqbrain {' '.join(words)}" in text


def test_a_configuration_is_copied_to_be_edited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    listed = CliRunner().invoke(vqbrain, ["config", "list"]).output.split()
    assert {"vqvae/train", "vqvae/inference", "pixelcnn/large"} <= set(listed)
    copied = copy_config("vqvae/train")
    assert copied == Path("vqvae-train.json")
    assert copied.read_bytes() == (bundle_folder("vqvae") / "configs/train.json").read_bytes()
    with pytest.raises(UsageError, match="vqvae-train.json exists: give another name, or delete"):
        copy_config("vqvae/train")
    with pytest.raises(UsageError, match="configuration vqvae/metadata: there are vqvae/encode"):
        copy_config("vqvae/metadata")
