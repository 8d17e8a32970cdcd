"""Signals that end a training or a command: what is kept, and what is said."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import tiny_vqvae
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer

from monai_vqbrain import cli
from monai_vqbrain.errors import StoppedError
from monai_vqbrain.files import sha256
from monai_vqbrain.handlers import StopOnSignal
from monai_vqbrain.stages.train import train

USED = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGUSR1")]

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")


@pytest.fixture(autouse=True)
def dispositions() -> Iterator[None]:
    """What signals do is as it was after each test; until then they end nothing by default.

    Ctrl-C interrupts, although it is ignored where a shell has started the tests in the background.
    """
    before = {number: signal.signal(number, lambda *_: None) for number in USED}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, disposition in before.items():
        signal.signal(number, disposition)


def trained(kill: dict[int, int], epochs: int = 4) -> tuple[Engine, list[int]]:
    """An engine of two iterations per epoch that gets a signal in some; the epochs it completed."""
    engine, saved = Engine(lambda *_: None), []

    @engine.on(Events.ITERATION_STARTED)
    def send(engine: Engine) -> None:
        if engine.state.iteration in kill:
            os.kill(os.getpid(), kill[engine.state.iteration])

    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: saved.append(e.state.epoch))
    StopOnSignal().attach(engine)
    engine.run([0, 1], max_epochs=epochs)
    return engine, saved


@pytest.mark.parametrize("number", USED)
def test_training_stops_after_the_epoch(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(number)
    name = signal.Signals(number).name
    words = f"stopped by {name} after epoch 2, whose checkpoint is saved: resume the training"
    with pytest.raises(StoppedError, match=words):
        trained({3: number})
    assert f"{name}: training stops after this epoch" in capsys.readouterr().err
    assert signal.getsignal(number) is before


def test_a_signal_in_the_last_epoch_lets_it_finish() -> None:
    _, saved = trained({7: signal.SIGTERM})
    assert saved == [1, 2, 3, 4]


def test_without_a_signal_nothing_changes() -> None:
    before = signal.getsignal(signal.SIGTERM)
    _, saved = trained({})
    assert saved == [1, 2, 3, 4]
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_second_signal_acts_at_once() -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    with pytest.raises(KeyboardInterrupt):
        trained({3: signal.SIGTERM, 4: signal.SIGTERM})


def test_ignored_signals_stay_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    _, saved = trained({3: signal.SIGHUP})
    assert saved == [1, 2, 3, 4]


def send_in_epoch(epoch: int, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    original = SupervisedTrainer.run

    def run(self: Any) -> None:
        @self.on(Events.ITERATION_COMPLETED(once=4 * epoch - 2))
        def send(engine: Engine) -> None:
            os.kill(os.getpid(), number)

        original(self)

    monkeypatch.setattr(SupervisedTrainer, "run", run)


def test_a_stopped_training_says_how_to_go_on_and_does(
    trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run = tmp_path / "run"
    run.mkdir()
    (run / "2-slices").symlink_to(trained_run / "2-slices")
    send_in_epoch(1, signal.SIGTERM, monkeypatch)
    with pytest.raises(StoppedError, match="stopped by SIGTERM after epoch 1"):
        train(run, "vqvae", tiny_vqvae())
    monkeypatch.undo()
    assert (
        f"continue with vqbrain train vqvae {run} --resume and the same" in capsys.readouterr().out
    )
    saved = torch.load(run / "3-vqvae.partial" / "checkpoint.pt", weights_only=True)
    assert saved["epoch"] == 1
    train(run, "vqvae", tiny_vqvae(resume=True))
    assert sha256(run / "3-vqvae/model.pt") == sha256(trained_run / "3-vqvae/model.pt")


@pytest.mark.parametrize(
    ("epoch", "words"),
    [(1, "there is nothing to resume: run the same command"), (2, "--resume and the same options")],
)
def test_an_interrupt_offers_to_resume_only_what_there_is(
    trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], epoch: int, words: str,
) -> None:  # fmt: skip
    (tmp_path / "2-slices").symlink_to(trained_run / "2-slices")
    send_in_epoch(epoch, signal.SIGINT, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, "vqvae", tiny_vqvae())
    told = capsys.readouterr().out
    assert words in told
    assert ("--resume" in told) == (epoch == 2)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_command_ends_on_a_signal_as_on_an_interrupt(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    number = getattr(signal, name)
    signal.signal(number, signal.SIG_DFL)
    monkeypatch.setattr("monai_vqbrain.report", lambda *_, **__: os.kill(os.getpid(), number))
    monkeypatch.setattr(sys, "argv", ["vqbrain", "report", "run"])
    with pytest.raises(SystemExit, match="1"):
        cli.main()
    assert f"interrupted by {name}; finished work is kept" in capsys.readouterr().err
