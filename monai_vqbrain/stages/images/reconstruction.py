"""One image through the VQ-VAE: reconstruction, error, scores, and their files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import nn

from monai_vqbrain.metrics import psnr_brain, ssim_brain, ssim_whole
from monai_vqbrain.runs.folder import MIN_BRAIN_FRACTION
from monai_vqbrain.transforms.input_image import InputImage

BATCH = 16  # slices at a time; more is no faster on a CPU and holds more memory
LEVELS = 4096  # of intensity on disk: finer than any reconstruction, and small files
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


def _mean(values: pd.Series) -> float | None:
    mean = float(values.mean())
    return mean if np.isfinite(mean) else None
