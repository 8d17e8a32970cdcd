"""Volumes for the VQ-VAE's bundle to reconstruct, and the files that it writes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from ignite.engine import Engine, Events
from monai.data import MetaTensor, decollate_batch

from monai_vqbrain.cohorts import make_phantom, read_cohort
from monai_vqbrain.errors import UsageError
from monai_vqbrain.files import writing
from monai_vqbrain.transforms import ExtractSlicesd

logger = logging.getLogger(__name__)


def volume_items(dataset_dir: Path | str | None, output_dir: Path | str) -> list[dict[str, Any]]:
    """The volumes to reconstruct.

    Args:
        dataset_dir: a folder of skull-stripped T1-weighted volumes, as for `prepare`; None for one
            simulated brain, which is written to `output_dir`.
        output_dir: where results go.

    Returns:
        One dictionary per volume: image (its path), name, participant_id, session_id.

    Raises:
        UsageError: if there is no volume.
    """
    if dataset_dir is None:
        dataset_dir = make_phantom(Path(output_dir) / "simulated", 1, second_sessions=0)
    scans = read_cohort(Path(dataset_dir), "auto").scans
    if not scans:
        raise UsageError(f"dataset_dir {dataset_dir}: it has no volumes")
    return [
        {
            "image": str(scan.path),
            "name": scan.name,
            "participant_id": scan.participant_id,
            "session_id": scan.session_id or "n/a",
        }
        for scan in scans
    ]


def report(output_dir: Path | str, ssim: float) -> None:
    """Log the in-brain SSIM and the folder: the last step of the bundle's `run`."""
    where = Path(output_dir).resolve()
    logger.info("reconstructed: in-brain SSIM %.4f; results: %s", ssim, where)


class ReconstructedVolumes:
    """Writes the reconstruction of each volume in its own space, as NIfTI.

    A batch of the evaluator must be all slices of one volume.

    Args:
        folder: the folder to write to: `NAME_desc-reconstruction_T1w.nii.gz`, in [0, 1].
        extract: the transform that has cut the volumes.
    """

    def __init__(self, folder: Path | str, extract: ExtractSlicesd) -> None:
        self.folder = Path(folder)
        self.extract = extract

    def attach(self, engine: Engine) -> None:
        """Attach to a VQVAEEvaluator."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._write)

    def _write(self, engine: Engine) -> None:
        output: Any = engine.state.output
        slices = decollate_batch(output["image"])
        predictions = output["pred"].clamp(0, 1).cpu()
        volume = self.extract.inverse([
            {"image": MetaTensor(prediction, meta=one.meta)}
            for one, prediction in zip(slices, predictions, strict=True)
        ])["image"]  # fmt: skip
        image = nib.Nifti1Image(volume[0].numpy(), np.asarray(volume.affine))
        with writing(self.folder / f"{output['name'][0]}_desc-reconstruction_T1w.nii.gz") as path:
            nib.save(image, path)
