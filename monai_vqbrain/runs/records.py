"""What stages recorded as JSON, checked: the options of slicing, the settings of networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monai_vqbrain.documents import read_json
from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.provenance import FILE, read_provenance
from monai_vqbrain.runs.folder import RunFolder

SLICING = {
    "axis?": {"axial", "coronal", "sagittal"},
    "size?": [int],
    "spacing?": float,
    "align?": str,
    "bias?": bool,
    "space?": str,
    "seed?": int,
}
LARGEST = 2**20  # of any number in a network's settings
CONFIG = {"network_def": {"_target_?": str, "conditions?": {str: [(str, float)]}}}


def slicing_options(run: RunFolder, *needed: str) -> dict[str, Any]:
    """The options that a run's slices were made with; empty without slices.

    Args:
        run: the run folder.
        needed: names of those that the caller needs.

    Raises:
        VQBrainError: if one is missing, or they cannot be those of `prepare`.
    """
    record = read_provenance(run.slices, {"options": SLICING})
    options: dict[str, Any] = {} if record is None else record["options"]
    missing = [name for name in needed if name not in options]
    if missing:
        raise VQBrainError(f"{run.slices / FILE} has no {missing[0]}: run its stage again")
    size, spacing = options.get("size", [1, 1]), options.get("spacing", 1)
    if len(size) != 2 or not all(0 < side <= LARGEST for side in size) or not 0 < spacing < LARGEST:
        raise VQBrainError(
            f"{run.slices / FILE} is damaged (size {size}, spacing {spacing}): run its stage again"
        )
    return options


def network_settings(folder: Path) -> dict[str, Any]:
    """The class, `_target_`, and the settings of a trained network.

    Args:
        folder: `R/3-vqvae` or `R/5-prior`.

    Raises:
        VQBrainError: if config.json is missing or damaged, or has a number that no network has.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise VQBrainError(
            f"{folder} holds no trained network (config.json is missing): train it first"
        )
    definition: dict[str, Any] = read_json(path, CONFIG)["network_def"]
    for name, value in definition.items():
        sizes = value if isinstance(value, list) else [value]
        if any(isinstance(size, int | float) and not abs(size) <= LARGEST for size in sizes):
            raise VQBrainError(f"{path} is damaged ({name} is {value}): run its stage again")
    return definition
