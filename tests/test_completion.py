"""Shell completion: the scripts, and what they complete."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from monai_vqbrain.cli import vqbrain
from monai_vqbrain.options import LAYOUTS
from monai_vqbrain.setup_commands import SHELLS, VARIABLE

PAGE = Path(__file__).parents[1] / "docs" / "shell-completion.md"


def script(shell: str) -> str:
    done = CliRunner().invoke(vqbrain, ["completion", shell], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def completed(line: str) -> list[str]:
    """What bash offers for a line; values without their kind."""
    words = line.split(" ")
    env = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), VARIABLE: "bash_complete"}
    done = CliRunner().invoke(vqbrain, [], prog_name="vqbrain", env=env)
    return [line.partition(",")[2] for line in done.output.split()]


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_gets_its_script(shell: str) -> None:
    text = script(shell)
    assert f"{VARIABLE}={shell}_complete" in text
    assert "vqbrain" in text
    program = shutil.which(shell)
    if program is not None:  # the shell can read it
        check = subprocess.run(
            [program, "-n"], input=text, text=True, capture_output=True, check=False
        )
        assert (check.returncode, check.stderr) == (0, "")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("vqbrain pre", ["prepare"]),
        ("vqbrain completion ", [*SHELLS]),
        ("vqbrain prepare a b --layout ", [*LAYOUTS]),
        ("vqbrain run a b --align ", ["auto", "none", "rigid", "affine"]),
        ("vqbrain run a b --brain d", ["deepbet"]),
        ("vqbrain train vqvae r --size ", ["small", "base", "large"]),
        ("vqbrain encode r --device c", ["cpu", "cuda"]),
        ("vqbrain run a b --minu", ["--minutes"]),
    ],
)
def test_commands_options_and_choices_are_completed(line: str, expected: list[str]) -> None:
    assert completed(line) == expected


def test_folders_are_left_to_the_shell() -> None:
    env = {"COMP_WORDS": "vqbrain encode ", "COMP_CWORD": "2", VARIABLE: "bash_complete"}
    done = CliRunner().invoke(vqbrain, [], prog_name="vqbrain", env=env)
    assert done.output.split(",")[0] == "dir"


def test_the_page_has_a_line_for_each_shell() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert set(re.findall(r"vqbrain completion (\w+) >", page)) == set(SHELLS)
