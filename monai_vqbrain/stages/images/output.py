"""The files of a result: images on the input's voxels, scores, a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image

from monai_vqbrain.stages.images.panels import reconstruction_panel
from monai_vqbrain.stages.images.reconstruction import Reconstruction
from monai_vqbrain.tables import write_table

LEVELS = 4096  # intensity levels on disk: finer than any reconstruction, and small files


def write_reconstruction(result: Reconstruction, folder: Path, name: str, picture: bool) -> None:
    """Write NAME_desc-reconstruction_T1w.nii.gz, ..._desc-error_..., NAME_scores.tsv, NAME.png.

    Args:
        result: the reconstruction.
        folder: the folder to write to.
        name: prefix of the files' names.
        picture: also write NAME_desc-reconstruction_T1w.png, for an image that is a picture.
    """
    image = result.image
    reconstruction, error = (
        folder / f"{name}_desc-{what}_T1w.nii.gz" for what in ("reconstruction", "error")
    )
    low, high = image.limits
    values = image.intensities(result.unit)
    write_like(values, high - low, "reconstruction, vqbrain", image.like, reconstruction)
    write_like(result.error, 1.0, "reconstruction - image, vqbrain", image.like, error)
    write_table(result.scores, folder / f"{name}_scores.tsv", digits=6)
    (folder / f"{name}.png").write_bytes(reconstruction_panel(result))
    if picture:
        grey = np.rint(255 * np.rot90(result.unit[..., 0])).astype(np.uint8)
        Image.fromarray(grey).save(folder / f"{name}_desc-reconstruction_T1w.png")


def write_like(values: np.ndarray, scale: float, what: str, like: Any, path: Path) -> None:
    """Write values as 16-bit integers, with the image's own shape, affine and header.

    Args:
        values: (X, Y, Z).
        scale: range of `LEVELS` steps, in the values' units.
        what: description for the header.
        like: the image, a nibabel image.
        path: the file to write.
    """
    step = max(scale / LEVELS, float(np.abs(values).max()) / np.iinfo(np.int16).max)
    stored = np.rint(values / np.float32(step)).astype(np.int16).reshape(like.shape)
    header = like.header if isinstance(like.header, nib.Nifti1Header) else None
    kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    image = kind(stored, like.affine, header, dtype=np.int16)
    image.header.extensions.clear()  # they may identify the participant, and describe the image
    image.header.set_slope_inter(step, 0)
    image.header.set_intent("none")
    image.header["cal_min"] = image.header["cal_max"] = 0
    image.header["descrip"] = what.encode()
    if header is None:
        image.header.set_xyzt_units("mm")
    nib.save(image, path)
