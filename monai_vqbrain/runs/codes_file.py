"""The file of a run's codes, checked as it is opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from monai_vqbrain.errors import VQBrainError

HEADER = ("vqvae_sha256", "quantizer", "num_codes", "grid")
TYPES = ("U16", "I32")


@contextmanager
def open_codes(path: Path, framework: str = "np") -> Iterator[Any]:
    """Open codes.safetensors; what is wrong with what is read in the block becomes one line.

    Args:
        path: the file.
        framework: "np" or "pt".

    Raises:
        VQBrainError: if it is damaged, or not as `encode` writes it.
    """
    try:
        with safe_open(path, framework=framework) as file:
            _check(file)
            yield file
    except (SafetensorError, OSError, ValueError) as error:
        why = " ".join(str(error).split())
        raise VQBrainError(f"{path} is damaged ({why}): run its stage again") from error


def _check(file: Any) -> None:
    header = file.metadata() or {}
    missing = [name for name in HEADER if name not in header]
    if missing or "codes" not in file.keys():  # noqa: SIM118
        raise ValueError(f"there is no {missing[0] if missing else 'tensor of codes'}")
    for name, axes in (("codes", 4), ("views", 5)):
        if name in file.keys():  # noqa: SIM118
            part = file.get_slice(name)
            shape = part.get_shape()
            if part.get_dtype() not in TYPES or (shape[:1] != [0] and len(shape) != axes):
                raise ValueError(f"{name} are {part.get_dtype()} of shape {shape}")
    if int(header["num_codes"]) < 1:
        raise ValueError(f"num_codes is {header['num_codes']}")
