"""Evaluation of another cohort, with cross-fitted priors, and with a further feature space."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from made_run import finish_again
from monai.networks.nets import resnet18

from monai_vqbrain.errors import UsageError
from monai_vqbrain.inferers import code_bits
from monai_vqbrain.metrics.detectability import DetectorProtocol
from monai_vqbrain.runs.codes import code_items
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.networks import load_network
from monai_vqbrain.runs.plans import _training_slices
from monai_vqbrain.runs.stacks import read_slices
from monai_vqbrain.stages.evaluate import evaluate
from monai_vqbrain.stages.reporting import ruler
from monai_vqbrain.stages.reporting.cross_fitting import measure_cross_fitted, train_folds
from monai_vqbrain.stages.sample import SampleOptions, draw_samples


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer steps of the detector: what it finds is tested with it."""
    few = DetectorProtocol(steps=2, batch=4)
    for name in ("detectability", "detectability_control"):
        test = getattr(ruler, name)
        monkeypatch.setattr(ruler, name, lambda *sets, test=test: test(*sets[:4], (0,), few))


@pytest.fixture
def run(trained_run: Path, tmp_path: Path) -> Path:
    """A copy of the trained run, with enough samples to be measured."""
    copy = Path(shutil.copytree(trained_run, tmp_path / "run"))
    draw_samples(copy, SampleOptions(number=12))
    return copy


def numbers(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "7-report/metrics.json").read_text())
    return found


@pytest.mark.usefixtures("quick")
def test_another_cohort_stands_beside_the_runs_own(
    run: Path, prepared_run: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(prepared_run, tmp_path / "other-site"))
    evaluate(run, cohort=other)
    own, found = numbers(run), numbers(run)["cohort"]
    assert found["name"] == "other-site"
    slices = pd.read_csv(other / "2-slices/slices.tsv", sep="\t")
    used = slices[slices["brain_fraction"] >= 0.05]
    assert found["fidelity"]["ssim_brain"]["slices"] == len(used)
    assert found["images"]["held_out"] == len(used)
    assert found["images"]["training"] == own["images"]["training"]
    assert set(found["distribution"]["kid"]) == {"encoder", "random", "texture"}
    # the same slices in both: a part of the other cohort's figures are the run's own
    scores = pd.read_csv(run / "7-report/fidelity.tsv", sep="\t")
    test = used[used["split"] == "test"].groupby("participant_id").size()
    assert len(scores) == test.sum()
    assert found["fidelity"]["ssim_brain"]["mean"] == pytest.approx(
        own["fidelity"]["test"]["ssim_brain"]["mean"], abs=0.1
    )
    bits = found["prior"]["bits_per_code_interval"]
    assert bits["participants"] == used["participant_id"].nunique()
    assert bits["low"] < bits["mean"] < bits["high"]


def test_a_cohort_of_other_slices_is_refused(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(run / "2-slices", other / "2-slices")
    options = json.loads((other / "2-slices/provenance.json").read_text())["options"]
    finish_again(other / "2-slices", options=options | {"spacing": 3.0})
    with pytest.raises(UsageError, match=r"slices of spacing 3.0, .* of 6.0: prepare it with"):
        evaluate(run, cohort=other)
    with pytest.raises(UsageError, match="2-slices is not in .*nowhere: first run"):
        evaluate(run, cohort=tmp_path / "nowhere")


def test_every_fold_has_a_prior_that_has_not_seen_it(run: Path) -> None:
    folder = RunFolder(run)
    folds = train_folds(folder, 2, "cpu")
    codes = [pd.read_csv(fold.codes / "codes.tsv", sep="\t") for fold in folds]
    own = pd.read_csv(folder.codes / "codes.tsv", sep="\t")
    trained_on = [set(c.loc[c["split"] == "training", "participant_id"]) for c in codes]
    everyone = set(own.loc[own["split"] == "training", "participant_id"])
    assert trained_on[0] | trained_on[1] == everyone
    assert not trained_on[0] & trained_on[1]
    for table in codes:
        held = table["participant_id"][table["split"] == "validation"]
        assert set(held) == set(own["participant_id"][own["split"] == "validation"])
        assert not (table["split"] == "test").any()
    planned = _training_slices(folds[0])  # plans are of them
    assert set(planned["participant_id"]) == trained_on[0]
    assert len(read_slices(folds[0], planned)[0]) == len(planned)
    items = code_items(folds[0].path, "training", views=True)
    assert len(items) == 32 * (codes[0]["split"] == "training").sum()  # plain and 31 views
    before = (folds[0].prior / "model.pt").stat().st_mtime_ns
    train_folds(folder, 2, "cpu")
    assert (folds[0].prior / "model.pt").stat().st_mtime_ns == before


def test_cross_fitted_bits_are_those_of_the_folds_priors(run: Path) -> None:
    folder = RunFolder(run)
    folds = train_folds(folder, 2, "cpu")
    found = measure_cross_fitted(folder, folds, "cpu")
    priors = [load_network(fold.prior) for fold in folds]
    saved: dict[str, list[float]] = {}
    own = [code_items(folder.path, "training", None, p.settings["conditions"]) for p in priors]
    for items in zip(*own, strict=True):  # each prior has ranges of its own
        item = items[0]
        table = pd.read_csv(folds[0].codes / "codes.tsv", sep="\t")
        seen = set(table.loc[table["split"] == "training", "participant_id"])
        both = [
            float(code_bits(prior, one["codes"][None], one["condition"][None]).sum())
            for prior, one in zip(priors, items, strict=True)
        ]
        first_saw_it = item["participant_id"] in seen
        saved.setdefault(item["participant_id"], []).append(
            both[1] - both[0] if first_saw_it else both[0] - both[1]
        )
    expected = np.mean([np.mean(values) for values in saved.values()])
    assert found["saved"]["value"] == pytest.approx(expected, abs=1e-3)
    assert (found["folds"], found["participants"]) == (2, len(saved))
    assert 0 <= found["low"] <= found["auc"] <= found["high"] <= 1


@pytest.mark.usefixtures("quick")
def test_folds_go_into_the_audit_and_too_few_samples_have_none(run: Path) -> None:
    evaluate(run, folds=2)
    assert numbers(run)["audit"]["membership"]["cross_fitted"]["folds"] == 2
    draw_samples(run, SampleOptions(number=5))
    evaluate(run, folds=2)
    assert "at least 10 images" in numbers(run)["not_measured"]
    assert "audit" not in numbers(run)


def test_more_folds_than_participants_are_refused(run: Path) -> None:
    with pytest.raises(UsageError, match=r"--folds 99: give from 2 folds to as many"):
        train_folds(RunFolder(run), 99)


@pytest.mark.usefixtures("quick")
def test_a_local_network_is_a_further_feature_space(run: Path, tmp_path: Path) -> None:
    network = resnet18(
        spatial_dims=2, n_input_channels=3, conv1_t_stride=2, feed_forward=False, shortcut_type="B",
        bias_downsample=False,
    )  # fmt: skip
    torch.save(network.state_dict(), tmp_path / "radimagenet.pt")
    evaluate(run, weights=tmp_path / "radimagenet.pt")
    assert "radimagenet" in numbers(run)["distribution"]["kid"]
    (tmp_path / "text.pt").write_text("no weights")
    with pytest.raises(UsageError, match="--weights: .*text.pt holds no plain weights"):
        evaluate(run, weights=tmp_path / "text.pt")
