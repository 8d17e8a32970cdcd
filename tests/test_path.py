"""The whole path through the bundles: every stage, again, after a change, interrupted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import tiny_prior, tiny_vqvae
from ignite.engine import Events
from made_run import finish_again
from monai.engines import SupervisedTrainer
from PIL import Image
from safetensors import safe_open
from scipy import ndimage

from monai_vqbrain.engines.prior import batch_seed
from monai_vqbrain.errors import UsageError, VQBrainError
from monai_vqbrain.files import sha256
from monai_vqbrain.inferers import AncestralSampler, PixelCNNInferer
from monai_vqbrain.networks.conditions import condition_row
from monai_vqbrain.networks.likeness import code_features
from monai_vqbrain.provenance import read_provenance
from monai_vqbrain.runs.codes import begin_codes, write_codes
from monai_vqbrain.runs.datalist import all_items
from monai_vqbrain.runs.networks import load_network
from monai_vqbrain.runs.views import PLAIN_VIEW, slice_views
from monai_vqbrain.stages.demo import demo
from monai_vqbrain.stages.encode import encode
from monai_vqbrain.stages.evaluate import evaluate
from monai_vqbrain.stages.sample import SampleOptions, draw_samples
from monai_vqbrain.stages.train import train


def copy_of(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "run"))


def prepare_differently(run: Path) -> None:
    """Replace the slices by others, as `prepare` with other images would."""
    table = run / "2-slices/slices.tsv"
    table.write_text(table.read_text().replace("zero-background", "derivative"))
    finish_again(table.parent)


def test_training_leaves_what_later_stages_need(trained_run: Path) -> None:
    for name in ("3-vqvae", "5-prior"):
        folder = trained_run / name
        files = {path.name for path in folder.iterdir()}
        assert {
            "config.json",
            "model.pt",
            "checkpoint.pt",
            "metrics.tsv",
            "provenance.json",
        } <= files
        table = pd.read_csv(folder / "metrics.tsv", sep="\t")
        assert table["epoch"].tolist() == [1, 2]
        assert not (trained_run / f"{name}.partial").exists()
    definition = json.loads((trained_run / "3-vqvae/config.json").read_text())["network_def"]
    assert definition["num_codes"] == 16


def test_codes_are_those_of_the_trained_network(trained_run: Path) -> None:
    with safe_open(trained_run / "4-codes/codes.safetensors", framework="pt") as file:
        codes, header = file.get_tensor("codes"), file.metadata()
        views = file.get_tensor("views")
    table = pd.read_csv(trained_run / "4-codes/codes.tsv", sep="\t")
    assert codes.dtype == torch.uint16
    assert codes.shape == (len(table), 1, 8, 8)
    assert header["grid"] == "8x8"
    assert header["num_codes"] == "16"
    assert header["vqvae_sha256"] == sha256(trained_run / "3-vqvae/model.pt")
    row = table.iloc[7]
    stack = nib.load(trained_run / "2-slices" / row["stack"]).get_fdata(dtype=np.float32)
    image = torch.from_numpy(stack[:, :, row["index"]])[None, None]
    expected = load_network(trained_run / "3-vqvae").index_quantize(image)
    assert torch.equal(codes[7].long(), expected)
    assert views.shape == (31, (table["split"] == "training").sum(), 1, 8, 8)
    assert table["split"][7] == "training"
    x, y = slice_views(1)[0]["shift"]
    moved = ndimage.shift(image[0, 0].numpy(), (x, y), order=0)
    moved = torch.from_numpy(moved)[None, None]
    expected = load_network(trained_run / "3-vqvae").index_quantize(moved)
    assert torch.equal(views[0, 7].long(), expected)


def test_the_prior_knows_which_codes_are_alike(trained_run: Path) -> None:
    prior, vqvae = (load_network(trained_run / name) for name in ("5-prior", "3-vqvae"))
    expected = code_features(vqvae.quantizer.codebook, prior.settings["likeness"])
    torch.testing.assert_close(prior.likeness.features, expected)


def test_the_record_has_the_training_for_the_methods_of_the_report(trained_run: Path) -> None:
    vqvae, prior = (read_provenance(trained_run / name) or {} for name in ("3-vqvae", "5-prior"))
    assert vqvae["training"]["optimizer"] == "Adam"
    assert vqvae["training"]["learning_rates"] == [0.003]
    assert vqvae["training"]["loss"] == {"l1": 1.0, "ssim": 1.0}
    assert prior["training"]["optimizer"] == "MuonAdamW"
    assert sorted(prior["training"]["learning_rates"]) == [0.004, 0.02]


def test_nobody_is_in_two_splits(trained_run: Path) -> None:
    table = pd.read_csv(trained_run / "4-codes/codes.tsv", sep="\t")
    assert set(table["split"]) == {"training", "validation", "test"}
    assert (table.groupby("participant_id")["split"].nunique() == 1).all()


def test_samples_are_marked_and_traceable(trained_run: Path) -> None:
    table = pd.read_csv(trained_run / "6-samples/default/samples.tsv", sep="\t")
    assert len(table) == 5
    image = nib.load(trained_run / "6-samples/default/sample-0003.nii.gz")
    assert image.shape == (32, 32, 1)
    assert np.allclose(np.diag(image.affine)[:2], 6)
    marks = json.loads(image.header.extensions[0].get_content())
    assert b"synthetic" in bytes(image.header["descrip"])
    assert marks["synthetic"] is True
    assert marks["vqvae_sha256"] == sha256(trained_run / "3-vqvae/model.pt")
    assert marks["prior_sha256"] == sha256(trained_run / "5-prior/model.pt")
    picture = Image.open(trained_run / "6-samples/default/sample-0003.png")
    assert picture.text["synthetic"] == "True"
    shown = np.rot90(image.get_fdata()[:, :, 0])
    assert np.abs(np.asarray(picture) / 255 - shown).max() < 0.01


def test_more_samples_begin_with_the_fewer_and_another_seed_differs(
    trained_run: Path, tmp_path: Path
) -> None:
    run = copy_of(trained_run, tmp_path)
    few = [nib.load(p).get_fdata() for p in sorted((run / "6-samples/default").glob("*.nii.gz"))]
    draw_samples(run, SampleOptions(number=70))
    more = [nib.load(p).get_fdata() for p in sorted((run / "6-samples/default").glob("*.nii.gz"))]
    assert len(more) == 70
    assert all(np.array_equal(a, b) for a, b in zip(few, more, strict=False))
    draw_samples(run, SampleOptions(number=5, seed=1))
    other = nib.load(run / "6-samples/default/sample-0001.nii.gz").get_fdata()
    assert not np.array_equal(few[0], other)


def test_a_finished_stage_is_skipped_and_a_changed_one_redone(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy_of(trained_run, tmp_path)
    before = (run / "3-vqvae/model.pt").stat().st_mtime_ns
    train(run, "vqvae", tiny_vqvae())
    encode(run)
    draw_samples(run, SampleOptions(number=5))
    said = capsys.readouterr().out
    assert said.count("is up to date") == 3
    assert (run / "3-vqvae/model.pt").stat().st_mtime_ns == before
    (run / "4-codes/codes.tsv").unlink()
    encode(run)
    assert "codes.tsv is missing" in capsys.readouterr().out
    train(run, "vqvae", tiny_vqvae(seed=1))
    assert "seed was 0, is 1" in capsys.readouterr().out
    with pytest.raises(VQBrainError, match="encoded by another VQ-VAE .* vqbrain encode"):
        draw_samples(run, SampleOptions(number=6))
    encode(run)
    assert "3-vqvae changed" in capsys.readouterr().out
    with pytest.raises(VQBrainError, match="trained on other codes .* vqbrain train prior"):
        draw_samples(run, SampleOptions(number=6))


def test_a_training_that_diverges_leaves_the_earlier_one(
    prepared_run: Path, tmp_path: Path
) -> None:
    run = copy_of(prepared_run, tmp_path)
    train(run, "vqvae", tiny_vqvae(epochs=1))
    before = sha256(run / "3-vqvae/model.pt")
    overrides = {**tiny_vqvae().overrides, "optimizer#lr": 1e30}
    words = "training diverged: ssim_brain is nan in epoch 1; the result of an earlier"
    with pytest.raises(VQBrainError, match=words):
        train(run, "vqvae", tiny_vqvae(overrides=overrides))
    assert sha256(run / "3-vqvae/model.pt") == before


def kill_in_epoch(epoch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    original = SupervisedTrainer.run

    def run(self: Any) -> None:
        @self.on(Events.ITERATION_COMPLETED)
        def kill(engine: Any) -> None:
            if engine.state.epoch == epoch:
                raise KeyboardInterrupt

        original(self)

    monkeypatch.setattr(SupervisedTrainer, "run", run)


@pytest.mark.parametrize(
    ("changed", "options", "words"),
    [
        (False, {"seed": 1}, "seed has changed since the interrupted training began"),
        (
            False,
            {"overrides": {**tiny_vqvae().overrides, "optimizer#lr": 0.1}},
            "what was set \\(overrides\\) has changed since the interrupted training began",
        ),
        (True, {}, "what it is trained on has changed since the interrupted"),
    ],
)
def test_another_training_is_not_resumed(
    prepared_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changed: bool,
    options: dict[str, Any],
    words: str,
) -> None:
    run = copy_of(prepared_run, tmp_path)
    kill_in_epoch(2, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train(run, "vqvae", tiny_vqvae())
    monkeypatch.undo()
    if changed:
        prepare_differently(run)
    with pytest.raises(VQBrainError, match=words):
        train(run, "vqvae", tiny_vqvae(resume=True, **options))


def test_other_slices_make_the_networks_stale(trained_run: Path, tmp_path: Path) -> None:
    run = copy_of(trained_run, tmp_path)
    prepare_differently(run)
    words = "3-vqvae was trained on other slices than 2-slices holds: run vqbrain train vqvae"
    for stage in (encode, evaluate, lambda r: draw_samples(r, SampleOptions(number=6))):
        with pytest.raises(VQBrainError, match=words):
            stage(run)


def test_what_a_component_refuses_is_said_in_its_words(prepared_run: Path, tmp_path: Path) -> None:
    run = copy_of(prepared_run, tmp_path)
    options = tiny_vqvae(overrides={"network_def#num_codes": 1})
    with pytest.raises(VQBrainError, match="ValueError: num_codes must be 2 or more"):
        train(run, "vqvae", options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_named(prepared_run: Path, tmp_path: Path) -> None:
    run = copy_of(prepared_run, tmp_path)
    with pytest.raises(UsageError, match="device cuda: PyTorch finds no CUDA device here"):
        train(run, "vqvae", tiny_vqvae(device="cuda"))


def test_a_demo_leaves_real_data_alone(prepared_run: Path, tmp_path: Path) -> None:
    run = copy_of(prepared_run, tmp_path)
    finish_again(run / "2-slices", simulated=False)
    with pytest.raises(UsageError, match="holds a run on real data: give the demo a folder of its"):
        demo(run)


def test_minutes_are_kept(prepared_run: Path, tmp_path: Path) -> None:
    run = copy_of(prepared_run, tmp_path)
    patient = {**tiny_vqvae().overrides, "patience": 1000000}  # or a plateau may end it at half
    train(run, "vqvae", tiny_vqvae(epochs=None, minutes=0.03, overrides=patient))
    record = json.loads((run / "3-vqvae/provenance.json").read_text())
    assert 1.5 < record["seconds"] < 20  # 1.8 s of training, the rest on a busy machine
    assert record["options"]["minutes"] == 0.03


def test_evaluate_and_report(trained_run: Path, tmp_path: Path) -> None:
    run = copy_of(trained_run, tmp_path)
    report = evaluate(run)
    numbers = json.loads((run / "7-report/metrics.json").read_text())
    scored = numbers["fidelity"]["test"]["ssim_brain"]
    assert scored["participants"] == numbers["split"]["participants"]["test"]
    assert abs(numbers["fidelity"]["trivial"]["black"]["ssim_brain"]["mean"]) < 0.05
    assert 1 <= numbers["codebook"]["used"] <= 16
    assert 0 < numbers["prior"]["bits_per_code"] < 8
    text = report.read_text()
    assert "sub-phantom" not in text
    assert "imulated" in text


@pytest.mark.parametrize(
    ("folder", "call", "words"),
    [
        ("2-slices", lambda run: train(run, "vqvae", tiny_vqvae()), "vqbrain prepare SOURCE"),
        ("3-vqvae", encode, "vqbrain train vqvae"),
        ("4-codes", lambda run: train(run, "prior", tiny_prior()), "vqbrain encode"),
        ("5-prior", lambda run: draw_samples(run, SampleOptions()), "vqbrain train prior"),
    ],
)
def test_a_missing_stage_is_named_with_its_command(
    trained_run: Path, tmp_path: Path, folder: str, call: Any, words: str
) -> None:
    run = copy_of(trained_run, tmp_path)
    shutil.rmtree(run / folder)
    with pytest.raises(UsageError, match=f"{folder} is not in .* first run: {words}"):
        call(run)


def test_resuming_nothing_is_refused(prepared_run: Path, tmp_path: Path) -> None:
    run = copy_of(prepared_run, tmp_path)
    with pytest.raises(VQBrainError, match="nothing to resume: .* train without resuming"):
        train(run, "vqvae", tiny_vqvae(resume=True))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"number": 0}, "the number of images must be 1 or more, got 0"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
        ({"temperature": 0.0}, "temperature must be above 0, got 0"),
        ({"top_p": 1.5}, r"top_p must lie in \(0, 1\], got 1.5"),
        ({"guidance": -1.0}, "guidance must be 0 or more, got -1"),
        ({"name": "../AD"}, "name '../AD': give 1 to 64 letters, digits, hyphens or underscores"),
        ({"name": ""}, "name '': give 1 to 64 letters"),
        ({"guidance": 2.0}, "guidance 2 needs a condition to guide to"),
        (
            {"condition": {"weight": "70"}},
            "condition this prior has no condition weight: it knows diagnosis, sex, age, posit",
        ),
        ({"condition": {"diagnosis": "ad"}}, "condition diagnosis=ad: this prior knows AD, CN"),
        ({"condition": {"age": "150"}}, "condition age=150: this prior was trained on numbers f"),
        (
            {"condition": {"position_rel": "0.5"}, "volume": True},
            "volume draws slices at every position_rel: leave that condition out",
        ),
    ],
)
def test_sampling_options_out_of_range(
    trained_run: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        draw_samples(trained_run, SampleOptions(**options))


def test_another_split_makes_samples_and_prior_stale(trained_run: Path, tmp_path: Path) -> None:
    run = copy_of(trained_run, tmp_path)
    prepare_differently(run)
    with pytest.raises(VQBrainError, match="3-vqvae was trained on other slices"):
        draw_samples(run, SampleOptions(number=5))
    with pytest.raises(VQBrainError, match="3-vqvae was trained on other slices"):
        train(run, "prior", tiny_prior())


def test_samples_are_drawn_as_asked_and_say_so(trained_run: Path, tmp_path: Path) -> None:
    run = copy_of(trained_run, tmp_path)
    asked = {"diagnosis": "AD", "position_rel": "0.5"}
    # a prior of a few steps hardly knows one condition from another: guidance makes much of it
    draw_samples(run, SampleOptions(number=2, condition=asked, guidance=90.0))
    table = pd.read_csv(run / "6-samples/default/samples.tsv", sep="\t")
    for text in table["condition"]:  # what is not named is drawn
        assert text.startswith("diagnosis=AD, sex=")
        assert "age=" in text
        assert text.endswith(", position_rel=0.5")
    assert table["guidance"].tolist() == [90.0] * 2
    image = nib.load(run / "6-samples/default/sample-0001.nii.gz").get_fdata()
    assert (
        image != nib.load(trained_run / "6-samples/default/sample-0001.nii.gz").get_fdata()
    ).any()


def test_sets_with_different_names_are_kept_side_by_side(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy_of(trained_run, tmp_path)
    before = (run / "6-samples/default/sample-0001.nii.gz").read_bytes()
    asked = SampleOptions(number=2, condition={"diagnosis": "AD"}, name="AD-75")
    assert draw_samples(run, asked) == run / "6-samples/AD-75"
    assert len(list((run / "6-samples/AD-75").glob("*.png"))) == 3  # the overview too
    assert (run / "6-samples/default/sample-0001.nii.gz").read_bytes() == before
    draw_samples(run, asked)
    assert "6-samples/AD-75 is up to date" in capsys.readouterr().out
    evaluate(run)
    numbers = json.loads((run / "7-report/metrics.json").read_text())
    assert numbers["set"] == "default"
    assert numbers["other_sets"]["AD-75"]["images"]["synthetic"] == 2
    assert "diagnosis=AD" in (run / "7-report/report.html").read_text()


def test_samples_are_those_of_their_conditions(trained_run: Path) -> None:
    table = pd.read_csv(trained_run / "6-samples/default/samples.tsv", sep="\t")
    assert table["condition"].nunique() == len(table)
    prior, vqvae = (load_network(trained_run / name) for name in ("5-prior", "3-vqvae"))
    asked = [dict(part.split("=") for part in text.split(", ")) for text in table["condition"]]
    known = prior.settings["conditions"]
    assert {"shift_x", "shift_y"} <= set(known)
    rows = [condition_row(known, dict(PLAIN_VIEW) | conditions) for conditions in asked]
    condition = torch.stack([*rows, *[rows[-1]] * (64 - len(rows))])
    generator = torch.Generator().manual_seed(batch_seed(0, 0))
    inferer = PixelCNNInferer(AncestralSampler(temperature=0.97))
    images, _ = inferer.sample(prior, vqvae, 64, generator, return_codes=True, condition=condition)
    for number, image in enumerate(images[: len(table), 0].numpy(), start=1):
        found = nib.load(trained_run / f"6-samples/default/sample-{number:04d}.nii.gz").get_fdata()
        assert np.abs(found[..., 0] - image).max() < 0.003


def test_a_volume_is_a_stack_of_slices_in_the_cohorts_space(
    trained_run: Path, tmp_path: Path
) -> None:
    run = copy_of(trained_run, tmp_path)
    draw_samples(run, SampleOptions(number=2, volume=True, condition={"sex": "F"}, name="women"))
    stack = nib.load(next((run / "2-slices/stacks").glob("*_T1w.nii")))
    for name in ("sample-0001", "sample-0002"):
        volume = nib.load(run / f"6-samples/women/{name}.nii.gz")
        assert volume.shape == stack.shape
        np.testing.assert_allclose(volume.affine[:3, :3], stack.affine[:3, :3])
    evaluate(run)
    numbers = json.loads((run / "7-report/metrics.json").read_text())
    assert numbers["samples"]["compared"] == 5  # slices of the default set
    assert (numbers["volumes"]["set"], numbers["volumes"]["compared"]) == ("women", 2)
    assert numbers["other_sets"]["women"]["images"]["synthetic"] == 2 * stack.shape[2]
    for near in numbers["volumes"]["distances"].values():
        assert all(0 < near[kind] < 1 for kind in ("sampled", "real", "strangers"))
    assert Image.open(run / "7-report/cuts.png").width > 700
    assert "slices apart" in (run / "7-report/report.html").read_text()


def test_volumes_need_a_prior_that_knows_the_slice_before(
    trained_run: Path, tmp_path: Path
) -> None:
    run = copy_of(trained_run, tmp_path)
    overrides = {**tiny_prior().overrides, "neighbour": False, "condition_on": ["age"]}
    train(run, "prior", tiny_prior(overrides=overrides))
    with pytest.raises(UsageError, match="volume needs a prior with the conditions position and"):
        draw_samples(run, SampleOptions(volume=True))
    with pytest.raises(UsageError, match="has no condition sex: it knows age"):
        draw_samples(run, SampleOptions(condition={"sex": "F"}))


def test_what_changes_while_a_stage_works_is_noticed(trained_run: Path, tmp_path: Path) -> None:
    run = copy_of(trained_run, tmp_path)
    shutil.rmtree(run / "4-codes")
    before = sha256(run / "3-vqvae/model.pt")
    sources = begin_codes(run)
    (run / "3-vqvae/model.pt").write_bytes(b"another training ended meanwhile")
    items = all_items(run / "2-slices")
    write_codes(run, torch.zeros(len(items), 8, 8, dtype=torch.long), items, sources, seconds=1.0)
    record = json.loads((run / "4-codes/provenance.json").read_text())
    assert record["made_from"]["3-vqvae"]["sha256"] == record["vqvae_sha256"] == before


@pytest.mark.parametrize(
    ("quantizer", "codes", "header"),
    [
        ({"network_def#num_codes": [4, 4]}, 1, {"quantizer": "ScalarQuantizer", "num_codes": "16"}),
        ({"network_def#groups": 2}, 2, {"quantizer": "CodebookQuantizer", "num_codes": "16"}),
    ],
)
def test_other_quantizers_go_the_same_way(
    prepared_run: Path,
    tmp_path: Path,
    quantizer: dict[str, Any],
    codes: int,
    header: dict[str, str],
) -> None:
    run = copy_of(prepared_run, tmp_path)
    train(run, "vqvae", tiny_vqvae(overrides={**tiny_vqvae().overrides, **quantizer}))
    encode(run)
    with safe_open(run / "4-codes/codes.safetensors", framework="pt") as file:
        assert file.get_tensor("codes").shape[1:] == (codes, 8, 8)
        assert header.items() <= file.metadata().items()
    evaluate(run)
    numbers = json.loads((run / "7-report/metrics.json").read_text())
    assert numbers["codebook"]["used"] > 1
    train(run, "prior", tiny_prior())
    draw_samples(run, SampleOptions(number=2))
    assert nib.load(run / "6-samples/default/sample-0002.nii.gz").shape == (32, 32, 1)
