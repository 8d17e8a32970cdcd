"""The networks of a run as they are used outside of it: weights and what sampling needs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from monai_vqbrain.files import writing
from monai_vqbrain.runs.conditions import JOINT, position_condition, read_joint
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.geometry import GEOMETRY, geometry
from monai_vqbrain.runs.records import network_settings


def write_models(run: RunFolder, name: str, folder: Path) -> None:
    """Write the trained network of a run, without anything that names a participant.

    These are model.pt, as the training wrote it, the network's settings, config.json, and the axis,
    size, affine and positions of the slices, geometry.json. A prior also has the joint
    distribution of its conditions, conditions.json.

    Args:
        run: the run folder.
        name: "vqvae" or "pixelcnn".
        folder: the folder to write to.

    Raises:
        VQBrainError: if a file of the run is missing or damaged.
    """
    source = run.vqvae if name == "vqvae" else run.prior
    settings = network_settings(source)
    with writing(folder / "model.pt") as path:
        shutil.copyfile(source / "model.pt", path)
    write_json({"network_def": settings}, folder / "config.json")
    known = settings.get("conditions", {})  # a VQ-VAE has none
    write_json(geometry(run, position_condition(known)), folder / GEOMETRY)
    if name == "pixelcnn":
        write_json(read_joint(run.path, known).as_json(), folder / JOINT)


def write_json(content: Any, path: Path) -> None:
    """Write JSON values with an indent of four, as the bundles' configurations have it."""
    with writing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=4) + "\n")
