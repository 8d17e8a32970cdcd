"""Writing samples as NIfTI and PNG, each marked as synthetic and traceable."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from ignite.engine import Engine, Events
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from skimage.util import montage

from monai_vqbrain.files import writing
from monai_vqbrain.handlers.outputs import png_bytes
from monai_vqbrain.tables import write_table

COMMENT = 6  # NIfTI's code of a header extension in plain text
OVERVIEW = 64  # maximum number of samples in the overview picture


class SampleFiles:
    """Writes each image of a SamplingEngine as NIfTI and PNG, with a table and an overview.

    `sample-0001.nii.gz` is (W, H, S) uint8, with S = 1 for a slice, scaled so that viewers show
    [0, 1]; `sample-0001.png` has anterior at the top, and all slices of a volume side by side.
    Both contain the marks: NIfTI in `descrip` and a header extension, PNG in text chunks.

    Args:
        folder: the folder to write to.
        number: number of samples to keep; the engine may draw more.
        affines: (N, 4, 4), one per sample, or (4, 4) for all; voxel -> world, mm, RAS.
        marks: metadata of every sample besides "synthetic": seed, both models' hashes.
        size: (W, H), pixels, to crop the images to; None keeps the decoded size.
        conditions: what each sample was drawn for, N texts; None if nothing is known.
    """

    def __init__(
        self,
        folder: Path | str,
        number: int,
        affines: np.ndarray,
        marks: Mapping[str, Any],
        size: tuple[int, int] | None = None,
        conditions: Sequence[str] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.number = number
        self.digits = max(4, len(str(number)))  # so that names sort by number
        self.affines = np.broadcast_to(affines, (number, 4, 4))
        self.marks = dict(marks)
        self.conditions = ["none"] * number if conditions is None else list(conditions)
        self.window = slice(size and size[0]), slice(size and size[1])

    def attach(self, engine: Engine) -> None:
        """Attach to a SamplingEngine."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._write_batch)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _start(self, engine: Engine) -> None:
        self.rows: list[dict[str, Any]] = []
        self.pictures: list[np.ndarray] = []

    def _write_batch(self, engine: Engine) -> None:
        output = engine.state.output
        images = output["pred"][:, 0].float().cpu().numpy()[:, *self.window]  # (B, W, H[, S])
        first = output["batch"] * len(images)
        for place, image in enumerate(images[: max(0, self.number - first)]):
            index = first + place
            name = f"sample-{index + 1:0{self.digits}d}"
            volume = image if image.ndim == 3 else image[:, :, None]
            slices = [np.rot90(one) for one in np.moveaxis(volume, 2, 0)]
            marks = {"synthetic": True, "condition": self.conditions[index], **self.marks}
            marks |= {"batch": output["batch"], "place": place}
            self._write_nifti(volume, self.affines[index], self.folder / f"{name}.nii.gz", marks)
            self._write_png(tile(slices), self.folder / f"{name}.png", marks)
            self.rows.append({"sample": name, **marks})
            if len(self.pictures) < OVERVIEW:
                self.pictures.append(slices[len(slices) // 2])

    def _write_nifti(
        self, volume: np.ndarray, affine: np.ndarray, path: Path, marks: dict[str, Any]
    ) -> None:
        # A slice keeps its third axis: much software shows 2D NIfTI files flipped.
        nifti = nib.Nifti1Image(np.rint(255 * volume).astype(np.uint8), affine)
        nifti.set_sform(affine, code=2)  # the cohort's space, not a scanner's
        nifti.set_qform(affine, code=2)
        nifti.header.set_xyzt_units("mm")
        nifti.header.set_slope_inter(1 / 255, 0)
        nifti.header["descrip"] = f"synthetic, vqbrain, seed {marks.get('seed')}".encode()
        extension = nib.nifti1.Nifti1Extension(COMMENT, json.dumps(marks).encode())
        nifti.header.extensions.append(extension)
        with writing(path) as temporary:
            nib.save(nifti, temporary)

    def _write_png(self, picture: np.ndarray, path: Path, marks: dict[str, Any]) -> None:
        info = PngInfo()
        for key, value in marks.items():
            info.add_text(key, str(value))
        grey = np.rint(255 * picture).astype(np.uint8)
        with writing(path) as temporary:
            Image.fromarray(grey).save(temporary, "PNG", pnginfo=info)

    def _finish(self, engine: Engine) -> None:
        write_table(pd.DataFrame(self.rows), self.folder / "samples.tsv", digits=6)
        with writing(self.folder / "overview.png") as path:
            path.write_bytes(png_bytes(tile(self.pictures)))


def tile(pictures: list[np.ndarray]) -> np.ndarray:
    """Tile pictures of one size, (rows, columns) in [0, 1], to a nearly square one."""
    columns = math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    return montage(np.stack(pictures), fill=0, grid_shape=(rows, columns))
