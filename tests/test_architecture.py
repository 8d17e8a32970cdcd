"""Who may import whom: cli -> stages -> engines ... -> networks ... -> leaf modules, never back."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "monai_vqbrain"
NAME = "monai_vqbrain"

# Each level may import the levels below it, and its own neighbours as long as no circle arises.
LEVELS = (
    {"cli"},
    {"stages"},
    {"components"},
    {"runs", "engines", "inferers", "cohorts"},
    {"handlers", "losses", "networks", "transforms", "metrics"},
    {"errors", "files", "progress", "provenance", "__init__"},
)
COMPONENT_HALF = {
    "transforms", "networks", "inferers", "engines", "handlers", "losses", "metrics",
}  # fmt: skip
LIGHT = {"__future__", "collections", "contextlib", "functools", "json", "os", "pathlib", "re"} | {
    "shutil", "sys", "textwrap", "time", "typing", "warnings", "click", NAME,
}  # fmt: skip


def part_of(file: Path) -> str:
    """The part of the package that a file belongs to: `networks/vqvae.py` -> `networks`."""
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(nodes: list[ast.AST]) -> set[str]:
    """Full names of what these nodes import: `from monai_vqbrain import files` gives both names."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"a relative import on line {node.lineno}: write it in full"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def parts_used(file: Path) -> set[str]:
    """The parts that a file imports anywhere in it, inside functions too."""
    names = imports(list(ast.walk(ast.parse(file.read_text()))))
    ours = {name.split(".")[1] for name in names if name.startswith(f"{NAME}.")}
    return ours & set().union(*LEVELS)


FILES = sorted(PACKAGE.rglob("*.py"))


def test_every_part_of_the_package_has_its_level() -> None:
    unknown = {part_of(file) for file in FILES} - set().union(*LEVELS)
    assert not unknown, f"give these a place in LEVELS: {sorted(unknown)}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_no_file_imports_a_level_above_its_own(file: Path) -> None:
    level = next(i for i, parts in enumerate(LEVELS) if part_of(file) in parts)
    above = set().union(*LEVELS[:level])
    assert not parts_used(file) & above, "a part below must not know the parts above it"


def test_parts_form_no_circle() -> None:
    graph: dict[str, set[str]] = {}
    for file in FILES:
        graph.setdefault(part_of(file), set()).update(parts_used(file) - {part_of(file)})
    TopologicalSorter(graph).prepare()  # raises CycleError and names the circle


def test_components_holds_the_component_half_only() -> None:
    assert parts_used(PACKAGE / "components.py") <= COMPONENT_HALF


@pytest.mark.parametrize("part", sorted(COMPONENT_HALF))
def test_the_component_half_knows_no_command_line(part: str) -> None:
    for file in (PACKAGE / part).rglob("*.py"):
        names = imports(list(ast.walk(ast.parse(file.read_text()))))
        assert not {name for name in names if name.split(".")[0] == "click"}, file


def test_the_command_line_imports_nothing_heavy_until_a_command_runs() -> None:
    top = imports(list(ast.parse((PACKAGE / "cli.py").read_text()).body))
    heavy = {name for name in top if name.split(".")[0] not in LIGHT}
    assert not heavy
    assert parts_used_at_the_top(top) <= {"errors"}


def parts_used_at_the_top(names: set[str]) -> set[str]:
    """Our own parts among imported names."""
    return {name.split(".")[1] for name in names if name.startswith(f"{NAME}.")} & set().union(
        *LEVELS
    )
