"""The shipped MONAI bundles: where they are, and how a stage runs one."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser, ConfigWorkflow, workflows

from monai_vqbrain.errors import UnexpectedError, UsageError, VQBrainError
from monai_vqbrain.processes import safe_imports
from monai_vqbrain.runs.literals import as_data
from monai_vqbrain.runs.networks import select_device
from monai_vqbrain.runs.shared import compute_share, iteration
from monai_vqbrain.team import current_team

BUNDLES = ("vqvae", "pixelcnn")
SIZES = ("small", "base", "large")


def bundle_folder(name: str) -> Path:
    """The folder of a shipped bundle: inside the package in a wheel, beside it in a checkout.

    Raises:
        VQBrainError: if the bundle is not installed.
    """
    package = Path(__file__).resolve().parents[1]
    for bundles in (package / "bundles", package.parent / "bundles"):
        if (bundles / name / "configs" / "metadata.json").is_file():
            return bundles / name
    raise VQBrainError(f"the bundle {name} is not in {package}: install monai-vqbrain again")


def bundle_root(name: str) -> str:
    """The root of a bundle: the current folder if it is that bundle, else the shipped one."""
    try:
        metadata = json.loads(Path("configs/metadata.json").read_text())
    except (OSError, ValueError):
        metadata = None
    own = isinstance(metadata, dict) and metadata.get("name") == f"vqbrain_{name}"
    return str(Path.cwd() if own else bundle_folder(name))


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
        overrides: values from the user, checked first by `check_overrides`.

    Neither is evaluated: both may hold texts from a cohort's tables.

    Raises:
        UsageError: if the device is not available.
        VQBrainError: if a component raises, with its own message in place of MONAI's.
    """
    select_device(str(ids.get("device", "auto")))
    values = {**ids, **(overrides or {})}
    values = {k: as_data(v) for k, v in values.items() if (k, v) != ("device", "auto")}
    team = current_team()
    try:
        if team is None or config == "train":
            _run(_workflow(name, config, values))
        else:
            team.share = partial(_share_of_bundle, name, config, values)
            _run(_workflow(name, config, values | {"evaluator#iteration_update": iteration}))
    except Exception as error:
        raise _root_cause(error, f"{name}/{config}.json") from error


def _workflow(name: str, config: str, values: Mapping[str, Any]) -> ConfigWorkflow:
    folder = bundle_folder(name) / "configs"
    with _own_logging():
        return ConfigWorkflow(
            config_file=str(folder / f"{config}.json"),
            meta_file=str(folder / "metadata.json"),
            logging_file=False,
            workflow_type="train" if config == "train" else "infer",
            run_id="training" if config == "train" else "run",
            **values,
        )


def _run(workflow: ConfigWorkflow) -> None:
    with safe_imports():  # of the workers of loaders
        workflow.initialize()
        workflow.run()
        workflow.finalize()


def _share_of_bundle(
    name: str,
    config: str,
    values: Mapping[str, Any],
    rank: int,
    ranks: int,
    send: Callable[[Any], None],
) -> None:
    """Compute a rank's batches of a bundle's evaluator; its handlers, which write, are rank 0's."""
    try:
        workflow = _workflow(name, config, {**values, "handlers": [], "key_metric": None})
        with safe_imports():
            workflow.initialize()
            compute_share(workflow.parser.get_parsed_content("evaluator"), rank, ranks, send)
    except OSError:
        raise  # rank 0 has ended
    except Exception as error:
        raise _root_cause(error, f"{name}/{config}.json") from error


@contextmanager
def _own_logging() -> Iterator[None]:
    """Keep the application's logging configuration, without MONAI's warning about that."""

    def is_other(record: logging.LogRecord) -> bool:
        return "Logging file is set to False" not in record.getMessage()

    workflows.logger.addFilter(is_other)
    try:
        yield
    finally:
        workflows.logger.removeFilter(is_other)


def _root_cause(error: Exception, file: str) -> VQBrainError:
    """The error that a component raised, unwrapped from MONAI's."""
    cause: BaseException = error
    while cause.__cause__ is not None and not isinstance(cause, VQBrainError):
        cause = cause.__cause__
    if isinstance(cause, VQBrainError):
        return cause
    words = " ".join(str(cause).split()) or "no message"
    return UnexpectedError(f"{file} stopped: {type(cause).__name__}: {words[:500]}")


def bundle_command(
    name: str, config: str, ids: Mapping[str, Any], overrides: Mapping[str, Any] | None = None
) -> str:
    """The shell command that does the same as `run_bundle`."""
    file = bundle_folder(name) / "configs" / f"{config}.json"
    run = "training" if config == "train" else "run"
    words = ["python", "-m", "monai.bundle", "run", run, "--config_file", str(file)]
    parser = bundle_config(name, config)
    for key, value in {**ids, **(overrides or {})}.items():
        if (key, value) != ("device", "auto") and not (key in parser and parser[key] == value):
            words += [f"--{key}", _as_word(as_data(value))]
    return shlex.join(words)


def _as_word(value: Any) -> str:
    """A value as fire, which reads the words of MONAI's command, gives it back."""
    same = isinstance(value, str) and DefaultParseValue(value) == value
    return value if same else repr(value)


def default_value(name: str, config: str, key: str) -> Any:
    """The value of an id in the shipped configuration."""
    return bundle_config(name, config)[key]


def size_settings(name: str, size: str) -> dict[str, Any]:
    """The values that a size of the networks gives to ids of train.json; none for "base".

    Args:
        name: "vqvae" or "pixelcnn".
        size: "small", "base" or "large".

    Raises:
        UsageError: for another size.
    """
    if size not in SIZES:
        raise UsageError(f"size {size}: choose {', '.join(SIZES)}")
    if size == "base":
        return {}
    settings: dict[str, Any] = json.loads(
        (bundle_folder(name) / "configs" / f"{size}.json").read_text()
    )
    return settings


def bundle_config(name: str, config: str) -> ConfigParser:
    """Read a shipped configuration."""
    parser = ConfigParser()
    parser.read_config(str(bundle_folder(name) / "configs" / f"{config}.json"))
    return parser


def lost_links() -> list[Path]:
    """The links at the bundles' roots that are plain files in this checkout (Windows, archives)."""
    links = [bundle_folder(name) / "train.json" for name in BUNDLES]
    return [link for link in links if link.exists() and link.read_text().lstrip()[:1] != "{"]
