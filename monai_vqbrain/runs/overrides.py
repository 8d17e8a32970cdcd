"""Values that a user sets in a bundle's configuration, checked before MONAI reads them."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from monai.bundle import ConfigComponent, ConfigParser

from monai_vqbrain import components  # noqa: F401  (so that MONAI's locator finds ours)
from monai_vqbrain.errors import UsageError
from monai_vqbrain.runs.bundles import bundle_config

SET_BY_OPTIONS = (
    "bundle_root", "run_dir", "dataset_dir", "output_dir", "work_dir", "device", "seed", "minutes",
    "max_epochs", "resume", "start_from", "overrides", "imports", "initialize", "training", "run",
    "seeding", "",
)  # fmt: skip
WHOLE = ("train#trainer#train_handlers",)  # expressions that hold together what a training promises


def check_overrides(name: str, config: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Check values for ids of a shipped configuration; they are data, never code.

    An id is one of the configuration, or an argument of a component that the configuration names,
    whether of this package, MONAI or torch.

    Args:
        name: "vqvae" or "pixelcnn".
        config: "train", "evaluate" or "inference".
        values: id -> value, such as `{"optimizer#lr": 0.0005}`.

    Returns:
        The values, with the ids in MONAI's notation.

    Raises:
        UsageError: for an id that does not exist, one that has an option of its own, or a value
            that MONAI would evaluate.
    """
    parser = bundle_config(name, config)
    checked: dict[str, Any] = {}
    for written, value in values.items():
        key = written.replace("::", "#")
        if _is_code(value) or key.rpartition("#")[2].startswith("_"):
            raise UsageError(
                f"override {key}: {value!r} would be run as code by MONAI, and only plain values "
                "are taken here: edit a copy of the bundle's configuration instead"
            )
        if key.partition("#")[0] in SET_BY_OPTIONS:
            raise UsageError(f"override {key}: it has an option of its own, see the help")
        _check_id(parser, key, f"{name}/{config}.json")
        if key in WHOLE or (key in parser and _holds_components(parser[key])):
            raise UsageError(
                f"override {key}: it holds components, and the seeding, the checkpoints or the "
                f"record could get lost: set their arguments ({key}#NAME=VALUE), or edit a copy of "
                "the bundle's configuration instead"
            )
        checked[key] = value
    return checked


def _is_code(value: Any) -> bool:
    """Whether MONAI would evaluate a part of a value, or build a component from it."""
    if isinstance(value, Mapping):
        return any(str(k).startswith("_") or _is_code(v) for k, v in value.items())
    if isinstance(value, list):
        return any(_is_code(v) for v in value)
    return isinstance(value, str) and value.startswith(("$", "@", "%"))


def _holds_components(value: Any) -> bool:
    """Whether a value of a shipped configuration is a component, or holds one or refers to one."""
    return isinstance(value, Mapping | list) and _is_code(value)


def _check_id(parser: ConfigParser, key: str, file: str) -> None:
    if key in parser:
        return
    parent, _, last = key.rpartition("#")
    if parent and parent in parser and isinstance(parser[parent], Mapping):
        existing = [str(name) for name in parser[parent] if not str(name).startswith("_")]
        arguments = _arguments(str(parser[parent].get("_target_", "")))
        if last in arguments:
            return
        raise _unknown_id_error(key, file, last, [*existing, *arguments])
    existing = [str(name) for name in parser.get() if not str(name).startswith("_")]
    raise _unknown_id_error(key, file, key.partition("#")[0] if parent else last, existing)


def _unknown_id_error(key: str, file: str, word: str, existing: Iterable[str]) -> UsageError:
    names = sorted(set(existing))
    near = difflib.get_close_matches(word, names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(names)}"
    return UsageError(f"override {key}: {file} has no such id; {hint}")


@lru_cache
def _arguments(target: str) -> tuple[str, ...]:
    """The named arguments of a component, including those of its base classes."""
    component = ConfigComponent({"_target_": target}).resolve_module_name() if target else None
    if isinstance(component, str):
        component = _locate(component)
    if not callable(component):
        return ()
    return tuple(_named_arguments(component))


def _locate(path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return getattr(__import__(module, fromlist=[name]), name)
    except (ImportError, AttributeError, ValueError):
        return None


def _named_arguments(component: Any) -> Iterable[str]:
    """Named arguments; for a class with **kwargs, also those of the base class's constructor."""
    classes = inspect.getmro(component) if inspect.isclass(component) else (component,)
    for cls in classes:
        if inspect.isclass(cls) and "__init__" not in vars(cls):
            continue
        parameters = list(inspect.signature(cls).parameters.values())
        for parameter in parameters:
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                yield parameter.name
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            return
