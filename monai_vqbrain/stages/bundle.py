"""The shipped MONAI bundles: where they lie, and how a stage runs one."""

from __future__ import annotations

import difflib
import inspect
import json
import logging
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from monai.bundle import ConfigParser, ConfigWorkflow

from monai_vqbrain import components
from monai_vqbrain.errors import UsageError, VQBrainError

BUNDLES = ("vqvae", "pixelcnn")


def bundle_folder(name: str) -> Path:
    """The shipped bundle of that name: in a wheel inside the package, in a checkout beside it.

    Raises:
        VQBrainError: if the installation lacks it.
    """
    package = Path(__file__).resolve().parents[1]
    for bundles in (package / "bundles", package.parent / "bundles"):
        if (bundles / name / "configs" / "metadata.json").is_file():
            return bundles / name
    raise VQBrainError(f"the bundle {name} is not in {package}: install monai-vqbrain again")


def bundle_root(name: str) -> str:
    """The bundle of a configuration: the current folder if it is that bundle, else the shipped."""
    metadata = Path("configs/metadata.json")
    if metadata.is_file() and json.loads(metadata.read_text()).get("name") == f"vqbrain_{name}":
        return str(Path.cwd())
    return str(bundle_folder(name))


def run_bundle(
    name: str,
    config: str,
    ids: Mapping[str, Any],
    overrides: Mapping[str, Any] | None = None,
) -> None:
    """Run a shipped bundle as `python -m monai.bundle run` would.

    Args:
        name: "vqvae" or "pixelcnn".
        config: "train", "evaluate" or "inference".
        ids: values of the configuration's ids, from a stage; a device of "auto" is left out.
        overrides: values from a person, checked first by `parse_overrides`.

    Raises:
        VQBrainError: whatever a component of ours raised, without MONAI's wrapping.
    """
    quiet()
    folder = bundle_folder(name) / "configs"
    ids = {key: value for key, value in ids.items() if (key, value) != ("device", "auto")}
    workflow = ConfigWorkflow(
        config_file=str(folder / f"{config}.json"),
        meta_file=str(folder / "metadata.json"),
        logging_file=str(folder / "logging.conf"),
        workflow_type="train" if config == "train" else "infer",
        run_id="training" if config == "train" else "run",
        **ids,
        **(overrides or {}),
    )
    try:
        workflow.initialize()
        workflow.run()
        workflow.finalize()
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, VQBrainError):
            cause = cause.__cause__  # MONAI wraps what a configuration raises
        if cause is None:
            raise
        raise cause from error


def bundle_command(
    name: str, config: str, ids: Mapping[str, Any], overrides: Mapping[str, Any] | None = None
) -> str:
    """The shell command that does the same."""
    file = bundle_folder(name) / "configs" / f"{config}.json"
    run = "training" if config == "train" else "run"
    words = ["python", "-m", "monai.bundle", "run", run, "--config_file", str(file)]
    for key, value in {**ids, **(overrides or {})}.items():
        if (key, value) != ("device", "auto"):
            words += [f"--{key}", value if isinstance(value, str) else json.dumps(value)]
    return shlex.join(words)


def default(name: str, config: str, key: str) -> Any:
    """The value of an id as the shipped configuration has it."""
    return _parser(name, config)[key]


def parse_overrides(name: str, config: str, pairs: tuple[str, ...]) -> dict[str, Any]:
    """ID=VALUE pairs from the command line as data, each checked against the configuration.

    Values are JSON where they parse as JSON, else text.

    Raises:
        UsageError: for a pair without "=", an id that is not there, a value that MONAI would
            evaluate.
    """
    parser = _parser(name, config)
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise UsageError(f"--set needs ID=VALUE, got {pair!r}: for example optimizer#lr=0.0005")
        if text[:1] in "$@%" and text:
            raise UsageError(
                f"--set {key}: {text!r} would be run as code by MONAI, and only plain values are "
                "taken here: edit a copy of the bundle's configuration instead"
            )
        _check_id(parser, key.replace("::", "#"), f"{name}/{config}.json")
        found[key.replace("::", "#")] = _value(text)
    return found


def quiet() -> None:
    """Keep the chatter of MONAI's workflow and ignite's engines off the terminal."""
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] in ("monai", "ignite"):
            logging.getLogger(name).setLevel(logging.CRITICAL)


def _parser(name: str, config: str) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(str(bundle_folder(name) / "configs" / f"{config}.json"))
    return parser


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _check_id(parser: ConfigParser, key: str, file: str) -> None:
    """An id must be in the configuration, or be an argument of a component that is."""
    if key in parser:
        return
    parent, _, last = key.rpartition("#")
    there = [str(k) for k in parser.get() if not str(k).startswith("_")]
    if parent and parent in parser and isinstance(parser[parent], Mapping):
        there = list(parser[parent])
        target = getattr(components, str(parser[parent].get("_target_", "")), None)
        if target is not None:
            there += list(inspect.signature(target).parameters)
            if last in there:
                return
    whole = parent == "" or parent in parser
    near = difflib.get_close_matches(last if whole else key.partition("#")[0], there, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(sorted(set(there)))}"
    raise UsageError(f"--set {key}: {file} has no such id; {hint}")


def check_links() -> None:
    """Say it when a checkout lost the links at the bundles' roots (Windows, archives)."""
    for name in BUNDLES:
        folder = bundle_folder(name)
        link = folder / "train.json"
        if link.exists() and link.read_text().lstrip()[:1] != "{":
            click.echo(
                f"{link} is no link in this checkout: use {folder / 'configs' / 'train.json'} with "
                "python -m monai.bundle",
                err=True,
            )
