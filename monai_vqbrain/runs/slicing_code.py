"""The code that decides the slices of a run: sources of this package and versions of others."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from monai_vqbrain.provenance import code_hash

SOURCES = ("transforms/*.py", "stages/slicing/*.py", "runs/stacks.py")
PACKAGES = ("nibabel", "nilearn", "numpy", "pillow", "scipy")
REGISTRATION = ("SimpleITK", "scikit-image")  # of registration and bias correction
CONVERSION = ("dcm2niix",)  # of DICOM
EXTRACTION = ("deepbet",)  # of brains from whole heads
CODE = ("code", *PACKAGES, *REGISTRATION, *CONVERSION, *EXTRACTION)


def extraction(brain: Iterable[str]) -> tuple[str, ...]:
    """The packages that find brains, where a cohort's brains are found in these ways."""
    return tuple(name for name in EXTRACTION if name in brain)


def slicing_code(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """What decides slices besides images and options; slices of two kinds of code never mix.

    Args:
        packages: the packages that take part.

    Returns:
        `code`, a hash of the sources that make slices; package -> version, of those installed.
    """
    code = {"code": code_hash(*SOURCES)[:12]}
    versions = {name: _version(name) for name in packages}
    return code | {name: found for name, found in versions.items() if found is not None}


@cache
def _version(package: str) -> str | None:
    with suppress(PackageNotFoundError):
        return version(package)
    return None
