"""Registrations and bias fields, stored in the run's folder of volumes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from monai_vqbrain.files import writing
from monai_vqbrain.transforms.blocks import Blocks
from monai_vqbrain.transforms.input_image import UNREADABLE
from monai_vqbrain.transforms.registration import Registration
from monai_vqbrain.transforms.simpleitk import simpleitk
from monai_vqbrain.transforms.template import SPACE

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # RAS mm to ITK's LPS mm


@dataclass(frozen=True, eq=False)
class NormalisationResult:
    """The estimates of a volume's normalisation, which take long to compute.

    Args:
        place: its registration to the template; None if it was not requested.
        head: the 12-degree-of-freedom registration of a whole head, which maps the template's brain
            mask to it; None for a brain.
        bias: the logarithm of its bias field; None if it was not requested.
    """

    place: Registration | None = None
    head: Registration | None = None
    bias: Blocks | None = None


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
    def record(self) -> Path:
        """The registration matrices and the digest, as JSON."""
        return self.folder / f"{self.name}_desc-normalisation_T1w.json"

    def read(self) -> NormalisationResult | None:
        """The result for the same image and options; None if it is missing or cannot be read."""
        try:
            record = json.loads(self.record.read_text())
            if record["digest"] != self.digest:
                return None
            place, head = (_from_json(record[name]) for name in ("place", "head"))
            bias = None
            if record["bias"]:
                image: Any = nib.Nifti1Image.from_filename(self.field)
                bias = Blocks(np.asarray(image.dataobj, dtype=np.float32), np.array(record["bias"]))
        except (*UNREADABLE, KeyError, TypeError):
            return None
        return NormalisationResult(place, head, bias)

    def write(self, result: NormalisationResult) -> None:
        """Store a result in place of an earlier one."""
        self.forget()
        if result.place is not None:
            _write_transform(result.place.matrix, self.transform)
        if result.bias is not None:
            with writing(self.field) as path:
                nib.save(nib.Nifti1Image(result.bias.values, result.bias.affine), path)
        record = {
            "digest": self.digest,
            "place": _as_json(result.place),
            "head": _as_json(result.head),
            "bias": None if result.bias is None else result.bias.affine.tolist(),
        }
        with writing(self.record) as path:
            path.write_text(json.dumps(record, indent=1) + "\n")

    def forget(self) -> None:
        """Remove a stored result."""
        for path in (self.record, self.transform, self.field):
            path.unlink(missing_ok=True)


def _from_json(numbers: dict[str, Any] | None) -> Registration | None:
    if numbers is None:
        return None
    return Registration(np.array(numbers["matrix"]), float(numbers["correlation"]))


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
