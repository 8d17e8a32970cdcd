"""The content of files: recorded when a stage is made, and compared cheaply afterwards."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai_vqbrain.files import sha256

SEAL = "seal"
TICK = 0.01  # seconds, the resolution of times on some file systems
HEADER_LIMIT = 100_000_000  # bytes, of a safetensors file, as in that library

_hashes: dict[tuple[Path, int, int, int, int], str] = {}  # by path and version of a file


def describe_file(path: Path) -> dict[str, Any]:
    """Size in bytes, SHA-256 of the content, and a stamp: times in ns and inode.

    Raises:
        FileNotFoundError: if the file is missing.
    """
    if _is_recent(path):
        time.sleep(TICK)  # or a change at once could leave the times as they are
    size, *stamp = _identify(path)
    return {"bytes": size, "sha256": content_sha256(path), "stamp": stamp}


def is_unchanged(path: Path, recorded: Mapping[str, Any]) -> bool:
    """Whether a file has the content that `describe_file` recorded.

    A file of the same size, times and inode counts as unchanged; any other is hashed, so that a
    copied folder is found to be the same.

    Args:
        path: the file; False if it is missing.
        recorded: the result of `describe_file`.
    """
    if not path.is_file():
        return False
    size, *stamp = _identify(path)
    if size != recorded["bytes"]:
        return False
    if stamp == recorded["stamp"]:
        _hashes[_key(path)] = recorded["sha256"]
    return content_sha256(path) == recorded["sha256"]


def content_sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal; each version of a file is hashed once.

    Of a safetensors file, the order of the header's entries does not count: the library writes
    them in random order.
    """
    key = _key(path)
    found = _hashes.get(key) or _tensors_sha256(path) or sha256(path)
    if not _is_recent(path):
        _hashes[key] = found
    return found


def seal(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record of JSON values with a hash of its entries, by which `is_sealed` finds damage."""
    return {**record, SEAL: _entries_sha256(record)}


def is_sealed(record: Any) -> bool:
    """Whether a JSON value is a record as `seal` made it."""
    return isinstance(record, dict) and record.get(SEAL) == _entries_sha256(record)


def _identify(path: Path) -> tuple[int, int, int, int]:
    """Size in bytes; times of the last change of content and of status, ns; inode."""
    status = path.stat()
    # the latter also shows a change after which the time of the former was set back
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _key(path: Path) -> tuple[Path, int, int, int, int]:
    return (path.absolute(), *_identify(path))


def _is_recent(path: Path) -> bool:
    return time.time_ns() - path.stat().st_ctime_ns < TICK * 1e9


def _tensors_sha256(path: Path) -> str | None:
    """The SHA-256 of a safetensors file with its header in order; None for another file."""
    if path.suffix != ".safetensors":
        return None
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(file.read(length)) if length <= HEADER_LIMIT else None
        except ValueError:
            return None
        if not isinstance(header, dict):
            return None
        digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _entries_sha256(record: Mapping[str, Any]) -> str:
    entries = {name: value for name, value in record.items() if name != SEAL}
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()
