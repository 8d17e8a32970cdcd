"""Damaged and exchanged files of a finished run: each is noticed, and its command mends it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from conftest import tiny_prior, tiny_vqvae
from made_run import finish, finish_again, make_run

from monai_vqbrain.cohorts import make_phantom
from monai_vqbrain.contents import content_sha256
from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.provenance import damage
from monai_vqbrain.runs.codes import code_items
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.freshness import (
    check_codes,
    check_evaluated,
    check_models,
    check_vqvae,
    evaluation_inputs,
    slices_content,
)
from monai_vqbrain.runs.sample_sets import current_sets
from monai_vqbrain.runs.training import begin_training
from monai_vqbrain.stages.encode import encode
from monai_vqbrain.stages.evaluate import evaluate
from monai_vqbrain.stages.prepare import prepare_slices
from monai_vqbrain.stages.report import report
from monai_vqbrain.stages.slicing.normalisation import Normalisation
from monai_vqbrain.stages.slicing.normalisation_cache import NormalisationResult
from monai_vqbrain.stages.slicing.options import PrepareOptions
from monai_vqbrain.stages.slicing.volume import Volume
from monai_vqbrain.stages.train import train
from monai_vqbrain.transforms.blocks import Blocks
from monai_vqbrain.transforms.registration import Registration

SMALL = PrepareOptions(size=(16, 16), spacing=12.0, count=2, align="none")
ALIGNED = replace(SMALL, align="affine", bias=True)
WITHOUT = replace(SMALL, exclude=("sub-phantom02",))
STACK = "stacks/sub-secret02_axial_T1w.nii"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_run(tmp_path_factory.mktemp("whole") / "run")
    (run.slices / "datalist.json").write_text(
        json.dumps({s: [{"participant_id": s}] for s in ("training", "validation", "test")})
    )
    finish_again(run.slices)
    for folder in (run.vqvae, run.prior):
        (folder / "config.json").write_text('{"sex": ["F", "M"]}')
        made_from = {"2-slices": slices_content(run)} if folder == run.vqvae else None
        finish_again(folder, **({"made_from": made_from} if made_from else {}))
    run.report.mkdir()
    (run.report / "metrics.json").write_text('{"schema": 3}')
    finish(run.report, {})
    return run.path


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> RunFolder:
    return RunFolder(shutil.copytree(whole, tmp_path / "run"))


def swap_stacks(folder: Path) -> None:
    one, other = (folder / f"stacks/sub-secret0{n}_axial_T1w.nii" for n in (2, 3))
    one.rename(folder / "between")
    other.rename(one)
    (folder / "between").rename(other)


def make_black(path: Path) -> None:
    for stack in path.glob("stacks/*_T1w.nii"):
        image: Any = nib.load(stack)
        black = nib.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine, image.header)
        nib.save(black, stack)


def move_to_training(folder: Path) -> None:
    lists = json.loads((folder / "datalist.json").read_text())
    lists["training"] += lists.pop("test")
    (folder / "datalist.json").write_text(json.dumps(lists | {"test": []}))


def replace_text(name: str, old: str, new: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return spoil


def write(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


@pytest.mark.parametrize(
    ("stage", "spoil", "words"),
    [
        ("2-slices", swap_stacks, f"{STACK} has changed since it was made: run vqbrain prepare"),
        ("2-slices", make_black, "nii has changed since it was made: run vqbrain prepare SOURCE"),
        (
            "2-slices",
            move_to_training,
            "datalist.json has changed since it was made: run vqb",
        ),
        ("2-slices", replace_text("slices.tsv", "training", "test"), "slices.tsv has changed"),
        ("2-slices", remove(STACK), f"{STACK} is missing: run vqbrain prepare SOURCE"),
        ("2-slices", write(STACK, b"half"), f"{STACK} has changed"),
        ("2-slices", write("provenance.json", b"{}"), "provenance.json is damaged"),
        ("2-slices", write("provenance.json", b'{"made_'), "provenance.json is damaged"),
        ("2-slices", write("provenance.json", b"\xff\xfe"), "provenance.json is damaged"),
        ("2-slices", replace_text("provenance.json", "1.8", "1.9"), "provenance.json is damaged"),
        ("2-slices", remove("provenance.json"), "2-slices is not in .* first run: vqbrain prepare"),
        ("3-vqvae", write("model.pt", b"another run's"), "model.pt has changed .* train vqvae"),
        ("3-vqvae", write("model.pt", b"wEights"), "model.pt has changed .*: run vqbrain train vq"),
        ("3-vqvae", remove("config.json"), "config.json is missing: run vqbrain train vqvae"),
        ("3-vqvae", write("provenance.json", b"[]"), "3-vqvae .* provenance.json is damaged or of"),
        ("4-codes", write("codes.safetensors", b"half"), "codes.safetensors has changed .* encode"),
        (
            "4-codes",
            replace_text("codes.tsv", "AD", "CN"),
            "codes.tsv has changed .* encode",
        ),
        ("5-prior", replace_text("config.json", '"F", "M"', '"M", "F"'), "config.json has changed"),
        ("5-prior", write("provenance.json", b"{}"), "provenance.json .*: run vqbrain train prior"),
        ("5-prior", remove("provenance.json"), "5-prior is not in .*: vqbrain train prior"),
        ("6-samples/default", remove("samples.tsv"), "samples.tsv .*: run vqbrain sample --name d"),
        (
            "6-samples/default",
            remove("provenance.json"),
            "default is not in .* sample --name d",
        ),
        (
            "7-report",
            replace_text("metrics.json", "3", "4"),
            "metrics.json has changed .* eval",
        ),
    ],
)
def test_every_damage_is_noticed_with_the_command_that_mends_it(
    run: RunFolder, stage: str, spoil: Callable[[Path], None], words: str
) -> None:
    spoil(run.path / stage)
    assert damage(run.path / stage) is not None
    with pytest.raises(VQBrainError, match=words):
        report(run.path)
    if stage[0] in "23456":
        with pytest.raises(VQBrainError, match=words):
            evaluate(run.path)
    if stage[0] in "23":
        with pytest.raises(VQBrainError, match=words):
            check_vqvae(run)
        with pytest.raises(VQBrainError, match=words):
            encode(run.path)
    if stage[0] in "2345":
        with pytest.raises(VQBrainError, match=words):
            check_models(run)
    if stage[0] in "24":
        with pytest.raises(VQBrainError, match=words):
            begin_training(run.path, "vqvae" if stage[0] == "2" else "prior")


def test_logs_and_progress_files_may_be_deleted(run: RunFolder) -> None:
    for name in ("log.txt", "events.out.tfevents.1.host"):
        (run.vqvae / name).write_text("a")
    finish_again(run.vqvae)
    (run.vqvae / "log.txt").unlink()
    (run.vqvae / "events.out.tfevents.1.host").write_text("more")
    assert damage(run.vqvae) is None
    check_models(run)


def test_codes_with_a_participant_in_two_splits_are_not_trained_on(run: RunFolder) -> None:
    table = run.codes / "codes.tsv"
    rows = table.read_text().splitlines(keepends=True)
    rows[1] = rows[1].replace("training", "test")
    table.write_text("".join(rows))
    finish_again(run.codes)
    with pytest.raises(VQBrainError, match=r"in two splits: sub-secret01 \(test, training\)"):
        code_items(run.path, "training")


def prepare_phantom(folder: Path) -> tuple[Path, RunFolder]:
    source = make_phantom(folder / "bids", participants=4, resolution_mm=6, second_sessions=0)
    run = RunFolder(folder / "run")
    prepare_slices(source, run.path, SMALL)
    return source, run


def stacks_of(run: RunFolder) -> dict[str, str]:
    names = ("datalist.json", "slices.tsv", "participants.tsv")
    files = [*run.slices.glob("stacks/*.nii"), *(run.slices / name for name in names)]
    return {file.name: content_sha256(file) for file in files}


def spoil_note(folder: Path) -> None:
    note = min(folder.glob("stacks/*.json"))
    note.write_text(note.read_text()[:40])


def edit_note(folder: Path) -> None:
    note = min(folder.glob("stacks/*.json"))
    note.write_text(note.read_text().replace('"brain_fraction": 0', '"brain_fraction": 1'))


def shorten_a_mask(folder: Path) -> None:
    mask = min(folder.glob("stacks/*_mask.nii"))
    mask.write_bytes(mask.read_bytes()[:400])


@pytest.mark.parametrize(
    "spoil",
    [
        make_black,
        move_to_training,
        spoil_note,
        edit_note,
        shorten_a_mask,
        write("provenance.json", b"{}"),
        write("participants.tsv", b"participant_id\tsplit\n"),
        remove("slices.tsv"),
        remove("provenance.json"),
    ],
)
def test_prepare_mends_its_slices_and_nothing_becomes_stale(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    source, run = prepare_phantom(tmp_path)
    files, content = stacks_of(run), slices_content(run)
    spoil(run.slices)
    assert damage(run.slices) is not None
    prepare_slices(source, run.path, SMALL)
    assert damage(run.slices) is None
    assert stacks_of(run) == files
    assert slices_content(run) == content


def test_only_a_damaged_stack_is_sliced_again(tmp_path: Path, capsys: Any) -> None:
    source, run = prepare_phantom(tmp_path)
    shorten_a_mask(run.slices)
    prepare_slices(source, run.path, SMALL)
    assert "1 of 4 volumes to slice" in capsys.readouterr().out


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


WAYS: dict[str, Callable[[Path], None]] = {
    "deleted": Path.unlink,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:50]) and None,
    "emptied": lambda path: path.write_bytes(b"") and None,
    "one bit flipped": flip,
}


@pytest.fixture(scope="module")
def normalised(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunFolder]:
    """A source, and a run with estimates of alignment, bias fields and brains in 1-volumes."""
    folder = tmp_path_factory.mktemp("normalised")
    source, run = prepare_phantom(folder)
    with pytest.MonkeyPatch.context() as patch:
        estimate_quickly(patch)
        prepare_slices(source, run.path, ALIGNED)
    return source, run


def estimate_quickly(patch: pytest.MonkeyPatch) -> list[int]:
    """Replace the estimates of a normalisation; one entry is added for each that is made."""
    made: list[int] = []

    def estimate(volume: Volume, brain: np.ndarray, _: Normalisation) -> NormalisationResult:
        made.append(1)
        turned = np.diag([1.0, 1.0, 1.1, 1.0])
        field = Blocks(np.zeros((3, 3, 3), np.float32), np.diag([80.0, 80.0, 80.0, 1.0]))
        return NormalisationResult(Registration(turned, 0.5), None, field, brain)

    patch.setattr("monai_vqbrain.stages.slicing.normalisation._estimate", estimate)
    return made


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("mode-image_xfm.txt", "deleted"),
        ("mode-image_xfm.txt", "one bit flipped"),
        ("normalisation_T1w.json", "truncated"),
        ("logbias_T1w.nii.gz", "emptied"),
        ("mask.nii.gz", "one bit flipped"),
    ],
)
def test_prepare_mends_its_files_in_1_volumes(
    normalised: tuple[Path, RunFolder],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    way: str,
) -> None:
    source, run = normalised[0], RunFolder(shutil.copytree(normalised[1].path, tmp_path / "run"))
    made, content = estimate_quickly(monkeypatch), slices_content(run)
    files = {path.name: content_sha256(path) for path in run.volumes.iterdir()}
    prepare_slices(source, run.path, ALIGNED)
    assert made == []
    WAYS[way](min(run.volumes.glob(f"*{name}")))
    prepare_slices(source, run.path, ALIGNED)
    told = capsys.readouterr().out
    assert "files in 1-volumes are missing or have changed; 1 of 4 volumes to slice" in told
    assert len(made) == 1
    assert {path.name: content_sha256(path) for path in run.volumes.iterdir()} == files
    assert slices_content(run) == content


@pytest.fixture(scope="module")
def two_seeds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunFolder]:
    """A source, and a run in which one participant has splits and no slices."""
    source, run = prepare_phantom(tmp_path_factory.mktemp("seeds"))
    prepare_slices(source, run.path, replace(SMALL, seed=1))
    prepare_slices(source, run.path, WITHOUT)
    return source, run


@pytest.mark.parametrize("way", WAYS)
def test_prepare_mends_the_stored_splits(two_seeds: tuple[Path, RunFolder], way: str) -> None:
    """Those of another seed and of participants without slices, too."""
    source, run = two_seeds
    content, splits = slices_content(run), run.splits.read_bytes()
    assert splits.count(b"sub-phantom02") == 2
    WAYS[way](run.splits)
    prepare_slices(source, run.path, WITHOUT)
    assert run.splits.read_bytes() == splits
    assert slices_content(run) == content


def test_what_is_wrong_with_the_stored_splits_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, run = prepare_phantom(tmp_path)
    lines = run.splits.read_text().splitlines(keepends=True)
    for content, words in ((lines[:-1], "has changed since it was made"), (None, "is missing")):
        run.splits.unlink()
        if content is not None:
            run.splits.write_text("".join(content))
        prepare_slices(source, run.path, SMALL)
        assert f"splits.tsv {words}; 0 of 4 volumes to slice" in capsys.readouterr().out
        assert run.splits.read_text() == "".join(lines)


def test_splits_of_a_killed_command_are_no_damage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, run = prepare_phantom(tmp_path)
    with run.splits.open("a") as file:
        file.write("sub-new\ttest\t0\n")
    prepare_slices(source, run.path, SMALL)
    assert "2-slices is up to date" in capsys.readouterr().out
    prepare_slices(source, run.path, replace(SMALL, count=3))
    assert "sub-new\ttest\t0\n" in run.splits.read_text()


def test_splits_are_known_if_the_copy_is_damaged(tmp_path: Path) -> None:
    source, run = prepare_phantom(tmp_path)
    splits = run.splits.read_bytes()
    (run.slices / "splits.tsv").write_bytes(splits.replace(b"training", b"test"))
    prepare_slices(source, run.path, SMALL)
    assert (run.slices / "splits.tsv").read_bytes() == run.splits.read_bytes() == splits


def test_an_identical_stage_made_again_makes_nothing_stale(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder(shutil.copytree(trained_run, tmp_path / "run"))
    finish_again(run.slices)  # at another time
    for folder in (run.vqvae, run.codes):
        (folder / "provenance.json").write_text("{}")
    train(run.path, "vqvae", tiny_vqvae())
    encode(run.path)
    told = capsys.readouterr().out
    assert told.count("provenance.json is damaged or of an earlier version") == 2
    check_codes(run)
    train(run.path, "prior", tiny_prior())
    assert "5-prior is up to date" in capsys.readouterr().out
    check_models(run)


def test_figures_of_other_networks_or_samples_are_not_reported(whole: Path, tmp_path: Path) -> None:
    run = RunFolder(shutil.copytree(whole, tmp_path / "run"))
    finish_again(run.report, made_from=evaluation_inputs(run))
    check_evaluated(run)
    shutil.copytree(run.sample_set("default"), run.sample_set("later"))
    check_evaluated(run)
    finish_again(run.report, made_from=evaluation_inputs(run))
    shutil.rmtree(run.sample_set("later"))
    with pytest.raises(VQBrainError, match="7-report is of another 6-samples/later than the run"):
        report(run.path)
    (run.prior / "model.pt").write_bytes(b"other weights")
    finish_again(run.prior)
    words = r"7-report is of another 5-prior than .*: run vqbrain evaluate \S+$"
    with pytest.raises(VQBrainError, match=words):
        report(run.path)


def test_files_beside_the_samples_are_no_samples(whole: Path, tmp_path: Path) -> None:
    run = RunFolder(shutil.copytree(whole, tmp_path / "run"))
    (before,) = current_sets(run).values()
    folder = run.sample_set("default")
    for name in ("sample-0099.nii.gz", "._sample-0001.nii.gz", "sample-0001 copy.nii.gz"):
        shutil.copy(folder / "sample-0001.nii.gz", folder / name)
    assert list(current_sets(run).values()) == [before]
    assert before[0] == folder / "sample-0001.nii.gz"
