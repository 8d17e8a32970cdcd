"""Registrations and bias fields, stored in the run's folder of volumes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from monai_vqbrain.contents import content_sha256, is_sealed, seal
from monai_vqbrain.documents import read_json
from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.files import writing
from monai_vqbrain.transforms.blocks import Blocks
from monai_vqbrain.transforms.registration import Registration
from monai_vqbrain.transforms.simpleitk import simpleitk
from monai_vqbrain.transforms.template import SPACE
from monai_vqbrain.transforms.voxels import open_image, read_scaled

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # RAS mm to ITK's LPS mm

ESTIMATE = (None, {"matrix": [[float]], "correlation": float})
RECORD = {
    "digest": str,
    "place": ESTIMATE,
    "head": ESTIMATE,
    "bias": (None, [[float]]),
    "brain": bool,
    "files": {str: str},
}


@dataclass(frozen=True, eq=False)
class NormalisationResult:
    """The estimates of a volume's normalisation, which take long to compute.

    Args:
        place: its registration to the template; None if it was not requested.
        head: the 12-degree-of-freedom registration of a whole head, which maps the template's brain
            mask to it; None for a brain.
        bias: the logarithm of its bias field; None if it was not requested.
        brain: (X, Y, Z) bool, the brain that deepbet found in a whole head; else None.
    """

    place: Registration | None = None
    head: Registration | None = None
    bias: Blocks | None = None
    brain: np.ndarray | None = None


@dataclass(frozen=True)
class NormalisationCache:
    """Stores the normalisation result of one volume, so that it is computed once.

    Args:
        folder: the run's folder of volumes.
        name: the scan's name.
        digest: hash of the image and the normalisation options.
    """

    folder: Path
    name: str
    digest: str

    @property
    def transform(self) -> Path:
        """The registration as an ITK transform, named after BIDS."""
        return self.folder / f"{self.name}_from-T1w_to-{SPACE}_mode-image_xfm.txt"

    @property
    def field(self) -> Path:
        """The logarithm of the bias field, on a coarse grid."""
        return self.folder / f"{self.name}_desc-logbias_T1w.nii.gz"

    @property
    def mask(self) -> Path:
        """The brain mask of a whole head, on the grid of the image."""
        return self.folder / f"{self.name}_desc-brain_mask.nii.gz"

    @property
    def record(self) -> Path:
        """The registration matrices and the digest, as JSON."""
        return self.folder / f"{self.name}_desc-normalisation_T1w.json"

    def read(self) -> NormalisationResult | None:
        """The result for the same image and options; None if a file is missing or has changed."""
        try:
            record = self._read_record()
            if record is None:
                return None
            place, head = (_from_json(record[name]) for name in ("place", "head"))
            bias = brain = None
            if record["bias"]:
                values = read_scaled(open_image(self.field)).astype(np.float32)
                bias = Blocks(values, _matrix(record["bias"]))
            if record["brain"]:
                brain = read_scaled(open_image(self.mask)) > 0
        except (OSError, ValueError, VQBrainError):
            return None
        return NormalisationResult(place, head, bias, brain)

    def files(self) -> list[Path]:
        """The files of the stored result; none if `read` gives none."""
        try:
            record = self._read_record()
        except (OSError, VQBrainError):
            return []
        return [] if record is None else [self.record, *map(self.folder.joinpath, record["files"])]

    def _read_record(self) -> dict[str, Any] | None:
        """The record for the same image and options, if its files are unchanged; else None."""
        record: dict[str, Any] = read_json(self.record, RECORD)
        if not is_sealed(record) or record["digest"] != self.digest:
            return None
        files = record["files"].items()
        changed = any(content_sha256(self.folder / name) != found for name, found in files)
        return None if changed else record

    def write(self, result: NormalisationResult, affine: np.ndarray | None = None) -> None:
        """Store a result in place of an earlier one.

        Args:
            result: the result.
            affine: (4, 4) of the image, voxel -> world, for the brain mask.
        """
        self.forget()
        if result.place is not None:
            _write_transform(result.place.matrix, self.transform)
        if result.bias is not None:
            with writing(self.field) as path:
                nib.save(nib.Nifti1Image(result.bias.values, result.bias.affine), path)
        if result.brain is not None:
            with writing(self.mask) as path:
                nib.save(nib.Nifti1Image(result.brain.astype(np.uint8), affine), path)
        record = {
            "digest": self.digest,
            "place": _as_json(result.place),
            "head": _as_json(result.head),
            "bias": None if result.bias is None else result.bias.affine.tolist(),
            "brain": result.brain is not None,
            "files": {
                path.name: content_sha256(path)
                for path in (self.transform, self.field, self.mask)
                if path.is_file()
            },
        }
        with writing(self.record) as path:
            path.write_text(json.dumps(seal(record), indent=1) + "\n")

    def forget(self) -> None:
        """Remove a stored result."""
        for path in (self.record, self.transform, self.field, self.mask):
            path.unlink(missing_ok=True)


def _from_json(numbers: dict[str, Any] | None) -> Registration | None:
    if numbers is None:
        return None
    return Registration(_matrix(numbers["matrix"]), float(numbers["correlation"]))


def _matrix(rows: list[list[float]]) -> np.ndarray:
    """(4, 4); ValueError if it places no voxel."""
    matrix = np.array(rows, dtype=float)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or not np.linalg.det(matrix):
        raise ValueError(f"{rows} is no affine matrix")
    return matrix


def _as_json(registration: Registration | None) -> dict[str, Any] | None:
    if registration is None:
        return None
    return {"matrix": registration.matrix.tolist(), "correlation": registration.correlation}


def _write_transform(matrix: np.ndarray, target: Path) -> None:
    sitk, lps = simpleitk(), RAS_TO_LPS @ matrix @ RAS_TO_LPS
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(lps[:3, :3].ravel().tolist())
    transform.SetTranslation(lps[:3, 3].tolist())
    with writing(target) as path:
        sitk.WriteTransform(transform, str(path))
