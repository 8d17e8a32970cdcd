"""The recipe in the VQ-VAE's bundle: what can be switched on, and configurations laid over it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from conftest import ROOT, tiny_prior, tiny_vqvae
from monai.bundle import ConfigWorkflow
from monai.networks.blocks import Convolution
from test_path import kill_in_epoch

from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.options import json_or_text
from monai_vqbrain.runs.bundles import bundle_folder
from monai_vqbrain.runs.overrides import check_overrides
from monai_vqbrain.stages.encode import encode
from monai_vqbrain.stages.train import train

TINY = check_overrides("vqvae", "train", tiny_vqvae().overrides)
FEATURES = {"spatial_dims": 2, "in_channels": 3, "out_channels": 4}


@pytest.fixture
def run(prepared_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared_run, tmp_path / "run"))


def workflow(run: Path, overlay: str, **ids: Any) -> ConfigWorkflow:
    """The training bundle with a configuration laid over it, initialised."""
    configs = bundle_folder("vqvae") / "configs"
    made = ConfigWorkflow(
        config_file=[str(configs / "train.json"), str(configs / f"{overlay}.json")],
        workflow_type="train",
        run_id="training",
        **{"run_dir": str(run), "device": "cpu", **TINY, **ids},
    )
    made.initialize()
    return made


def table(run: Path) -> pd.DataFrame:
    return pd.read_csv(run / "3-vqvae/metrics.tsv", sep="\t")


def weights(run: Path, file: str = "checkpoint.pt") -> dict[str, Any]:
    saved: dict[str, Any] = torch.load(run / "3-vqvae" / file, weights_only=True)
    return saved


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_a_vqgan_is_a_configuration_laid_over_training(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = workflow(run, "vqgan", max_epochs=3)
    assert whole.check_properties() == []
    whole.run()
    losses = table(run).filter(like="loss_")
    assert losses["loss_adversarial"].tolist()[0] == 0  # it begins in the second epoch
    assert losses["loss_discriminator"].notna().tolist() == [False, True, True]
    unbroken = weights(run)
    shutil.rmtree(run / "3-vqvae")

    kill_in_epoch(3, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        workflow(run, "vqgan", max_epochs=3).run()
    monkeypatch.undo()
    workflow(run, "vqgan", max_epochs=3, resume=True).run()
    for name in ("network", "discriminator"):
        assert equal(weights(run)[name], unbroken[name])
    encode(run)
    assert (run / "4-codes/codes.safetensors").is_file()


def test_features_are_compared_with_weights_from_a_local_file(run: Path) -> None:
    ids = {
        "feature_network_def": {"_target_": "monai.networks.blocks.Convolution", **FEATURES},
        "loss#terms#features#layers": ["conv"],
    }
    with pytest.raises(Exception, match="ailed") as raised:
        workflow(run, "perceptual", max_epochs=1, **ids).run()
    causes = [raised.value]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    assert "weights must be a local file, and resnet50.pth is not there" in str(causes[-1])

    network = Convolution(**FEATURES)
    torch.save(network.state_dict(), run / "features.pt")
    ids["feature_weights"] = str(run / "features.pt")
    workflow(run, "perceptual", max_epochs=1, **ids).run()
    losses = table(run).iloc[0]
    parts = losses["loss_l1"] + 0.1 * losses["loss_features"] + losses["loss_quantizer"]
    assert losses["loss_features"] > 0
    assert losses["loss"] > parts > 0  # and the SSIM term


def test_every_option_in_the_docs_is_one() -> None:
    text = (ROOT / "docs" / "vqvae.md").read_text()
    pairs = [pair.split("=", 1) for pair in re.findall(r"--set \"?([^\s`\"]+)", text)]
    assert len(pairs) > 10
    values = {name: json_or_text(text) for name, text in pairs}
    assert len(check_overrides("vqvae", "train", values)) > 10


def recipe(**values: Any) -> Any:
    return tiny_vqvae(epochs=3, overrides={**tiny_vqvae().overrides, **values})


def test_an_averaged_training_resumes_to_the_same_weights_and_keeps_the_average(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = recipe(ema=0.9)
    train(run, "vqvae", options)
    unbroken, kept = weights(run), weights(run, "model.pt")
    shutil.rmtree(run / "3-vqvae")
    kill_in_epoch(2, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train(run, "vqvae", options)
    monkeypatch.undo()
    options = type(options)(**{**vars(options), "resume": True})
    train(run, "vqvae", options)
    for name in ("network", "average"):
        assert equal(weights(run)[name], unbroken[name])
    assert equal(weights(run, "model.pt"), kept)
    if table(run)["ssim_brain"].idxmax() == 2:  # the last epoch is the best
        assert equal(kept, unbroken["average"])
    assert not equal(unbroken["average"], unbroken["network"])


def test_a_prior_is_averaged_in_the_same_way(trained_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained_run, tmp_path / "run"))
    train(run, "prior", tiny_prior(overrides={**tiny_prior().overrides, "ema": 0.9}))
    saved, kept = (
        torch.load(run / "5-prior" / file, weights_only=True)
        for file in ("checkpoint.pt", "model.pt")
    )
    bits = pd.read_csv(run / "5-prior/metrics.tsv", sep="\t")["bits_per_code"]
    assert bits.idxmin() == 1  # the last epoch is the best
    for weights in (kept, saved["average"], saved["network"]):
        del weights["conditions.strength"]  # is chosen afterwards, of `kept`
    assert equal(kept, saved["average"])
    assert not equal(kept, saved["network"])


def test_a_training_is_not_resumed_with_another_kind_of_average(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_in_epoch(2, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train(run, "vqvae", recipe(ema=0.9))
    monkeypatch.undo()
    options = recipe()
    with pytest.raises(VQBrainError) as raised:
        train(run, "vqvae", type(options)(**{**vars(options), "resume": True}))
    words = "checkpoint.pt was made with another configuration; train without resuming"
    assert str(raised.value).endswith(words)  # nothing around a message of ours
    assert "ValueError" not in str(raised.value)


@pytest.mark.parametrize(
    ("values", "present", "absent"),
    [
        ({}, {"loss_l1", "loss_ssim"}, set()),
        ({"loss#weights#ssim": 0}, {"loss_l1"}, {"loss_ssim"}),
        ({"amp": False, "loss#weights#l1": 0}, {"loss_ssim"}, {"loss_l1"}),
    ],
)
def test_the_losses_are_set_by_their_weights(
    run: Path, values: dict[str, Any], present: set[str], absent: set[str]
) -> None:
    train(run, "vqvae", recipe(**values))
    columns = set(table(run))
    assert present <= columns
    assert not absent & columns
    record = json.loads((run / "3-vqvae/provenance.json").read_text())["options"]
    assert record["max_epochs"] == 3


def test_mlflow_is_switched_on_by_its_id(run: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    store = run / "mlflow.db"
    train(run, "vqvae", recipe(mlflow=str(store)))
    (logged,) = mlflow.MlflowClient(f"sqlite:///{store}").search_runs(["1"])
    assert logged.info.status == "FINISHED"
    assert logged.data.params["max_epochs"] == "3"
    best = table(run)["ssim_brain"].iloc[-1]
    assert logged.data.metrics["ssim_brain"] == pytest.approx(best, rel=1e-4)
    assert b"sub-phantom" not in store.read_bytes()
