"""Locks of folders: one writer or many readers, until their processes end; what stages lock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock, Timeout
from made_run import make_run

from monai_vqbrain import locks
from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.files import building, hold, using
from monai_vqbrain.locks import lock_file, reading, unlock
from monai_vqbrain.runs import codes, sampling, training
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.stage_folder import leave_stage
from monai_vqbrain.stages import evaluate as evaluate_stage, report as report_stage

OTHER = """
import sys
from pathlib import Path
from monai_vqbrain.locks import lock, reading
sys.argv = ["vqbrain", *sys.argv[2:]]
folder = Path(sys.argv[-1])
with {how}:
    print("held", flush=True)
    sys.stdin.read()
"""
READS, WRITES = "reading([folder])", "lock(folder) or reading([])"
pytestmark = pytest.mark.skipif(os.name != "posix", reason="Windows has no locks of readers")


@contextmanager
def other_process(how: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A process called `vqbrain WORDS` that reads or writes the folder of the last word."""
    command = [sys.executable, "-c", OTHER.format(how=how), "-", *words]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def is_free(folder: Path) -> bool:
    """Whether a folder could be locked for writing, by this process as by another."""
    try:
        with FileLock(lock_file(folder), timeout=0):
            return True
    except Timeout:
        return False


def test_a_folder_in_use_is_not_replaced_and_the_command_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "4-codes"
    with other_process(READS, "train", "prior", str(folder)) as other:
        words = (
            rf"4-codes is in use by `vqbrain train prior {folder}` \(process {other.pid} on .*\): "
            "wait until it has ended, or use another run folder"
        )
        with pytest.raises(VQBrainError, match=words), building(folder):
            raise AssertionError
        with reading([folder]):  # so can another reader
            pass
        other.send_signal(signal.SIGKILL)
        other.wait()
    with building(folder) as work:
        (work / "later").touch()
    assert (folder / "later").is_file()


def test_a_folder_that_is_being_made_is_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "2-slices"
    words = r"2-slices is in use by `vqbrain prepare"
    with other_process(WRITES, "prepare", str(folder)):
        with pytest.raises(VQBrainError, match=words), using([folder]):
            raise AssertionError
        with pytest.raises(VQBrainError, match=words):
            hold(folder)
    with using([folder]):
        assert not is_free(folder)
    assert is_free(folder)


def test_processes_that_have_ended_are_not_named(tmp_path: Path) -> None:
    for _ in range(2):
        with other_process(READS, "sample", str(tmp_path / "x")) as other:
            pass
    lines = lock_file(tmp_path / "x").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == [str(other.pid)]
    with FileLock(lock_file(tmp_path / "x")), pytest.raises(VQBrainError, match="by another pro"):
        hold(tmp_path / "x")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"x\ty\tz\n", b"1\tz\n" * 3, b"9" * 99])
def test_whatever_a_lock_file_holds_is_no_error(content: bytes, tmp_path: Path) -> None:
    lock_file(tmp_path / "x").write_bytes(content)
    with reading([tmp_path / "x"]):
        pass
    lock_file(tmp_path / "x").write_bytes(content)
    with FileLock(lock_file(tmp_path / "x")), pytest.raises(VQBrainError, match="is in use by"):
        hold(tmp_path / "x")


@pytest.mark.parametrize("refused", [PermissionError, NotADirectoryError])
def test_a_run_that_others_may_only_read_is_read_without_a_lock(
    refused: type[OSError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> int:
        raise refused

    monkeypatch.setattr(locks.os, "open", refuse)
    with using([tmp_path / "2-slices", tmp_path / "missing" / "default"]):
        pass
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_locks_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    with reading([tmp_path / "x"]):
        pass


def test_an_interrupted_publication_is_completed_before_its_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / ".3-vqvae.new").mkdir()
    with using([tmp_path / "3-vqvae"]):
        assert (tmp_path / "3-vqvae").is_dir()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return make_run(tmp_path_factory.mktemp("locked") / "run")


def folders(run: RunFolder) -> dict[str, Path]:
    stages = (run.slices, run.vqvae, run.codes, run.prior, run.report)
    sets = (run.sample_set("default"), run.sample_set("other"))
    return {path.name: path for path in (*stages, *sets)}


def locked(run: RunFolder) -> set[str]:
    return {name for name, path in folders(run).items() if not is_free(path)}


OPTIONS = {"name": "other", "known": None, "mask": None}


@pytest.mark.parametrize(
    ("begin", "stage", "inputs"),
    [
        (lambda run: training.begin_training(run, "vqvae"), "3-vqvae", "2-slices"),
        (codes.begin_codes, "4-codes", "2-slices 3-vqvae"),
        (
            lambda run: training.begin_training(run, "prior"),
            "5-prior",
            "2-slices 3-vqvae 4-codes",
        ),
        (
            lambda run: sampling.begin_samples(run, OPTIONS),
            "other",
            "2-slices 3-vqvae 4-codes 5-prior",
        ),
    ],
)
def test_a_stage_keeps_its_inputs_until_it_ends(
    begin: Callable[[Path], Any], stage: str, inputs: str, run: RunFolder
) -> None:
    begin(run.path)
    assert locked(run) == {stage, *inputs.split()}
    leave_stage(folders(run)[stage])
    assert locked(run) == set()


@pytest.mark.parametrize("first", ["4-codes", "5-prior"])
def test_a_stage_does_not_begin_while_an_input_is_made(first: str, run: RunFolder) -> None:
    with FileLock(lock_file(folders(run)[first])):
        with pytest.raises(VQBrainError, match=f"{first} is in use by"):
            sampling.begin_samples(run.path, OPTIONS)
        leave_stage(folders(run)["other"])
    assert locked(run) == set()


def test_two_sets_of_samples_are_drawn_at_a_time(run: RunFolder) -> None:
    sampling.begin_samples(run.path, OPTIONS)
    with reading([run.prior]):
        assert is_free(run.sample_set("default"))
    leave_stage(run.sample_set("other"))


def test_evaluate_and_report_keep_the_whole_run(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[set[str]] = []

    def look(*_: Any) -> Path:
        found.append(locked(run))
        return run.report

    monkeypatch.setattr(evaluate_stage, "_evaluate", look)
    monkeypatch.setattr(report_stage, "render", look)
    monkeypatch.setattr(RunFolder, "need", lambda *_: None)
    evaluate_stage.evaluate(run.path)
    report_stage.report(run.path)
    inputs = {"2-slices", "3-vqvae", "4-codes", "5-prior", "default"}
    assert found == [inputs, inputs | {"7-report"}]
    assert locked(run) == set()


def test_a_second_writer_in_one_process_is_the_first(tmp_path: Path) -> None:
    hold(tmp_path / "x")
    hold(tmp_path / "x")
    with using([tmp_path / "x"]):
        assert not is_free(tmp_path / "x")
    unlock(tmp_path / "x")
    assert is_free(tmp_path / "x")


@pytest.mark.parametrize(
    ("program", "command"),
    [
        ("/bin/vqbrain", "vqbrain encode R"),
        ("/x/monai_vqbrain/__main__.py", "python -m monai_vqbrain encode R"),
        ("/x/monai/bundle/__main__.py", "python -m monai.bundle encode R"),
    ],
)
def test_the_command_is_named_as_it_was_typed(
    program: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [program, "encode", "R"])
    assert locks.command_line() == command
