"""Trainings that start from given weights: what fits is taken, and what does not is reported."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import tiny_prior, tiny_vqvae

from monai_vqbrain.errors import UsageError, VQBrainError
from monai_vqbrain.networks import BrainVQVAE, PixelCNN
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.packaged import PACKAGED
from monai_vqbrain.runs.start import start_network
from monai_vqbrain.stages.reporting.cross_fitting import train_folds
from monai_vqbrain.stages.train import train, training_command

VIEW = {"shift_x": [-3.0, 3.0]}
KNOWN = {"sex": ["F", "M"], "position_rel": [0.2, 0.8], "scanner": ["A", "B", "C"], **VIEW}


def prior(**settings: Any) -> PixelCNN:
    made: dict[str, Any] = {
        "num_codes": 16, "grid": (6, 6), "channels": 16, "layers": 2, "conditions": KNOWN,
        "late_conditions": ["sex"], "likeness": 8, "neighbour": True, "plan": 2,
    }  # fmt: skip
    network = PixelCNN(**made | settings)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    return network


def saved(network: Any, folder: Path, settings: bool = True) -> str:
    """A file of a network's weights, with its settings beside."""
    folder.mkdir(exist_ok=True)
    torch.save(network.state_dict(), folder / "model.pt")
    if settings:
        definition = {"_target_": type(network).__name__, **network.settings}
        (folder / "config.json").write_text(json.dumps({"network_def": definition}))
    return str(folder / "model.pt")


def changed(network: Any, before: dict[str, torch.Tensor]) -> set[str]:
    """The first words of the weights that are others than before."""
    now = network.state_dict()
    return {name.partition(".")[0] for name in now if not torch.equal(now[name], before[name])}


def state(network: Any) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in network.state_dict().items()}


def with_codebook(network: PixelCNN, seed: int) -> PixelCNN:
    """Set the code features from a random codebook."""
    network.set_code_features(torch.randn(16, 8, generator=torch.Generator().manual_seed(seed)))
    return network


def test_a_vqvae_takes_all_of_the_same_network(tmp_path: Path) -> None:
    start, network = BrainVQVAE(width=8, num_codes=16), BrainVQVAE(width=8, num_codes=16)
    start.quantizer.initialised.fill_(True)
    start_network(network, saved(start, tmp_path), "vqvae")
    for name, weight in start.state_dict().items():
        assert torch.equal(network.state_dict()[name], weight), name


def test_another_number_of_codes_leaves_the_codebook_to_the_first_batch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start, network = BrainVQVAE(width=8, num_codes=16), BrainVQVAE(width=8, num_codes=32)
    start.quantizer.initialised.fill_(True)
    start_network(network, saved(start, tmp_path), "vqvae")
    assert not network.quantizer.initialised
    assert torch.equal(network.encoder[0].weight, start.encoder[0].weight)
    assert "100 % of the weights; not taken: quantizer" in capsys.readouterr().out


def test_a_prior_of_the_same_codes_gives_the_same_logits_without_late_parts(
    tmp_path: Path,
) -> None:
    start, network = with_codebook(prior(), 0), with_codebook(prior(), 0)
    start_network(network, saved(start, tmp_path), "prior")
    codes = torch.randint(16, (3, 6, 6))
    condition = torch.tensor([[torch.nan, 0.4, 1.0, 0.0]]).expand(3, -1)  # without the late one
    with torch.inference_mode():
        expected = start.eval()(codes, condition, codes.flip(0))
        found = network.eval()(codes, condition, codes.flip(0))
    torch.testing.assert_close(found, expected)


def test_code_features_of_nearly_the_same_codebook_are_rotated(tmp_path: Path) -> None:
    start, network = with_codebook(prior(), 0), with_codebook(prior(), 0)
    signs = torch.tensor([1.0, -1, 1, -1, -1, 1, 1, -1])
    network.likeness.features.mul_(signs)  # the same likenesses
    start_network(network, saved(start, tmp_path), "prior")
    torch.testing.assert_close(network.likeness.features, start.likeness.features)
    assert torch.equal(network.embedding.weight, start.embedding.weight)


def test_tables_of_other_codes_are_not_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start, network = with_codebook(prior(), 0), with_codebook(prior(), 1)
    before = state(network)
    start_network(network, saved(start, tmp_path), "prior")
    taken = changed(network, before)
    assert "blocks" in taken
    assert not {"embedding", "head", "likeness"} & taken
    said = capsys.readouterr().out
    assert "embedding, head, likeness" in said
    assert "(the codes are others: start the VQ-VAE from there, too)" in said


def test_late_conditions_and_the_plan_begin_anew(tmp_path: Path) -> None:
    start, network = with_codebook(prior(), 0), with_codebook(prior(), 0)
    start.plan.mean.fill_(1.0)
    before = state(network)
    start_network(network, saved(start, tmp_path), "prior")
    for name, weight in network.state_dict().items():
        if "late_condition" in name or name.startswith(("plan.", "conditions.encoders.0.")):
            assert torch.equal(weight, before[name]), name
    assert torch.equal(network.neighbour.first.weight, start.neighbour.first.weight)


def test_conditions_go_by_their_names_and_values(tmp_path: Path) -> None:
    other = {**VIEW, "scanner": ["B", "D"], "age": [20.0, 80.0], "position_rel": [0.1, 0.9]}
    start = with_codebook(prior(), 0)
    network = with_codebook(prior(conditions=other, late_conditions=[]), 0)
    before = state(network)
    start_network(network, saved(start, tmp_path), "prior")
    own, theirs = network.conditions.encoders, start.conditions.encoders
    assert torch.equal(own[3].mix.weight, theirs[1].mix.weight)  # position
    assert torch.equal(own[0].mix.weight, theirs[3].mix.weight)  # shift
    scanners = theirs[2].embedding.weight
    assert torch.equal(own[1].embedding.weight[0], scanners[1])  # B
    assert torch.equal(
        own[1].embedding.weight[1], before["conditions.encoders.1.embedding.weight"][1]
    )
    assert torch.equal(own[1].embedding.weight[2], scanners[3])  # missing
    assert torch.equal(own[2].mix.weight, before["conditions.encoders.2.mix.weight"])  # age


def test_another_grid_keeps_its_own_positions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start, network = with_codebook(prior(), 0), with_codebook(prior(grid=(8, 6)), 0)
    start_network(network, saved(start, tmp_path), "prior")
    assert torch.equal(network.above.weight, start.above.weight)
    assert "not taken: blocks, conditions, likeness, plan, position_hor" in capsys.readouterr().out


def test_weights_without_settings_have_no_conditions(tmp_path: Path) -> None:
    start, network = with_codebook(prior(), 0), with_codebook(prior(), 0)
    before = state(network)
    start_network(network, saved(start, tmp_path, settings=False), "prior")
    assert torch.equal(network.above.weight, start.above.weight)
    name = "conditions.encoders.1.mix.weight"
    assert torch.equal(network.state_dict()[name], before[name])


def test_a_network_of_another_shape_is_refused(tmp_path: Path) -> None:
    start = saved(BrainVQVAE(width=8), tmp_path)
    words = (
        r"start_from .*: only \d % of this network's weights fit \(width is 16, there 8\): train"
    )
    with pytest.raises(VQBrainError, match=words):
        start_network(BrainVQVAE(width=16), start, "vqvae")


def test_weights_of_the_other_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VQBrainError, match="only 0 % of this network's weights fit: train"):
        start_network(BrainVQVAE(), saved(prior(), tmp_path), "vqvae")


def test_what_is_no_file_of_weights_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match="start_from nothing: there is no such file or folder; give"
    ):
        start_network(BrainVQVAE(), "nothing", "vqvae")
    (tmp_path / "text.pt").write_text("text")
    with pytest.raises(VQBrainError, match=r"text.pt cannot be read as weights \("):
        start_network(BrainVQVAE(), str(tmp_path / "text.pt"), "vqvae")
    torch.save({"network": {"a": torch.zeros(1)}}, tmp_path / "checkpoint.pt")
    with pytest.raises(VQBrainError, match="checkpoint.pt is no state dict: give a model.pt"):
        start_network(BrainVQVAE(), str(tmp_path / "checkpoint.pt"), "vqvae")
    with pytest.raises(UsageError, match="3-vqvae is not in .*first run: vqbrain train vqvae"):
        start_network(BrainVQVAE(), str(tmp_path), "vqvae")


@pytest.fixture
def run(trained_run: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained_run, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture(scope="module")
def other_run(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run to start from, with the networks of the trained run."""
    folder = tmp_path_factory.mktemp("start") / "run"
    for name in ("3-vqvae", "5-prior"):
        shutil.copytree(trained_run / name, folder / name)
    return folder


def made_from(folder: Path) -> dict[str, Any]:
    record = json.loads((folder / "provenance.json").read_text())
    return dict(record["made_from"]) | {"by": record["start_from"]}


def test_a_start_is_recorded_by_content_and_another_makes_the_training_stale(
    run: Path, other_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(run, "prior", tiny_prior(epochs=1, start_from=str(other_run)))
    assert "start_from is new" in capsys.readouterr().out
    found = made_from(run / "5-prior")
    assert found["by"] == str(other_run)
    assert len(found["start_from"]["sha256"]) == 64
    copy = shutil.copy(other_run / "5-prior" / "model.pt", tmp_path / "copy.pt")
    train(run, "prior", tiny_prior(epochs=1, start_from=str(copy)))
    assert "5-prior is up to date" in capsys.readouterr().out
    weights = torch.load(copy)
    torch.save({name: weight + 0 for name, weight in weights.items()}, copy)
    train(run, "prior", tiny_prior(epochs=1))
    assert "start_from is no longer used" in capsys.readouterr().out


def test_a_vqvae_starts_better_than_from_nothing(run: Path, other_run: Path) -> None:
    options = {"overrides": {**tiny_vqvae().overrides, "optimizer#lr": 0.0}, "epochs": 1}
    train(run, "vqvae", tiny_vqvae(**options, start_from=str(other_run)))
    now, start = (torch.load(one / "3-vqvae" / "model.pt") for one in (run, other_run))
    for name in (name for name in now if not name.startswith("quantizer.")):
        torch.testing.assert_close(now[name], start[name])


def test_a_run_does_not_start_from_itself(run: Path) -> None:
    for start in (run, run / "5-prior" / "model.pt"):
        with pytest.raises(UsageError, match="are the weights that the training would replace"):
            train(run, "prior", tiny_prior(start_from=str(start)))


def test_a_start_that_has_seen_held_out_scans_is_refused(run: Path, tmp_path: Path) -> None:
    start = tmp_path / "start"
    shutil.copytree(run, start)
    table = RunFolder(start).slices / "slices.tsv"
    swapped = {"test": "training", "training": "test"}
    lines = [line.split("\t") for line in table.read_text().splitlines()]
    column = lines[0].index("split")
    lines = [[swapped.get(v, v) if c == column else v for c, v in enumerate(row)] for row in lines]
    table.write_text("".join("\t".join(line) + "\n" for line in lines))
    with pytest.raises(VQBrainError, match=r"\d of its training scans are validation or test"):
        train(run, "prior", tiny_prior(start_from=str(start)))


def test_folds_start_as_their_prior_did(run: Path, other_run: Path) -> None:
    train(run, "prior", tiny_prior(epochs=1, start_from=str(other_run)))
    folds = train_folds(RunFolder(run), 2, "cpu")
    for fold in folds:
        assert made_from(fold.prior)["by"] == str(other_run)


def test_the_bundles_command_has_the_start(tmp_path: Path) -> None:
    command = training_command(tmp_path, "vqvae", tiny_vqvae(start_from=PACKAGED[0]))
    assert f"--start_from {PACKAGED[0]}" in command
    command = training_command(tmp_path, "prior", tiny_prior(start_from="a-run"))
    assert f"--start_from {Path('a-run').absolute()}" in command
