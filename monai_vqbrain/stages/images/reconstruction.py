"""Reconstruction of one image by the VQ-VAE: slices, error, scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import nn

from monai_vqbrain.metrics import slice_scores
from monai_vqbrain.runs.folder import MIN_BRAIN_FRACTION
from monai_vqbrain.transforms.input_image import InputImage

BATCH = 16  # slices per batch; larger is no faster on a CPU and needs more memory
POSITION_COLUMNS = ("index", "position_mm", "position_rel", "brain_fraction")


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """The reconstruction of an image by a VQ-VAE.

    Args:
        image: the image.
        slices: (W, H, S) float32 in [0, 1].
        scores: one row per slice: position, brain_fraction, and those of `slice_scores`; in-brain
            scores are NaN if less than 5 % of the frame is brain.
        unit: (X, Y, Z) float32 in [0, 1], on the image's own voxels; 0 outside the slices.
    """

    image: InputImage
    slices: np.ndarray
    scores: pd.DataFrame
    unit: np.ndarray

    @property
    def error(self) -> np.ndarray:
        """(X, Y, Z) reconstruction minus image, both in [0, 1]."""
        return np.asarray(self.unit - self.image.unit)

    def summary(self, trained_on: tuple[float, float]) -> dict[str, float | int | None]:
        """Means over the slices that count and over the brain's voxels; None if there are none.

        Args:
            trained_on: the minimum and maximum position_rel of the training slices.

        Returns:
            The scores; in-brain SSIM also for the slices in the range of training positions.
            `error_brain` is the mean absolute error in [0, 1], `error_brain_resampling` the error
            of resampling alone, between the image's voxels and the frame's pixels.
        """
        counted = self.scores[self.scores["ssim_brain"].notna()]
        trained = counted[counted["position_rel"].between(*trained_on)]
        brain = self.image.brain
        resampling = self.image.back(self.image.slices) - self.image.unit
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
            "error_brain_resampling": _mean(pd.Series(np.abs(resampling[brain]))),
        }


def reconstruct_image(
    image: InputImage, network: nn.Module, device: torch.device
) -> Reconstruction:
    """Reconstruct all slices of an image, and resample them to its voxels.

    Args:
        image: the image.
        network: (B, 1, W, H) -> (B, 1, W, H), in evaluation mode, on `device`.
        device: device of the network.
    """
    slices = torch.from_numpy(np.ascontiguousarray(image.slices.transpose(2, 0, 1)))[:, None]
    masks = torch.from_numpy(np.ascontiguousarray(image.mask.transpose(2, 0, 1)))[:, None]
    predictions, scores = [], []
    with torch.inference_mode():
        for batch, mask in zip(slices.split(BATCH), masks.split(BATCH), strict=True):
            prediction = network(batch.to(device)).float().cpu().clamp(0, 1)
            predictions.append(prediction)
            scores.append(_scores(prediction, batch, mask))
    reconstructed = torch.cat(predictions)[:, 0].numpy().transpose(1, 2, 0)
    reconstructed = np.ascontiguousarray(reconstructed)  # (W, H, S)
    table = pd.DataFrame(image.places, columns=list(POSITION_COLUMNS))
    table = pd.concat([table, pd.concat(scores, ignore_index=True)], axis=1)
    table.loc[table["brain_fraction"] < MIN_BRAIN_FRACTION, ["ssim_brain", "psnr_brain"]] = np.nan
    return Reconstruction(image, reconstructed, table, image.back(reconstructed))


def _scores(prediction: torch.Tensor, image: torch.Tensor, mask: torch.Tensor) -> pd.DataFrame:
    scores = slice_scores(prediction, image, mask)
    return pd.DataFrame({name: values.numpy() for name, values in scores.items()})


def _mean(values: pd.Series) -> float | None:
    mean = float(values.mean())
    return mean if np.isfinite(mean) else None
