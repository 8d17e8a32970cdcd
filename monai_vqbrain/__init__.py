"""From T1-weighted brain MRI to new brain slices: a VQ-VAE and a PixelCNN prior on MONAI.

The public names come from here by need (`from monai_vqbrain import BrainVQVAE`), so that neither
`import monai_vqbrain` nor the command line's help waits for torch and MONAI.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOME: dict[str, str] = {}  # public name -> the module that holds it

__all__ = ["__version__", *sorted(_HOME)]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
