"""The table of environment variables in the docs is that of the code."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from monai_vqbrain.cli import vqbrain

ROOT = Path(__file__).parents[1]
EVERY = "every command"


def commands(group: click.Group = vqbrain, before: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command with its words, those of groups too."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def variables_of_options() -> dict[tuple[str, str], set[str]]:
    """(variable, option) -> commands."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for name, command in commands():
        for param in command.params:
            if isinstance(param.envvar, str):
                found[param.envvar, param.opts[-1]].add(name)
    return found


def table() -> Mapping[str, str]:
    """Variable -> what it sets, of the page."""
    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^\| `(_?VQBRAIN_\w+)` \| ([^|]+) \|", page, re.MULTILINE))


def test_each_option_with_a_variable_is_in_the_table_with_its_commands() -> None:
    shown = table()
    for (variable, option), names in variables_of_options().items():
        words = re.findall(r"`([^`]+)`", shown[variable])
        assert words[0] == option
        if EVERY in shown[variable]:
            assert names == {name for name, _ in commands()}
        else:
            assert words[1:] == sorted(names), variable


def test_the_table_has_no_other_variables_than_the_code() -> None:
    options = {variable for variable, _ in variables_of_options()}
    files = [*(ROOT / "monai_vqbrain").rglob("*.py"), *(ROOT / "tests").rglob("conftest.py")]
    code = " ".join(path.read_text(encoding="utf-8") for path in files)
    read = set(re.findall(r"_?VQBRAIN_[A-Z_]+[A-Z]", code))
    assert set(table()) == options | read
