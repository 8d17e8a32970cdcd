"""`vqbrain reconstruct`: reconstruct images by a run's VQ-VAE, in their own space, and score."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from monai_vqbrain.files import building
from monai_vqbrain.provenance import describe, write_provenance
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.freshness import check_vqvae, code_inputs
from monai_vqbrain.runs.networks import load_network, select_device
from monai_vqbrain.runs.participants import RunParticipants
from monai_vqbrain.runs.records import slicing_options
from monai_vqbrain.runs.tables import read_slices_table
from monai_vqbrain.stages.images.batch import check_result_folder, process_images, read_input_image
from monai_vqbrain.stages.images.input_volume import SliceFrame
from monai_vqbrain.stages.images.output import write_reconstruction
from monai_vqbrain.stages.images.reconstruction import reconstruct_image
from monai_vqbrain.transforms.input_slice import is_picture


def reconstruct(
    run: Path | str,
    images: Sequence[Path | str],
    *,
    output: Path | str | None = None,
    device: str = "auto",
) -> Path:
    """Reconstruct images, each into its own folder; an image that fails does not stop the others.

    Args:
        run: the run folder.
        images: volumes, or single slices as NIfTI or pictures.
        output: the parent of these folders, by default `R/reconstructions`.
        device: "auto", "cpu", "cuda" or "cuda:N".

    Returns:
        The parent folder of the images' folders.

    Raises:
        UsageError: if slices or VQ-VAE are missing, or the device is not available.
        VQBrainError: if the VQ-VAE was trained on other slices; or if an image failed, with the
            message for the last one.
    """
    run_folder = RunFolder(run)
    run_folder.need(run_folder.slices, "prepare SOURCE")
    run_folder.need(run_folder.vqvae, "train vqvae")
    folder = Path(output) if output else run_folder.path / "reconstructions"
    process_images(images, folder, Reconstructor(run_folder, device), "reconstructed")
    return folder


class Reconstructor:
    """Reconstructs single images with a run's VQ-VAE.

    Args:
        run: the run folder.
        device: "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        UsageError: if the device is not available.
        VQBrainError: if the VQ-VAE was trained on other slices, or cannot be read.
    """

    def __init__(self, run: RunFolder, device: str) -> None:
        check_vqvae(run)
        self.device = select_device(device)
        self.network = load_network(run.vqvae, self.device)
        self.frame = SliceFrame.of(slicing_options(run, *SliceFrame.OPTIONS))
        self.participants = RunParticipants(run)
        self.made_from = code_inputs(run)
        rows = read_slices_table(run)
        positions = rows["position_rel"][rows["split"] == "training"]
        self.trained_on = float(positions.min()), float(positions.max())

    def __call__(self, path: Path, folder: Path) -> list[str]:
        """Reconstruct one image.

        Args:
            path: the image.
            folder: the folder to write to, which also names the files; an earlier result for the
                same image is replaced.

        Returns:
            Lines for the user.

        Raises:
            VQBrainError: if the image cannot be used, or the folder belongs to another one.
            ValueError: from a transform, if the image's values are unusable.
        """
        began = time.monotonic()
        check_result_folder(folder, path, "reconstruction")
        image = read_input_image(path, self.frame)
        files = {"image": path} | ({"mask": image.mask_path} if image.mask_path else {})
        made_from = {**describe(files), **self.made_from}
        participant = self.participants.find(path, made_from["image"]["sha256"])
        result = reconstruct_image(image, self.network, self.device)
        scores = result.summary(self.trained_on)
        about: dict[str, Any] = {
            "kind": "reconstruction",
            "image": str(path.resolve()),
            "intensities_of_0_and_1": image.limits,
            "split": self.participants.splits[participant] if participant else None,
            "scores": scores,
            "notes": image.notes,
            "device": str(self.device),
        }
        with building(folder) as work:
            write_reconstruction(result, work, folder.name, is_picture(path))
            seconds = time.monotonic() - began
            write_provenance(work, made_from, asdict(self.frame), seconds, **about)
        warning = self.participants.warning(participant)
        return [score_line(scores), *image.notes, *([warning] if warning else [])]


def score_line(scores: dict[str, Any]) -> str:
    """The scores of one image as a line for the user."""
    if scores["ssim_brain"] is None:
        text = f"whole-image SSIM {scores['ssim_whole']:.3f}"
        return f"{text}; no slice has enough brain for an in-brain score"
    counted, trained = scores["slices_scored"], scores["slices_trained_on"]
    text = f"in-brain SSIM {scores['ssim_brain']:.3f}"
    if scores["slices"] > 1:
        text += f" over {counted} slices"
    if trained and trained < counted:
        text += f" ({scores['ssim_brain_trained_on']:.3f} over the {trained} at trained positions)"
    text += f", mean error {scores['error_brain']:.3f}"
    if scores["error_brain_resampling"] > 0:
        text += f" ({scores['error_brain_resampling']:.3f} from resampling alone)"
    return text
