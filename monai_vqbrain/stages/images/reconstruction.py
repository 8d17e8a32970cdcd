"""One image through the VQ-VAE: reconstruction, error, scores, and their files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import nn

from monai_vqbrain.metrics import psnr_brain, ssim_brain, ssim_whole
from monai_vqbrain.runs.folder import MIN_BRAIN_FRACTION
from monai_vqbrain.tables import write_table
from monai_vqbrain.transforms.input_image import InputImage

BATCH = 16  # slices at a time; more is no faster on a CPU and holds more memory
LEVELS = 4096  # of intensity on disk: finer than any reconstruction, and small files
COLUMNS = 6  # slices in the picture, at most
MAX_SHOWN_ERROR = 0.25  # of [0, 1]; the picture's colours end there
POSITION_COLUMNS = ("index", "position_mm", "position_rel", "brain_fraction")
SCORES = ("ssim_brain", "ssim_whole", "psnr_brain")


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """What a VQ-VAE made of an image.

    Args:
        original: the image.
        slices: (W, H, S) float32 in [0, 1].
        scores: one row a slice: where it lies, brain_fraction, ssim_brain, ssim_whole, psnr_brain;
            the in-brain ones NaN where less than 5 % of the frame is brain.
        unit: (X, Y, Z) float32 in [0, 1], on the image's own voxels; 0 where there is no slice.
    """

    original: InputImage
    slices: np.ndarray
    scores: pd.DataFrame
    unit: np.ndarray

    @property
    def error(self) -> np.ndarray:
        """(X, Y, Z) reconstruction minus image, both in [0, 1]."""
        return np.asarray(self.unit - self.original.unit)

    def summary(self, trained_on: tuple[float, float]) -> dict[str, float | int | None]:
        """Means over the slices that count and over the brain's voxels; None where there are none.

        Args:
            trained_on: the lowest and highest position_rel of the slices that were trained on.

        Returns:
            The scores, in-brain ones once more for slices at positions that were trained on;
            `error_brain` is the mean absolute error, `error_brain_resampling` what of it is there
            without a network, because the frame's pixels are not the image's voxels.
        """
        counted = self.scores[self.scores["ssim_brain"].notna()]
        trained = counted[counted["position_rel"].between(*trained_on)]
        brain = self.original.brain
        resampled = self.original.back(self.original.slices) - self.original.unit
        return {
            "slices": len(self.scores),
            "slices_scored": len(counted),
            "ssim_brain": _mean(counted["ssim_brain"]),
            "psnr_brain": _mean(counted["psnr_brain"]),
            "ssim_whole": _mean(
                counted["ssim_whole"] if len(counted) else self.scores["ssim_whole"]
            ),
            "slices_trained_on": len(trained),
            "ssim_brain_trained_on": _mean(trained["ssim_brain"]),
            "error_brain": _mean(pd.Series(np.abs(self.error[brain]))),
            "error_brain_resampling": _mean(pd.Series(np.abs(resampled[brain]))),
        }


def reconstruct_image(
    original: InputImage, network: nn.Module, device: torch.device
) -> Reconstruction:
    """Encode and decode all slices of an image, and put them back where they came from.

    Args:
        original: the image.
        network: (B, 1, W, H) -> (B, 1, W, H), in evaluation mode, on `device`.
        device: where to compute.
    """
    images = torch.from_numpy(np.ascontiguousarray(original.slices.transpose(2, 0, 1)))[:, None]
    masks = torch.from_numpy(np.ascontiguousarray(original.mask.transpose(2, 0, 1)))[:, None]
    made, scores = [], []
    with torch.inference_mode():
        for batch, mask in zip(images.split(BATCH), masks.split(BATCH), strict=True):
            prediction = network(batch.to(device)).float().cpu().clamp(0, 1)
            made.append(prediction)
            scores.append(_scores(prediction, batch, mask))
    slices = np.ascontiguousarray(torch.cat(made)[:, 0].numpy().transpose(1, 2, 0))
    table = pd.DataFrame(original.places, columns=list(POSITION_COLUMNS))
    table = pd.concat([table, pd.concat(scores, ignore_index=True)], axis=1)
    table.loc[table["brain_fraction"] < MIN_BRAIN_FRACTION, ["ssim_brain", "psnr_brain"]] = np.nan
    return Reconstruction(original, slices, table, original.back(slices))


def _scores(prediction: torch.Tensor, image: torch.Tensor, mask: torch.Tensor) -> pd.DataFrame:
    values = (
        ssim_brain(prediction, image, mask),
        ssim_whole(prediction, image),
        psnr_brain(prediction, image, mask),
    )
    return pd.DataFrame({n: v.numpy() for n, v in zip(SCORES, values, strict=True)})


def write_reconstruction(result: Reconstruction, folder: Path, name: str, picture: bool) -> None:
    """Write NAME_desc-reconstruction_T1w.nii.gz, ..._desc-error_..., NAME_scores.tsv, NAME.png.

    Args:
        result: what to write.
        folder: where to.
        name: the start of the files' names.
        picture: the image was a picture: NAME_desc-reconstruction_T1w.png as well.
    """
    original = result.original
    made, error = (
        folder / f"{name}_desc-{what}_T1w.nii.gz" for what in ("reconstruction", "error")
    )
    low, high = original.limits
    values = original.intensities(result.unit)
    write_like(values, high - low, "reconstruction, vqbrain", original.like, made)
    write_like(result.error, 1.0, "reconstruction - image, vqbrain", original.like, error)
    write_table(result.scores, folder / f"{name}_scores.tsv")
    (folder / f"{name}.png").write_bytes(panel(result))
    if picture:
        grey = np.rint(255 * np.rot90(result.unit[..., 0])).astype(np.uint8)
        Image.fromarray(grey).save(folder / f"{name}_desc-reconstruction_T1w.png")


def write_like(values: np.ndarray, scale: float, what: str, like: Any, path: Path) -> None:
    """Write values as 16-bit integers, with the image's own shape, affine and header.

    Args:
        values: (X, Y, Z).
        scale: what `LEVELS` steps cover, in the values' units.
        what: for the header.
        like: the image, as nibabel opened it.
        path: where to.
    """
    step = max(scale / LEVELS, float(np.abs(values).max()) / np.iinfo(np.int16).max)
    stored = np.rint(values / np.float32(step)).astype(np.int16).reshape(like.shape)
    header = like.header if isinstance(like.header, nib.Nifti1Header) else None
    kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    image = kind(stored, like.affine, header, dtype=np.int16)
    image.header.extensions.clear()  # they may name the person, and speak of the image
    image.header.set_slope_inter(step, 0)
    image.header.set_intent("none")
    image.header["cal_min"] = image.header["cal_max"] = 0
    image.header["descrip"] = what.encode()
    if header is None:
        image.header.set_xyzt_units("mm")
    nib.save(image, path)


def panel(result: Reconstruction) -> bytes:
    """A PNG of some slices above their reconstructions above the errors."""
    chosen = evenly_counted(result.scores["ssim_brain"].notna())
    rows = {
        "image": (result.original.slices, {"cmap": "gray", "vmin": 0, "vmax": 1}),
        "reconstruction": (result.slices, {"cmap": "gray", "vmin": 0, "vmax": 1}),
        "reconstruction - image": (
            result.slices - result.original.slices,
            {"cmap": "RdBu_r", "vmin": -MAX_SHOWN_ERROR, "vmax": MAX_SHOWN_ERROR},
        ),
    }
    width, height = result.slices.shape[:2]
    wide, high = 1.9 * max(1.0, width / height), 1.9 * max(1.0, height / width)
    size = max(3.4, wide * len(chosen) + 1.0), high * len(rows) + 0.7
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(rows), len(chosen), squeeze=False)
    for row, (name, (stack, look)) in zip(axes, rows.items(), strict=True):
        row[0].set_ylabel(name)
        for axis, index in zip(row, chosen, strict=True):
            axis.imshow(np.rot90(stack[..., index]), interpolation="nearest", **look)
            axis.set(xticks=[], yticks=[])
    for axis, index in zip(axes[0], chosen, strict=True):
        axis.set_title(_title(result.scores.iloc[index]), fontsize=9)
    figure.colorbar(axes[0][0].images[0], ax=axes[:2].ravel().tolist(), shrink=0.5)
    figure.colorbar(axes[2][0].images[0], ax=axes[2].tolist())
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


def evenly_counted(counts: pd.Series) -> Sequence[int]:
    """Some of the slices that count, evenly spread; of all slices where none counts."""
    counted = np.flatnonzero(counts)
    among = counted if len(counted) else np.arange(len(counts))
    places = np.linspace(0, len(among) - 1, min(len(among), COLUMNS)).round().astype(int)
    return [int(i) for i in among[places]]


def _title(row: pd.Series) -> str:
    where = f"{row['position_mm']:.1f} mm\n" if np.isfinite(row["position_mm"]) else ""
    inside = np.isfinite(row["ssim_brain"])
    score = row["ssim_brain"] if inside else row["ssim_whole"]
    return f"{where}SSIM {'in the brain' if inside else 'whole'} {score:.3f}"


def _mean(values: pd.Series) -> float | None:
    mean = float(values.mean())
    return mean if np.isfinite(mean) else None
