"""Files of weights, read as data: no pickle is executed, and nothing inflates."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch


def read_weights(path: Path) -> Any:
    """Read what `torch.save` wrote, onto the CPU.

    Args:
        path: the file.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if it is damaged, holds other than plain data, or is compressed: PyTorch does
            not compress, and a compressed file may inflate to any size.
    """
    with path.open("rb") as file:
        try:
            if zipfile.is_zipfile(file):
                entries = zipfile.ZipFile(file).infolist()
                if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                    raise ValueError("it is compressed")
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # its type depends on which byte is wrong
            raise ValueError(" ".join(str(error).split())[:300]) from error
