"""What gets installed, with what, and how light the package's door is."""

from __future__ import annotations

import configparser
import importlib
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from setuptools import find_packages

import monai_vqbrain

ROOT = Path(__file__).parents[1]
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")
EXTRAS = list(SETUP["options.extras_require"])
FUNCTIONS = {
    "check", "prepare", "train_vqvae", "train_prior", "encode", "sample", "reconstruct", "score",
    "evaluate", "evaluate_images", "report", "demo", "run_pipeline", "list_bundles",
    "export_bundle", "verify_bundle", "list_configs", "copy_config",
}  # fmt: skip
HEAVY = ("torch", "monai", "numpy", "pandas", "nibabel", "matplotlib", "ignite")


def constraints() -> dict[str, str]:
    """Package -> its one version."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = (line.split("==") for line in lines if not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pins}


def python(code: str, **environment: str) -> str:
    """Run `code` in a new interpreter; what it printed."""
    env = os.environ | environment
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=env
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_every_sub_package_is_listed() -> None:
    listed = set(SETUP["options"]["packages"].split())
    found = set(find_packages(str(ROOT), include=["monai_vqbrain", "monai_vqbrain.*"]))
    assert listed == found | {"monai_vqbrain.bundles"}


def test_the_wheel_holds_every_file_of_the_package_and_the_bundles(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("monai_vqbrain", "bundles"):
        shutil.copytree(ROOT / name, source / name, ignore=caches_and_links)

    # With neither --sdist nor --wheel the wheel is made from the sdist: both are tested at once.
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), "."]
    run = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr

    file = next(tmp_path.glob("*.whl"))
    with zipfile.ZipFile(file) as wheel:
        inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
    expected = {file_in_wheel(path.relative_to(source)) for path in package_files(source)}
    assert inside == expected
    assert file.name.split("-")[:2] == ["monai_vqbrain", monai_vqbrain.__version__]


def caches_and_links(folder: str, names: list[str]) -> set[str]:
    """What a wheel must not need: byte code, and the links that spare a checkout some typing."""
    return {n for n in names if n == "__pycache__" or (Path(folder) / n).is_symlink()}


def package_files(source: Path) -> list[Path]:
    """Every file that belongs to the package."""
    folders = (source / "monai_vqbrain", source / "bundles")
    return [path for folder in folders for path in folder.rglob("*") if path.is_file()]


def file_in_wheel(path: Path) -> str:
    """`bundles/x` is installed as `monai_vqbrain/bundles/x`."""
    return path.as_posix() if path.parts[0] != "bundles" else f"monai_vqbrain/{path.as_posix()}"


def test_the_constraints_are_whole_and_serve_every_build_of_torch() -> None:
    pins = constraints()
    assert pins["torch"] == "2.13.0"
    assert not [f"{name}=={version}" for name, version in pins.items() if "+" in version]
    assert not sorted(needed("monai-vqbrain", extras=EXTRAS) - pins.keys())


def needed(root: str, extras: list[str]) -> set[str]:
    """Every package that `root` needs here, directly or not.

    A package that another pins exactly (a CUDA library of torch's) needs no constraint, and what
    is not installed here is named but not followed.
    """
    found: set[str] = set()
    waiting = [(root, extra) for extra in ["", *extras]]
    seen = set(waiting)
    while waiting:
        package, extra = waiting.pop()
        for requirement in requirements(package, extra):
            name = canonicalize_name(requirement.name)
            if not any(part.operator == "==" for part in requirement.specifier):
                found.add(name)
            new = {(name, e) for e in ["", *requirement.extras]} - seen
            seen |= new
            waiting += new
    return found - {canonicalize_name(root)}


def requirements(package: str, extra: str) -> list[Requirement]:
    """What an installed package asks for on this machine with this extra."""
    try:
        lines = requires(package) or []
    except PackageNotFoundError:
        return []
    all_of_them = map(Requirement, lines)
    return [r for r in all_of_them if r.marker is None or r.marker.evaluate({"extra": extra})]


@pytest.mark.parametrize("module", ["monai_vqbrain", "monai_vqbrain.cli"])
def test_importing_the_door_imports_nothing_heavy(module: str) -> None:
    print_heavy = f"import sys, {module}; print(*(set({HEAVY}) & set(sys.modules)))"
    assert python(print_heavy) == ""


def public(name: str) -> object:
    """What `monai_vqbrain` offers under a name."""
    return getattr(monai_vqbrain, name)


def test_the_public_names_are_those_of_components_and_the_stages() -> None:
    components = importlib.import_module("monai_vqbrain.components")
    classes = {
        name: value
        for name, value in vars(components).items()
        if inspect.isclass(value) and value.__module__.startswith("monai_vqbrain.")
    }
    functions = {name for name in monai_vqbrain.__all__ if inspect.isfunction(public(name))}
    assert functions == FUNCTIONS
    assert sorted(monai_vqbrain.__all__) == sorted(["__version__", *classes, *functions])
    for name, value in classes.items():
        assert getattr(monai_vqbrain, name) is value


def test_an_unknown_name_is_said_as_python_says_it() -> None:
    with pytest.raises(AttributeError, match="No monai_vqbrain attribute BrainVAE"):
        _ = monai_vqbrain.BrainVAE


def test_one_version_everywhere() -> None:
    version = monai_vqbrain.__version__
    assert SETUP["metadata"]["version"] == "attr: monai_vqbrain.__version__"
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    cited = re.search(r"^version: (\S+)", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert newest is not None
    assert cited is not None
    assert {newest[1], cited[1]} == {version}


@pytest.mark.parametrize("name", ["vqvae", "pixelcnn"])
def test_the_bundles_have_the_version_of_the_package(name: str) -> None:
    metadata = json.loads((ROOT / "bundles" / name / "configs" / "metadata.json").read_text())
    needed = metadata["required_packages_version"]["monai-vqbrain"]
    newest = next(iter(metadata["changelog"]))
    assert {metadata["version"], needed, newest} == {monai_vqbrain.__version__}


def test_readme_gives_both_commands_from_nothing() -> None:
    text = (ROOT / "README.md").read_text()
    install = "python3 -m venv .venv && .venv/bin/pip install -c constraints.txt -e "
    assert f"{install}. && .venv/bin/vqbrain demo\n" in text
    assert f'{install}".[test]" && .venv/bin/pytest -n 2 --dist loadfile\n' in text
