"""Messages: a logger per module, log.txt in each stage's folder, no participant in it."""

from __future__ import annotations

import ast
import json
import logging
import shutil
from pathlib import Path

import pytest

from monai_vqbrain import logs
from monai_vqbrain.stages.evaluate import evaluate

PACKAGE = Path(logs.__file__).parent
LOGGED = ("2-slices", "3-vqvae", "4-codes", "5-prior", "6-samples/default", "7-report")


def test_every_stage_leaves_a_log_without_participants(trained_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained_run, tmp_path / "run"))
    evaluate(run)
    participants = {
        line.split("\t")[0]
        for line in (run / "2-slices/participants.tsv").read_text().splitlines()[1:]
    }
    assert participants
    for name in LOGGED:
        text = (run / name / "log.txt").read_text()
        assert " INFO " in text
        assert not [participant for participant in participants if participant in text]
        assert "log.txt" not in json.loads((run / name / "provenance.json").read_text())["files"]
    assert not [one for one in logging.getLogger("monai_vqbrain").handlers
                if isinstance(one, logs.StageLog)]  # fmt: skip


def test_a_private_message_reaches_no_file(tmp_path: Path) -> None:
    logger = logging.getLogger("monai_vqbrain.stages.prepare")
    with logs.logging_to(tmp_path):
        logger.info("two problems")
        logger.warning("sub-01 is damaged", extra=logs.PRIVATE)
        logger.debug("details")
    logger.info("after")
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert [line.split(" INFO    ")[1] for line in lines] == [
        f"{tmp_path.name}: started", "two problems", f"{tmp_path.name}: ended",
    ]  # fmt: skip


def test_a_folder_that_is_gone_ends_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    with logs.logging_to(folder):
        shutil.rmtree(folder)
        logging.getLogger("monai_vqbrain.x").info("into the void")
    assert not folder.exists()


COMMAND_LINE = (
    "cli.py", "bundle_commands.py", "options.py", "setup_commands.py", "terminal.py",
)  # fmt: skip


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.name)
def test_nothing_prints_and_loggers_are_those_of_their_module(file: Path) -> None:
    tree = ast.parse(file.read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    names = [ast.unparse(call.func) for call in calls]
    assert "print" not in names
    assert "logging.disable" not in names
    if file.name not in COMMAND_LINE:
        assert "click.echo" not in names
        named = {text for text in map(ast.unparse, calls) if text.startswith("logging.getLogger(")}
        assert named <= {"logging.getLogger(__name__)", "logging.getLogger('monai_vqbrain')"}
