"""What the pages of the docs quote from the program is there: messages, limits, options."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from monai_vqbrain.cli import vqbrain
from monai_vqbrain.stages.reporting.scorecard import LIMITS, MIN_SAMPLES

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
VARIABLE = "..."  # what differs from message to message


def text_of(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def messages() -> Iterator[str]:
    """Every text of the package's code, with `...` for what is filled in."""
    for file in (ROOT / "monai_vqbrain").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [v.value if isinstance(v, ast.Constant) else VARIABLE for v in node.values]
                yield "".join(map(str, parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield re.sub(r"%(\.\d)?[dfgs]", VARIABLE, node.value)


def test_each_message_in_the_troubleshooting_page_is_one_of_the_program() -> None:
    quoted = re.findall(r"^### `(.+)`$", text_of("troubleshooting.md"), flags=re.MULTILINE)
    known = list(messages())
    assert len(quoted) >= 20
    assert [quote for quote in quoted if not any(quote in one for one in known)] == []


def test_the_page_on_reading_the_report_has_the_scorecards_limits() -> None:
    page = text_of("reading-the-report.md")
    shown = re.findall(r"^\| [^|]+\? \| [^|]+ \| ([\d.]+) \| ([\d.]+) \|$", page, re.MULTILINE)
    limits = [(one.reference, one.tolerated) for one in LIMITS.values()]
    assert [(float(a), float(b)) for a, b in shown] == limits
    assert f"at least {MIN_SAMPLES} samples" in page


def options_of(command: click.Command) -> set[str]:
    names = {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
    inner = command.commands.values() if isinstance(command, click.Group) else ()
    return names.union(*(options_of(one) for one in inner))


def commands(text: str) -> Iterator[str]:
    """The lines of a page's code blocks that call vqbrain, without their comments."""
    for block in re.findall(r"^```(?:console|text)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if line.removeprefix("$ ").startswith("vqbrain "):
                yield line.removeprefix("$ ").partition("  #")[0]


@pytest.mark.parametrize("page", sorted(path.name for path in DOCS.glob("*.md")))
def test_commands_on_a_page_have_the_options_that_they_use(page: str) -> None:
    for line in commands(text_of(page)):
        words = line.split()[1:]
        command = vqbrain.commands.get(next(w for w in words if not w.startswith("-")))
        assert command is not None, line
        known = options_of(command) | {"--help", "--version"}
        used = {
            word.partition("=")[0].strip("[]") for word in words if re.match(r"\[?--?[a-z]", word)
        }
        assert used <= known, line
