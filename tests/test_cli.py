"""The command line as its users meet it: help, errors in one line, exit codes."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import monai_vqbrain
from monai_vqbrain import cli, cohorts, options
from monai_vqbrain.errors import UnexpectedError
from monai_vqbrain.terminal import show_error

COMMANDS = (
    "demo", "run", "check", "prepare", "train", "encode", "sample", "reconstruct", "evaluate",
    "report",
)  # fmt: skip


def call(*words: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["vqbrain", *words])
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_help_comes_at_once_and_imports_nothing_heavy() -> None:
    code = "import sys\nsys.argv = ['vqbrain', '--help']\nfrom monai_vqbrain import cli\n"
    code += "try:\n    cli.main()\nexcept SystemExit:\n    pass\n"
    code += "assert not {'torch', 'monai', 'numpy', 'nibabel'} & set(sys.modules)"
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert time.perf_counter() - began < 2  # half a second on an idle machine


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    result = CliRunner().invoke(cli.vqbrain, [command, "--help"])
    assert result.exit_code == 0
    assert f"Example: vqbrain {command}" in result.output


def test_commands_are_listed_in_the_order_of_the_pipeline() -> None:
    text = CliRunner().invoke(cli.vqbrain, ["--help"]).output.partition("Commands:")[2]
    places = [text.index(f"  {command} ") for command in COMMANDS]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["check", "no/such/folder"], 2, "no/such/folder"),
        (["prepare", "no/such/folder", "RUN"], 2, "no/such/folder"),
        (["train", "vqvae", "RUN"], 2, "first run: vqbrain prepare SOURCE"),
        (["train", "gan", "RUN"], 2, "'gan' is not one of"),
        (["train", "vqvae", "RUN", "--set", "optimiser#lr=1"], 2, "did you mean optimizer"),
        (["train", "vqvae", "RUN", "--minutes", "1", "--epochs", "1"], 2, "give one of them"),
        (["train", "vqvae", "RUN", "--device", "gpu"], 2, "choose auto, cpu, cuda or cuda:N"),
        (["encode", "RUN"], 2, "first run: vqbrain prepare SOURCE"),
        (["sample", "RUN", "-n", "0"], 2, "0 is not in the range x>=1"),
        (["evaluate", "RUN"], 2, "first run: vqbrain prepare SOURCE"),
        (["check", ".", "--axis", "axiol"], 2, "'axiol' is not one of"),
        (["check", ".", "--column", "group"], 2, "write NAME=COLUMN"),
        (["nonsense"], 2, "No such command"),
    ],
)
def test_mistakes_get_one_line(
    words: list[str],
    code: int,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(*words, monkeypatch=monkeypatch) == code
    error = capsys.readouterr().err
    assert expected in error
    assert "Traceback" not in error
    assert len([line for line in error.splitlines() if line.startswith("Error")]) == 1


def test_an_empty_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("check", str(tmp_path), monkeypatch=monkeypatch) in (1, 2)
    assert str(tmp_path) in capsys.readouterr().err


def test_the_unexpected_shows_its_traceback_only_when_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyError("inside")

    monkeypatch.setattr("monai_vqbrain.stages.encode.encode", fail)
    assert call("encode", "RUN", monkeypatch=monkeypatch) == 1
    assert "Error: KeyError: 'inside' (unexpected: the same command with --debug" in (
        capsys.readouterr().err
    )
    monkeypatch.setattr(sys, "argv", ["vqbrain", "encode", "RUN", "--debug"])
    with pytest.raises(KeyError):
        cli.main()


def test_an_interrupt_says_what_is_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("monai_vqbrain.stages.encode.encode", interrupt)
    assert call("encode", "RUN", monkeypatch=monkeypatch) == 1
    told = capsys.readouterr().err
    assert "interrupted; finished work is kept" in told
    assert "--resume" not in told  # that is said where there is something to resume


def test_what_a_bundle_did_not_foresee_names_debug_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise UnexpectedError("train.json stopped: KeyError: 'inside'")

    monkeypatch.setattr("monai_vqbrain.stages.encode.encode", fail)
    assert call("encode", "RUN", monkeypatch=monkeypatch) == 1
    expected = (
        "Error: train.json stopped: KeyError: 'inside' (unexpected: the same command with --d"
    )
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "shown"), [(["-q"], []), ([], ["info"]), (["-v"], ["debug", "info"])]
)
def test_verbosity_decides_which_messages_are_shown(
    words: list[str],
    shown: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def talk(*_: object, **__: object) -> None:
        logger = logging.getLogger("monai_vqbrain.stages.encode")
        logger.debug("debug")
        logger.info("info")
        logger.warning("look out")

    monkeypatch.setattr("monai_vqbrain.stages.encode.encode", talk)
    assert call("encode", "RUN", *words, monkeypatch=monkeypatch) == 0
    result = capsys.readouterr()
    assert result.out.split() == shown
    assert result.err == "Warning: look out\n"
    assert logging.getLogger().manager.disable == logging.NOTSET


def test_options_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    devices: list[str] = []
    monkeypatch.setattr(
        "monai_vqbrain.stages.encode.encode", lambda _, *, device: devices.append(device)
    )
    monkeypatch.setenv("VQBRAIN_DEVICE", "cuda:1")
    assert call("encode", "RUN", monkeypatch=monkeypatch) == 0
    assert devices == ["cuda:1"]
    help_text = CliRunner().invoke(cli.vqbrain, ["encode", "--help"]).output
    assert "VQBRAIN_DEVICE" in help_text


def test_choices_are_shown_in_help_and_completed() -> None:
    assert ("auto", *cohorts.LAYOUTS) == options.LAYOUTS
    text = CliRunner().invoke(cli.vqbrain, ["check", "--help"]).output
    for choices in ("auto|caps|bids|loni", "axial|coronal|sagittal", "auto|none|rigid|affine"):
        assert choices in text
    env = {"COMP_WORDS": "vqbrain train ", "COMP_CWORD": "2", "_VQBRAIN_COMPLETE": "bash_complete"}
    completed = CliRunner().invoke(cli.vqbrain, [], prog_name="vqbrain", env=env)
    assert completed.output.split() == ["plain,vqvae", "plain,prior"]


def test_the_module_is_the_command() -> None:
    command = [sys.executable, "-m", "monai_vqbrain", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"vqbrain, version {monai_vqbrain.__version__}"


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        ("optimizer#lr=0.1", ("optimizer#lr", 0.1)),
        ("condition_on=auto", ("condition_on", "auto")),
        ("network_def#blocks=[1, 2]", ("network_def#blocks", [1, 2])),
        ("mlflow=a=b", ("mlflow", "a=b")),
    ],
)
def test_a_pair_is_a_name_and_a_value(pair: str, expected: tuple[str, object]) -> None:
    kind = options.NameValue("ID=VALUE", "optimizer#lr=0.0005", options.json_or_text)
    assert kind.convert(pair, None, None) == expected


@pytest.mark.parametrize("pair", ["optimizer", "=3"])
def test_what_is_no_pair_is_refused(pair: str) -> None:
    kind = options.NameValue("ID=VALUE", "optimizer#lr=0.0005")
    with pytest.raises(click.BadParameter, match="write ID=VALUE, for example optimizer#lr=0.0005"):
        kind.convert(pair, None, None)


def test_an_error_is_one_line_whatever_it_names(capsys: pytest.CaptureFixture[str]) -> None:
    show_error("no file a\n\tb\x1b[31m  c: choose\r\nanother")
    assert capsys.readouterr().err == "Error: no file a b\\x1b[31m  c: choose another\n"
