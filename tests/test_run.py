"""All stages with one command: interrupted, resumed, repeated; what it keeps and what it says."""

from __future__ import annotations

import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import tiny_prior, tiny_vqvae
from test_path import copy_of, kill_in_epoch
from test_signals import send_in_epoch

import monai_vqbrain
from monai_vqbrain import cli, run_pipeline
from monai_vqbrain.errors import StoppedError, UsageError, VQBrainError
from monai_vqbrain.files import sha256
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.stages import demo as demo_stage
from monai_vqbrain.stages.run import PipelineOptions, do_steps
from monai_vqbrain.stages.sample import SampleOptions
from monai_vqbrain.stages.slicing.options import PrepareOptions
from monai_vqbrain.stages.train import can_resume, train

STEPS = ["prepare", "train vqvae", "encode", "train prior", "sample", "evaluate"]
SLICING = {"size": (32, 32), "spacing": 6.0, "count": 4}  # of the prepared run


def tiny(**options: Any) -> PipelineOptions:
    """The options that the trained run was made with."""
    return PipelineOptions(
        prepare=PrepareOptions(**SLICING), vqvae=tiny_vqvae(), prior=tiny_prior(),
        sample=SampleOptions(number=5), **options,
    )  # fmt: skip


def source_of(run: Path) -> Path:
    return run.parent / "people"


def state(run: Path) -> dict[str, tuple[str, int]]:
    """Content and date of every file but the report, which is always rendered."""
    files = [path for path in run.rglob("*") if path.is_file() and "7-report" not in path.parts]
    return {str(p): (sha256(p), p.stat().st_mtime_ns) for p in files if p.suffix != ".lock"}


@pytest.mark.slow
def test_an_interrupted_pipeline_continues_and_a_finished_one_is_left_alone(
    prepared_run: Path, trained_run: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run, source = copy_of(prepared_run, tmp_path), source_of(prepared_run)
    kill_in_epoch(2, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        do_steps(source, RunFolder(run), tiny())
    monkeypatch.undo()
    told = capsys.readouterr().out
    assert "interrupted in step 2 of 6 (train vqvae): to continue, run the same command" in told
    assert "--resume" not in told

    page = do_steps(source, RunFolder(run), tiny())
    told = capsys.readouterr().out
    assert re.findall(r"^\[\d/6\] ([a-z ]+)", told, re.MULTILINE) == STEPS
    assert "2-slices is up to date" in told
    assert "the interrupted training is resumed" in told
    assert told.splitlines()[-1].endswith(f"minutes; open the report: {page.resolve()}")
    for name in ("3-vqvae/model.pt", "5-prior/model.pt"):  # as if nothing had been interrupted
        assert sha256(run / name) == sha256(trained_run / name)
    assert "imulated" in page.read_text()

    before, record = state(run), (run / "7-report/provenance.json").read_bytes()
    again = run_pipeline(source, run)  # its options are as in the run
    assert again == page
    assert state(run) == before
    assert (run / "7-report/provenance.json").read_bytes() == record
    told = capsys.readouterr().out
    assert told.count("is up to date") == 6
    assert "left for all steps" not in told


def test_a_signal_in_a_pipeline_names_its_step(
    prepared_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copy_of(prepared_run, tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    send_in_epoch(1, signal.SIGTERM, monkeypatch)
    words = r"step 2 of 6 \(train vqvae\): stopped by SIGTERM after epoch 1, .*; then run the same"
    with pytest.raises(StoppedError, match=words):
        do_steps(source_of(prepared_run), RunFolder(run), tiny())
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (UsageError, "no/cohort"),
        (VQBrainError, "no volume is usable"),
    ],
)
def test_an_error_names_the_step_and_what_to_do(
    kind: type[VQBrainError], words: str, tmp_path: Path
) -> None:
    source = tmp_path / "no/cohort"
    if kind is VQBrainError:
        source.mkdir(parents=True)
        (source / "sub-01_T1w.nii.gz").write_bytes(b"nothing")
    pattern = rf"^step 1 of 6 \(prepare\): .*{words}.*; then run the same command again: finished"
    with pytest.raises(kind, match=pattern) as caught:
        run_pipeline(source, tmp_path / "run")
    assert caught.value.exit_code == kind.exit_code


class Planned(Exception):
    """Stops `run_pipeline` before it does anything."""


def planned(run: Path, monkeypatch: pytest.MonkeyPatch, **given: Any) -> PipelineOptions:
    """The options that a call decides on."""
    found = []

    def stop(_source: object, _run: object, options: PipelineOptions) -> None:
        found.append(options)
        raise Planned

    monkeypatch.setattr("monai_vqbrain.stages.run.do_steps", stop)
    with pytest.raises(Planned):
        run_pipeline("source", run, **given)
    return found[0]


def test_a_new_run_has_the_defaults_of_the_stages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = planned(tmp_path, monkeypatch)
    assert options == PipelineOptions()
    assert options.sample.number == 512
    assert options.vqvae.minutes is None  # the bundle's: 5


def test_options_are_given_to_their_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = planned(
        tmp_path, monkeypatch, minutes=7, number=64, columns={"diagnosis": "group"}, seed=3,
        exclude=["sub-1"], align="rigid", brain="zero", jobs=2, device="cpu",
    )  # fmt: skip
    assert options.prepare == PrepareOptions(
        columns={"diagnosis": "group"}, exclude=["sub-1"], align="rigid", brain="zero", seed=3,
        jobs=2,
    )  # fmt: skip
    assert options.vqvae == options.prior
    assert (options.prior.minutes, options.prior.seed, options.prior.device) == (7, 3, "cpu")
    assert (options.sample.number, options.sample.seed, options.device) == (64, 3, "cpu")


def test_what_is_not_given_remains_as_in_the_run(
    trained_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = planned(trained_run, monkeypatch)
    assert options.prepare.record() == PrepareOptions(**SLICING).record()
    assert (options.vqvae.epochs, options.vqvae.minutes) == (2, None)
    assert options.vqvae.overrides == tiny_vqvae().overrides
    assert options.prior.overrides == tiny_prior().overrides
    assert options.sample.number == 5
    options = planned(trained_run, monkeypatch, minutes=3, number=9)
    assert (options.vqvae.epochs, options.vqvae.minutes) == (None, 3)
    assert options.vqvae.overrides == tiny_vqvae().overrides
    assert options.sample.number == 9


def test_the_start_of_a_training_remains_as_in_the_run(
    prepared_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copy_of(prepared_run, tmp_path)
    train(run, "vqvae", tiny_vqvae(epochs=1))
    start = str(shutil.copytree(run / "3-vqvae", tmp_path / "start") / "model.pt")
    train(run, "vqvae", tiny_vqvae(epochs=1, start_from=start))
    assert planned(run, monkeypatch).vqvae.start_from == start
    kill_in_epoch(2, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train(run, "vqvae", tiny_vqvae(epochs=3, start_from=start))
    options = planned(run, monkeypatch).vqvae
    assert (options.start_from, options.epochs) == (start, 3)
    assert can_resume(RunFolder(run), "vqvae", options)
    assert not can_resume(RunFolder(run), "vqvae", replace(options, start_from=None))


def test_an_interrupted_training_of_other_options_is_started_over(
    prepared_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run = copy_of(prepared_run, tmp_path)
    kill_in_epoch(2, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train(run, "vqvae", tiny_vqvae(seed=1))
    assert planned(run, monkeypatch).vqvae.seed == 1  # it would be resumed
    monkeypatch.undo()
    kill_in_epoch(1, monkeypatch)
    capsys.readouterr()
    with pytest.raises(KeyboardInterrupt):
        do_steps(source_of(prepared_run), RunFolder(run), tiny())
    told = capsys.readouterr().out
    assert "starting over: the interrupted run in 3-vqvae.partial is discarded" in told
    assert "is resumed" not in told


def test_the_weights_that_a_training_starts_from_remain(
    prepared_run: Path, trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, start = copy_of(prepared_run, tmp_path), str(trained_run)
    kill_in_epoch(2, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train(run, "vqvae", tiny_vqvae(start_from=start))
    assert planned(run, monkeypatch).vqvae.start_from == start
    monkeypatch.undo()
    train(run, "vqvae", tiny_vqvae(start_from=start))
    assert planned(run, monkeypatch).vqvae.start_from == start


def test_a_damaged_interrupted_training_is_started_over(
    prepared_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copy_of(prepared_run, tmp_path)
    work = run / "3-vqvae.partial"
    work.mkdir()
    (work / "checkpoint.pt").touch()
    assert planned(run, monkeypatch).vqvae == PipelineOptions().vqvae
    (work / "config.json").write_text("{")
    assert planned(run, monkeypatch).vqvae == PipelineOptions().vqvae


def test_the_time_left_counts_what_has_to_be_done(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    run = copy_of(trained_run, tmp_path)
    shutil.rmtree(run / "5-prior")
    done: list[str] = []
    for name in ("prepare_slices", "encode", "evaluate", "draw_samples"):
        monkeypatch.setattr(f"monai_vqbrain.stages.run.{name}", lambda *_, **__: done.append(""))
    monkeypatch.setattr("monai_vqbrain.stages.run._train", lambda *_: done.append(""))
    do_steps("source", RunFolder(run), tiny())
    assert len(done) == 6
    told = capsys.readouterr().out
    # the prior's 5 minutes, and more than one for the report; samples exist
    assert "[1/6] prepare: about 6 min left for all steps" in told
    assert "[6/6] evaluate: about 1 min left" in told


def test_the_demo_is_this_pipeline_on_the_phantom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    monkeypatch.setattr(demo_stage, "make_phantom", lambda path, **_: path)
    monkeypatch.setattr(demo_stage, "do_steps", lambda *given: made.append(given))
    demo_stage.demo(tmp_path, quick=True)
    source, run, options = made[0]
    assert (source, run.path) == (tmp_path / "0-phantom", tmp_path)
    assert options.prepare.size == (64, 64)
    assert (options.vqvae.minutes, options.prior.minutes) == (0.25, 0.25)
    assert options.vqvae.overrides["network_def#num_codes"] == 64


def test_the_command_passes_its_options_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[Any] = []
    monkeypatch.setattr(monai_vqbrain, "run_pipeline", lambda *a, **k: called.append((a, k)))
    listed = tmp_path / "exclude.txt"
    listed.write_text("sub-01\n\nsub-02_ses-1\n")
    words = ["run", "bids", "out", "-n", "64", "--minutes", "2", "--column", "diagnosis=group"]
    words += ["--exclude", str(listed)]
    done = CliRunner().invoke(cli.vqbrain, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    ((paths, options),) = called
    assert paths == (Path("bids"), Path("out"))
    assert options == {
        "minutes": 2.0, "number": 64, "columns": {"diagnosis": "group"}, "table": None,
        "exclude": ("sub-01", "sub-02_ses-1"), "align": None, "brain": None, "seed": None,
        "start_from": None, "jobs": 1, "device": "auto",
    }  # fmt: skip
    called.clear()
    CliRunner().invoke(cli.vqbrain, ["run", "bids", "out"], catch_exceptions=False)
    assert set(called[0][1].values()) == {None, 1, "auto"}
