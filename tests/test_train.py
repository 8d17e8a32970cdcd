"""The begin of a training: its folder, its lock, what it needs; and how it ends."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import tiny_vqvae
from made_run import finish_again, make_slices

from monai_vqbrain.cohorts import make_phantom
from monai_vqbrain.errors import UsageError, VQBrainError
from monai_vqbrain.runs.bundles import bundle_config, default_value
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.stacks import mask_path
from monai_vqbrain.runs.stage_folder import leave_stage
from monai_vqbrain.runs.training import DEFAULT_RUN, begin_training, report_training
from monai_vqbrain.stages.encode import encode
from monai_vqbrain.stages.prepare import prepare_slices
from monai_vqbrain.stages.slicing.options import PrepareOptions
from monai_vqbrain.stages.train import TrainOptions, train, training_command, training_ids

HOLD = """
import sys
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path / "run")
    make_slices(run, simulated=True)
    return run


def test_an_unfinished_training_is_dropped_unless_resumed(run: RunFolder) -> None:
    work = run.path / "3-vqvae.partial"
    begin_training(run.path, "vqvae")
    (work / "checkpoint.pt").touch()
    begin_training(run.path, "vqvae", resume=True)
    assert (work / "checkpoint.pt").is_file()
    begin_training(run.path, "vqvae")
    assert [path.name for path in work.iterdir()] == ["log.txt"]


def test_a_second_process_is_refused_until_the_first_ends(run: RunFolder) -> None:
    lock = run.path / ".3-vqvae.lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "held\n"
        work = run.path / "3-vqvae.partial"
        work.mkdir()
        (work / "checkpoint.pt").touch()
        words = "3-vqvae is in use by another process: wait until it has ended, or use another"
        with pytest.raises(VQBrainError, match=words):
            begin_training(run.path, "vqvae")
        assert (work / "checkpoint.pt").is_file()  # the other's work is not touched
        other.stdin.close()
    begin_training(run.path, "vqvae")


def test_slices_of_two_sizes_are_one_line(prepared_run: Path, tmp_path: Path) -> None:
    run = RunFolder(shutil.copytree(prepared_run, tmp_path / "run"))
    stack = max(run.slices.glob("stacks/*_T1w.nii"))
    image = nib.load(stack)
    smaller = np.array(image.dataobj.get_unscaled())[:24]  # no memory map of what is written
    nib.save(nib.Nifti1Image(smaller, image.affine, image.header), stack)
    finish_again(run.slices)
    with pytest.raises(VQBrainError, match=r"slices differ in size \(32x32 pixels in .* 24x32 in"):
        begin_training(run.path, "vqvae")
    leave_stage(run.vqvae)


@pytest.mark.parametrize("folder", ["other", "vqbrain-run"])
def test_a_named_run_folder_is_never_filled_with_simulated_data(
    folder: str, tmp_path: Path
) -> None:
    words = "2-slices is not there: first run vqbrain prepare SOURCE .* :: for #"
    with pytest.raises(VQBrainError, match=words):
        begin_training(tmp_path / folder, "vqvae")
    assert not (tmp_path / folder).exists()


def test_the_default_run_folder_is_that_of_the_bundle() -> None:
    assert default_value("vqvae", "train", "run_dir") == DEFAULT_RUN


def test_a_number_sign_in_the_path_trains_in_that_folder(
    prepared_run: Path, tmp_path: Path
) -> None:
    run = tmp_path / "ADNI#2 @x %y $z"
    shutil.copytree(prepared_run, run)
    assert train(run, "vqvae", tiny_vqvae(epochs=1)) == run / "3-vqvae"
    assert (run / "3-vqvae" / "model.pt").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [run.name]


@pytest.mark.parametrize(("axis", "expected"), [("axial", True), ("sagittal", False)])
def test_crops_are_mirrored_left_to_right_only(axis: str, expected: bool, run: RunFolder) -> None:
    slices = pd.read_csv(run.slices / "slices.tsv", sep="\t", keep_default_na=False)
    stack = run.slices / slices["stack"][0]
    item = {"image": str(stack), "label": str(mask_path(stack)), "index": 1, "axis": axis}
    preprocessing = bundle_config("vqvae", "train")
    preprocessing["crop_size"] = [32, 32]  # the whole slice
    crop = preprocessing.get_parsed_content("train#preprocessing")
    images = [crop(item)["image"] for _ in range(20)]
    assert any(torch.equal(image, images[0].flip(1)) for image in images) is expected


def test_two_participants_are_trained_on_and_encoded(tmp_path: Path) -> None:
    source = make_phantom(tmp_path / "people", participants=2, resolution_mm=4, second_sessions=0)
    run = tmp_path / "run"
    prepare_slices(source, run, PrepareOptions(size=(32, 32), spacing=6.0, count=4))
    train(run, "vqvae", tiny_vqvae(epochs=1))
    rows = (encode(run) / "codes.tsv").read_text().splitlines()[1:]
    assert {row.split("\t")[0] for row in rows} == {"sub-phantom01", "sub-phantom02"}


def test_a_prior_needs_codes(run: RunFolder) -> None:
    with pytest.raises(VQBrainError, match="4-codes is not there: first run vqbrain encode"):
        begin_training(run.path, "prior")


def test_the_command_alone_starts_nothing(run: RunFolder) -> None:
    command = training_command(run.path, "vqvae", tiny_vqvae())
    assert command.startswith("python -m monai.bundle run training")
    assert not run.vqvae.exists()


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("epoch\tssim_brain\n1\t0.5\n2\t0.7\n3\t0.6\n", "ssim_brain 0.7000"),
        ("epoch\tbits\tbits_per_code\n1\t5\t5\n2\t4\t3\n3\t3\t4\n", "bits_per_code 4.0000"),
    ],
)
def test_the_best_score_is_said_with_the_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], table: str, words: str
) -> None:
    (tmp_path / "metrics.tsv").write_text(table)
    report_training(str(tmp_path))
    expected = f"trained: best validation {words}; results: {tmp_path.resolve()}\n"
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize("network", ["vqvae", "prior"])
def test_a_size_sets_network_batch_and_budget_together(network: str, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    base, small, large = (
        training_ids(run, network, TrainOptions(size=size)) for size in ("base", "small", "large")
    )
    assert base["overrides"] == {}
    assert small["minutes"] < base["minutes"] < large["minutes"]
    assert large["overrides"]["batch_size"] == 64
    assert large["overrides"]["compile"] is True
    width = "network_def#width" if network == "vqvae" else "network_def#channels"
    assert small["overrides"][width] < large["overrides"][width]
    asked = TrainOptions(size="small", minutes=7, overrides={width: 33})
    found = training_ids(run, network, asked)
    assert found["minutes"] == 7
    assert found["overrides"][width] == 33


def test_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="size huge: choose small, base, large"):
        training_ids(RunFolder(tmp_path), "prior", TrainOptions(size="huge"))
