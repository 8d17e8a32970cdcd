"""Provenance of a stage folder: inputs, options, versions and command in `provenance.json`."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256 as new_sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from monai_vqbrain import logs
from monai_vqbrain.contents import (
    content_sha256,
    describe_file,
    is_sealed,
    is_unchanged,
    seal,
)
from monai_vqbrain.documents import read_json
from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.files import finish_publication, sha256, writing
from monai_vqbrain.locks import command_line

Described = Mapping[str, Mapping[str, Any]]  # name -> size and hash, from `describe`

FILE = "provenance.json"
PACKAGE = Path(__file__).parent
PACKAGES = ("monai-vqbrain", "monai", "torch", "pytorch-ignite", "numpy", "nibabel", "scikit-image")
OPTIONAL = ("SimpleITK", "deepbet")  # recorded where they are installed
EVENTS = "events.out.tfevents."  # TensorBoard's files, which may be deleted
NOT_MADE = "not made yet"
FORM: dict[str, Any] = {
    "made_from": {str: {"bytes": int, "sha256": str}},
    "options": {str: object},
    "versions": {str: str},
    "files": {str: {"bytes": int, "sha256": str, "stamp": [int]}},
    "command": str,
    "machine": str,
    "finished": str,
    "seconds": float,
    "device?": (None, str),
    "notes?": [str],
    "given_splits?": bool,
    "simulated?": bool,
    "image?": str,
    "kind?": str,
    "start_from?": (None, str),
    "training?": {
        "optimizer?": str,
        "learning_rates?": [float],
        "batch_size?": int,
        "loss?": {str: float},
    },
}


def write_provenance(
    folder: Path,
    made_from: Described,
    options: Mapping[str, Any],
    seconds: float,
    **more: Any,
) -> None:
    """Write `provenance.json` into `folder`, the last file of a finished stage.

    Args:
        folder: the stage's folder, not yet renamed.
        made_from: the files that the result depends on, from `describe` when the stage began.
        options: the requested options, JSON values only (configuration, seed).
        seconds: wall time of the stage.
        more: further entries (device, counts), JSON values only.
    """
    record = {
        "made_from": dict(made_from),
        "options": dict(options),
        "versions": _versions(),
        "code": {"sha256": code_hash("**/*.py"), "commit": _commit()},
        "files": _files(folder),
        "command": command_line(),
        "machine": f"{platform.system()} {platform.machine()}",
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 2),
        **more,
    }
    with writing(folder / FILE) as path:
        path.write_text(json.dumps(seal(record), indent=2) + "\n")


def read_provenance(folder: Path, more: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    """The record of a finished stage; None if the stage has not finished.

    Args:
        folder: the stage's folder.
        more: forms of entries that the caller needs, see `check_form`.

    Raises:
        VQBrainError: if the record is damaged.
    """
    finish_publication(folder)
    path = folder / FILE
    if not path.is_file():
        return None
    record: dict[str, Any] = read_json(path, FORM | dict(more or {}))
    return record


def intact_provenance(folder: Path) -> dict[str, Any] | None:
    """The record of a finished stage; None if the stage has not finished, or it is damaged."""
    try:
        record = read_provenance(folder)
    except (VQBrainError, OSError):
        return None
    return record if is_sealed(record) else None


def damage(folder: Path) -> str | None:
    """What is wrong with a stage's folder; None if its files are those that the stage made.

    Returns:
        `NOT_MADE` for a stage that has not finished; else which file is missing or has changed.
    """
    record = intact_provenance(folder)
    if record is None:
        damaged = (folder / FILE).is_file()
        return f"{FILE} is damaged or of an earlier version" if damaged else NOT_MADE
    for name, recorded in record["files"].items():
        if not (folder / name).is_file():
            return f"{name} is missing"
        if not is_unchanged(folder / name, recorded):
            return f"{name} has changed since it was made"
    return None


@cache
def code_hash(*patterns: str) -> str:
    """SHA-256 of those source files of this package that match patterns, in hexadecimal."""
    digest = new_sha256()
    for path in sorted({path for pattern in patterns for path in PACKAGE.glob(pattern)}):
        digest.update(f"{path.relative_to(PACKAGE).as_posix()}\0{sha256(path)}\n".encode())
    return digest.hexdigest()


@cache
def _commit() -> str | None:
    """The git commit of this package's clone; None if it was installed without one."""
    root = PACKAGE.parent
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
        return done.stdout.strip()
    return None


def _versions() -> dict[str, str]:
    versions = {name: version(name) for name in PACKAGES}
    for name in OPTIONAL:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions | {"python": platform.python_version()}


def _files(folder: Path) -> dict[str, dict[str, Any]]:
    """Path and description of every file of a stage, without logs, which are still open."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and not _is_log(p.name))
    return {path.relative_to(folder).as_posix(): describe_file(path) for path in paths}


def _is_log(name: str) -> bool:
    return name in (FILE, logs.FILE) or name.startswith(EVENTS)


def describe(files: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """Size in bytes and SHA-256 of the content of each file.

    Raises:
        VQBrainError: if a file is missing.
    """
    try:
        return {
            name: {"bytes": path.stat().st_size, "sha256": content_sha256(path)}
            for name, path in files.items()
        }
    except FileNotFoundError as error:
        raise VQBrainError(f"{error.filename} is missing: make its stage again") from error


def what_changed(folder: Path, made_from: Described, options: Mapping[str, Any]) -> str | None:
    """Why a stage has to run; None if it is whole and was made from the same files and options."""
    record, wrong = intact_provenance(folder), damage(folder)
    if record is None or wrong is not None:
        return wrong
    for name in sorted(made_from.keys() | record["made_from"].keys()):
        if made_from.get(name) != record["made_from"].get(name):
            unused, new = name not in made_from, name not in record["made_from"]
            return f"{name} {'is no longer used' if unused else 'is new' if new else 'changed'}"
    requested = json.loads(json.dumps(dict(options)))
    for name in sorted(requested.keys() | record["options"].keys()):
        if requested.get(name) != record["options"].get(name):
            return f"{name} was {record['options'].get(name)!r}, is {requested.get(name)!r}"
    return None
