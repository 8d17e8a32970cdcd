"""6-samples: the named sets of samples of a run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.files import finish_publications
from monai_vqbrain.provenance import describe, read_provenance
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.stacks import to_uint8
from monai_vqbrain.transforms.voxels import open_image, read_scaled, read_stored

DEFAULT_SET = "default"
SAMPLE = re.compile(r"sample-[^/]+\.nii\.gz$")  # of the recorded files: others may lie beside them
SET_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def sample_sets(run: RunFolder) -> list[str]:
    """The names of a run's sets of samples: the default set, then the others by name."""
    finish_publications(run.samples)
    marks = ("provenance.json", "samples.tsv")  # either may have been lost
    found = {path.parent.name for mark in marks for path in run.samples.glob(f"*/{mark}")}
    names = (name for name in found if SET_NAME.fullmatch(name))  # not NAME.partial
    return sorted(names, key=lambda name: (name != DEFAULT_SET, name))


def current_sets(run: RunFolder) -> dict[str, list[Path]]:
    """Name -> samples, in order, of the sets that were drawn from the run's present networks."""
    models = {"3-vqvae": run.vqvae / "model.pt", "5-prior": run.prior / "model.pt"}
    if not all(path.is_file() for path in models.values()):
        return {}
    now = describe(models)
    records = {name: read_provenance(run.sample_set(name)) or {} for name in sample_sets(run)}
    return {
        name: [
            run.sample_set(name) / file for file in sorted(record["files"]) if SAMPLE.match(file)
        ]
        for name, record in records.items()
        if all(record.get("made_from", {}).get(model) == entry for model, entry in now.items())
    }


def main_set(run: RunFolder) -> tuple[str, list[Path]]:
    """The set of samples that a report shows in full, and its files; ("", []) without samples."""
    return next(iter(current_sets(run).items()), ("", []))


def read_samples(files: Sequence[Path]) -> np.ndarray:
    """Read the slices of samples of one size: (N, W, H) uint8, 255 for an intensity of 1."""
    return np.concatenate([np.moveaxis(read_sample(file), 2, 0) for file in files])


def read_sample(file: Path) -> np.ndarray:
    """Read a sample, a slice or a volume: (W, H, S) uint8, 255 for an intensity of 1.

    Raises:
        VQBrainError: if it cannot be read, or does not have three axes.
    """
    try:
        image = open_image(file)
        values = read_stored(image)
        if values.dtype != np.uint8:
            values = to_uint8(read_scaled(image))
    except ValueError as error:
        raise VQBrainError(f"{file} is damaged ({error}): sample this set again") from error
    if values.ndim != 3:
        raise VQBrainError(
            f"{file} has the shape {values.shape}, and samples have three axes: sample this set "
            "again"
        )
    return values
