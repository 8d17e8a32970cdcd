"""Networks that leave their run: weights of the package, model cards, bundles."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from conftest import benchmark_modules
from made_metrics import sample_metrics

from monai_vqbrain.errors import UsageError, VQBrainError
from monai_vqbrain.runs.bundles import BUNDLES, bundle_folder
from monai_vqbrain.runs.folder import RunFolder
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
