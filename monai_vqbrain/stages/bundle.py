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
from monai_vqbrain.stages.trained import device_named

BUNDLES = ("vqvae", "pixelcnn")
SET_BY_OPTIONS = (
    "bundle_root", "run_dir", "dataset_dir", "output_dir", "work_dir", "device", "seed", "minutes",
    "max_epochs", "resume", "overrides", "imports", "initialize", "training", "run", "",
)  # fmt: skip


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
        UsageError: if the device is not there.
        VQBrainError: for whatever a component raised, without MONAI's wrapping.
    """
    device_named(str(ids.get("device", "auto")))
    folder = bundle_folder(name) / "configs"
    ids = {key: value for key, value in ids.items() if (key, value) != ("device", "auto")}
    logging.disable(logging.ERROR)  # engines log what is raised anyway, and much else
    try:
        workflow = ConfigWorkflow(
            config_file=str(folder / f"{config}.json"),
            meta_file=str(folder / "metadata.json"),
            logging_file=str(folder / "logging.conf"),
            workflow_type="train" if config == "train" else "infer",
            run_id="training" if config == "train" else "run",
            **ids,
            **(overrides or {}),
        )
        workflow.initialize()
        workflow.run()
        workflow.finalize()
    except Exception as error:
        raise _unwrapped(error, f"{name}/{config}.json") from error
    finally:
        logging.disable(logging.NOTSET)


def _unwrapped(error: Exception, file: str) -> VQBrainError:
    """What a component raised, from inside what MONAI makes of it."""
    cause: BaseException = error
    while cause.__cause__ is not None and not isinstance(cause, VQBrainError):
        cause = cause.__cause__
    if isinstance(cause, VQBrainError):
        return cause
    words = " ".join(str(cause).split()) or "no message"
    return VQBrainError(
        f"{file} stopped: {type(cause).__name__}: {words[:500]} "
        "(the same command with --debug shows where)"
    )


def bundle_command(
    name: str, config: str, ids: Mapping[str, Any], overrides: Mapping[str, Any] | None = None
) -> str:
    """The shell command that does the same."""
    file = bundle_folder(name) / "configs" / f"{config}.json"
    run = "training" if config == "train" else "run"
    words = ["python", "-m", "monai.bundle", "run", run, "--config_file", str(file)]
    parser = _parser(name, config)
    for key, value in {**ids, **(overrides or {})}.items():
        if (key, value) != ("device", "auto") and not (key in parser and parser[key] == value):
            literal = value if isinstance(value, str) else repr(value)  # fire reads Python's
            words += [f"--{key}", literal]
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
        key, value = key.replace("::", "#"), _value(text)
        if _is_code(value) or key.rpartition("#")[2].startswith("_"):
            raise UsageError(
                f"--set {key}: {text!r} would be run as code by MONAI, and only plain values are "
                "taken here: edit a copy of the bundle's configuration instead"
            )
        if key in SET_BY_OPTIONS:
            raise UsageError(f"--set {key}: not here; see --help for the options of its own")
        _check_id(parser, key, f"{name}/{config}.json")
        found[key] = value
    return found


def _parser(name: str, config: str) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(str(bundle_folder(name) / "configs" / f"{config}.json"))
    return parser


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _is_code(value: Any) -> bool:
    """Whether MONAI would evaluate something in a value, or build a component of it."""
    if isinstance(value, Mapping):
        return any(str(k).startswith("_") or _is_code(v) for k, v in value.items())
    if isinstance(value, list):
        return any(_is_code(v) for v in value)
    return isinstance(value, str) and value.startswith(("$", "@", "%"))


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
