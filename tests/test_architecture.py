"""Who may know whom: cli -> stages -> runs -> engines ... -> networks ... -> leaf modules.

Bundle configurations count: they name components and `runs`, nothing of `stages`.
"""

from __future__ import annotations

import ast
import importlib
import json
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigComponent

from monai_vqbrain import components  # noqa: F401  (MONAI's locator then finds ours)

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "monai_vqbrain"
NAME = "monai_vqbrain"

# Each level may import the levels below it, and its own neighbours as long as no circle arises.
LEVELS = (
    {
        "cli", "__main__", "bundle_commands", "options", "run_command", "setup_commands",
        "terminal",
    },
    {"stages"},
    {"doctor", "runs"},
    {"components"},
    {"engines", "inferers", "interop", "cohorts"},
    {"handlers", "losses", "networks", "transforms", "metrics"},
    {
        "cells", "contents", "documents", "errors", "files", "locks", "logs", "memory", "processes",
        "progress", "provenance", "ranks", "selection", "tables", "team", "weights", "__init__",
    },
)  # fmt: skip
COMPONENT_HALF = {
    "transforms", "networks", "inferers", "interop", "engines", "handlers", "losses", "metrics",
}  # fmt: skip
LIGHT = {"__future__", "collections", "contextlib", "functools", "json", "logging", "os"} | {
    "pathlib", "re", "shutil", "signal", "sys", "textwrap", "time", "typing", "warnings", "click",
    NAME,
}  # fmt: skip
COMMANDS = {
    "check", "prepare", "train", "encode", "sample", "reconstruct", "score", "evaluate", "report",
    "demo", "run", "bundle", "config",
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


def test_modules_form_no_circle() -> None:
    modules = {".".join(file.relative_to(ROOT).with_suffix("").parts): file for file in FILES}
    graph = {}
    for name, file in modules.items():
        top = imports(list(ast.parse(file.read_text()).body))
        graph[name] = {other for other in top if other in modules and other != name}
    TopologicalSorter(graph).prepare()


def test_the_stages_are_one_file_per_command_and_four_rooms() -> None:
    stages = PACKAGE / "stages"
    assert {file.stem for file in stages.glob("*.py")} == COMMANDS | {"__init__"}
    rooms = {folder.name for folder in stages.iterdir() if list(folder.glob("*.py"))}
    assert rooms == {"slicing", "images", "reporting", "exporting"}


def test_components_holds_the_component_half_only() -> None:
    assert parts_used(PACKAGE / "components.py") <= COMPONENT_HALF


@pytest.mark.parametrize("part", sorted(COMPONENT_HALF | {"runs"}))
def test_components_and_runs_know_no_command_line(part: str) -> None:
    for file in (PACKAGE / part).rglob("*.py"):
        tree = ast.parse(file.read_text())
        names = imports(list(ast.walk(tree)))
        assert not {name for name in names if name.split(".")[0] == "click"}, file
        texts = [
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        # MONAI's own command and torchrun's may be written out
        advice = [
            text
            for text in texts
            if re.search(r"(^|[\s(`'\"])--(?!config_file|nproc_per_node)[a-z]", text)
        ]
        assert not advice, f"{file} speaks of command-line options"


@pytest.mark.parametrize("part", sorted(COMPONENT_HALF))
def test_components_know_no_run_folder(part: str) -> None:
    for file in (PACKAGE / part).rglob("*.py"):
        assert not re.search(r"RunFolder|[2-7]-(slices|vqvae|codes|prior)", file.read_text()), file


def test_the_command_line_imports_nothing_heavy_until_a_command_runs() -> None:
    command_line = LEVELS[0] - {"__main__"}
    files = [PACKAGE / f"{name}.py" for name in command_line]
    top = imports([node for file in files for node in ast.parse(file.read_text()).body])
    heavy = {name for name in top if name.split(".")[0] not in LIGHT}
    assert not heavy
    assert parts_used_at_the_top(top) <= {"cells", "errors"} | command_line


def parts_used_at_the_top(names: set[str]) -> set[str]:
    """Our own parts among imported names."""
    return {name.split(".")[1] for name in names if name.startswith(f"{NAME}.")} & set().union(
        *LEVELS
    )


HOMES = {"torch", "monai", "ignite", f"{NAME}.runs", *(f"{NAME}.{part}" for part in COMPONENT_HALF)}
CONFIGS = sorted((ROOT / "bundles").glob("*/configs/*.json"))


def strings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every string of a configuration with the key that it stands under; keys themselves too."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield "key", name
            yield from strings(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner, key)
    elif isinstance(value, str):
        yield key, value


def home_of(target: str) -> str:
    """The package and part that a `_target_` comes from, as MONAI finds it."""
    found = ConfigComponent({"_target_": target}).resolve_module_name()
    path = found if isinstance(found, str) else found.__module__
    return ".".join(path.split(".")[:2]) if path.startswith(f"{NAME}.") else path.split(".")[0]


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: f"{file.parts[-3]}/{file.name}")
def test_a_configuration_names_components_and_runs_only(file: Path) -> None:
    config = json.loads(file.read_text())
    modules = {}
    for line in config.get("imports", []):
        name, _, alias = line.removeprefix("$import ").partition(" as ")
        modules[alias or name] = name
    allowed = {"torch", "monai", f"{NAME}.components"}
    runs = {alias: name for alias, name in modules.items() if name not in allowed}
    assert all(name.startswith(f"{NAME}.runs.") for name in runs.values()), runs
    for key, text in strings(config):
        if key == "_target_":
            assert home_of(text) in HOMES, text
        for alias, function in re.findall(r"(?<![\w.])([a-z_]+)\.([A-Za-z_]+)\(", text):
            if alias in runs:
                assert hasattr(importlib.import_module(runs[alias]), function), text


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: f"{file.parts[-3]}/{file.name}")
def test_a_configuration_refers_to_names_not_to_places_in_a_list(file: Path) -> None:
    places = [text for _, text in strings(json.loads(file.read_text())) if re.search(r"#\d", text)]
    assert not places, "give the object an id of its own"
