"""Registration maps and bias fields, kept in the run's folder of volumes."""

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

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # what ITK calls millimetres, from RAS


@dataclass(frozen=True, eq=False)
class NormalisationResult:
    """What takes time to find of a volume.

    Args:
        place: how it lies to the template; None if that was not asked.
        head: the same by twelve parameters, of a whole head: its brain is the template's there.
        bias: the logarithm of its bias field; None if that was not asked.
    """

    place: Registration | None = None
    head: Registration | None = None
    bias: Blocks | None = None


@dataclass(frozen=True)
class NormalisationCache:
    """Where the findings of a volume are kept, so that they are not made twice.

    Args:
        folder: the run's folder of volumes.
        name: of the scan.
        digest: of the image and of what is done to it.
    """

    folder: Path
    name: str
    digest: str

    @property
    def transform(self) -> Path:
        """The map as ITK's tools read it, named as BIDS wants it."""
        return self.folder / f"{self.name}_from-T1w_to-{SPACE}_mode-image_xfm.txt"

    @property
    def field(self) -> Path:
        """The logarithm of the bias field, coarse."""
        return self.folder / f"{self.name}_desc-logbias_T1w.nii.gz"

    @property
    def record(self) -> Path:
        """Numbers and the digest."""
        return self.folder / f"{self.name}_desc-normalisation_T1w.json"

    def read(self) -> NormalisationResult | None:
        """What was found of the same image in the same way; None if nothing can be read of it."""
        try:
            note = json.loads(self.record.read_text())
            if note["digest"] != self.digest:
                return None
            place, head = (_from_json(note[name]) for name in ("place", "head"))
            bias = None
            if note["bias"]:
                image: Any = nib.Nifti1Image.from_filename(self.field)
                bias = Blocks(np.asarray(image.dataobj, dtype=np.float32), np.array(note["bias"]))
        except (*UNREADABLE, KeyError, TypeError):
            return None
        return NormalisationResult(place, head, bias)

    def write(self, found: NormalisationResult) -> None:
        """Keep what was found, and nothing of what was found otherwise before."""
        for path in (self.transform, self.field, self.record):
            path.unlink(missing_ok=True)
        if found.place is not None:
            _write_transform(found.place.matrix, self.transform)
        if found.bias is not None:
            with writing(self.field) as path:
                nib.save(nib.Nifti1Image(found.bias.values, found.bias.affine), path)
        note = {
            "digest": self.digest,
            "place": _as_json(found.place),
            "head": _as_json(found.head),
            "bias": None if found.bias is None else found.bias.affine.tolist(),
        }
        with writing(self.record) as path:
            path.write_text(json.dumps(note, indent=1) + "\n")


def _from_json(numbers: dict[str, Any] | None) -> Registration | None:
    if numbers is None:
        return None
    return Registration(np.array(numbers["matrix"]), float(numbers["correlation"]))


def _as_json(found: Registration | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {"matrix": found.matrix.tolist(), "correlation": found.correlation}


def _write_transform(matrix: np.ndarray, target: Path) -> None:
    sitk, lps = simpleitk(), RAS_TO_LPS @ matrix @ RAS_TO_LPS
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(lps[:3, :3].ravel().tolist())
    transform.SetTranslation(lps[:3, 3].tolist())
    with writing(target) as path:
        sitk.WriteTransform(transform, str(path))
