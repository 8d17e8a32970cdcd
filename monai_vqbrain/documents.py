"""JSON files of a run folder, checked as they are read: the source of a run is not trusted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai_vqbrain.errors import VQBrainError

MAX_BYTES = 2**28
Form = Any


def read_json(path: Path, form: Form) -> Any:
    """Read a JSON file of a given form.

    Args:
        path: the file.
        form: see `check_form`.

    Raises:
        FileNotFoundError: if it is not there.
        VQBrainError: if it is not JSON, or of another form.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES} bytes")
        value = json.loads(path.read_text(encoding="utf-8"))
        check_form(value, form)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        why = " ".join(str(error).split())
        raise VQBrainError(f"{path} is damaged ({why}): run its stage again") from error
    return value


def check_form(value: Any, form: Form, where: str = "it") -> None:
    """Refuse a JSON value of another form.

    Args:
        value: the value.
        form: a type, where float stands for all numbers and object for anything; a list of one
            form, that of all entries; a dictionary of named entries, where a name that ends in "?"
            may be missing and `str` stands for all names; a set of the texts that there are; None;
            or a tuple of forms, of which one must fit.
        where: the value's place, for the message.

    Raises:
        ValueError: naming the place.

    Example:
        >>> check_form({"size": [3, 4]}, {"size": [int], "seed?": int})
        >>> check_form({"size": "a"}, {"size": [int]})
        Traceback (most recent call last):
        ...
        ValueError: size must be a list, got 'a'
    """
    if isinstance(form, tuple):
        if not any(_fits(value, one) for one in form):
            raise ValueError(f"{where} cannot be {_short(value)}")
    elif isinstance(form, list):
        if not isinstance(value, list):
            raise ValueError(f"{where} must be a list, got {_short(value)}")
        for number, entry in enumerate(value):
            check_form(entry, form[0], f"{where}[{number}]")
    elif isinstance(form, dict):
        _check_entries(value, form, where)
    elif not _is_value(value, form):
        raise ValueError(f"{where} cannot be {_short(value)}")


def _check_entries(value: Any, form: Mapping[Any, Form], where: str) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be an object, got {_short(value)}")
    place = "" if where == "it" else f"{where}."
    if str in form:
        for name, entry in value.items():
            check_form(entry, form[str], f"{place}{name}")
        return
    for name, inner in form.items():
        key = name.removesuffix("?")
        if key in value:
            check_form(value[key], inner, f"{place}{key}")
        elif key == name:
            raise ValueError(f"{place}{key} is missing")


def _fits(value: Any, form: Form) -> bool:
    try:
        check_form(value, form)
    except ValueError:
        return False
    return True


def _is_value(value: Any, form: Form) -> bool:
    if form is None or isinstance(form, set):
        return value is None if form is None else isinstance(value, str) and value in form
    if isinstance(value, bool):
        return form in (bool, object)
    return isinstance(value, (int, float) if form is float else form)


def _short(value: Any) -> str:
    return repr(value)[:60]
