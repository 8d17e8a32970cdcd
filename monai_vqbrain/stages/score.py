"""`vqbrain score`: how many bits a run's prior needs for each code of an image, as maps."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch

from monai_vqbrain.errors import UsageError, VQBrainError
from monai_vqbrain.files import building
from monai_vqbrain.inferers import code_bits
from monai_vqbrain.metrics import over_participants
from monai_vqbrain.networks import BrainVQVAE, PixelCNN
from monai_vqbrain.networks.conditions import Known, condition_row
from monai_vqbrain.provenance import describe, write_provenance
from monai_vqbrain.runs.codes import code_items
from monai_vqbrain.runs.conditions import RANGE_DIGITS, conditions_of_row, position_condition
from monai_vqbrain.runs.folder import MIN_BRAIN_FRACTION, RunFolder
from monai_vqbrain.runs.freshness import check_models
from monai_vqbrain.runs.networks import load_network, select_device
from monai_vqbrain.runs.participants import RunParticipants
from monai_vqbrain.runs.records import slicing_options
from monai_vqbrain.runs.views import PLAIN_VIEW
from monai_vqbrain.stages.images.batch import check_result_folder, process_images, read_input_image
from monai_vqbrain.stages.images.input_volume import SliceFrame
from monai_vqbrain.stages.images.output import write_like
from monai_vqbrain.stages.images.panels import bits_panel
from monai_vqbrain.stages.images.reconstruction import POSITION_COLUMNS
from monai_vqbrain.tables import write_table
from monai_vqbrain.transforms.input_image import InputImage

BATCH = 16  # slices per batch
PERCENTILES = (5, 25, 50, 75, 95)  # of validation participants
MAX_BITS = 16.0  # scale of the stored map, in steps of 1/256 bit


def score(
    run: Path | str,
    images: Sequence[Path | str],
    *,
    output: Path | str | None = None,
    device: str = "auto",
    condition: Mapping[str, str] | None = None,
) -> Path:
    """Score images, each into its own folder; an image that fails does not stop the others.

    Args:
        run: the run folder.
        images: volumes, or single slices as NIfTI or pictures.
        output: the parent of these folders, by default `R/scores`.
        device: "auto", "cpu", "cuda" or "cuda:N".
        condition: name -> value of what is known about the participants of the images.

    Returns:
        The parent folder of the images' folders.

    Raises:
        UsageError: if a network is missing, the device is not available, or the prior does not have
            the condition.
        VQBrainError: if the networks are inconsistent; or if an image failed, with the message for
            the last one.
    """
    run_folder = RunFolder(run)
    run_folder.need(run_folder.vqvae, "train vqvae")
    run_folder.need(run_folder.prior, "train prior")
    folder = Path(output) if output else run_folder.path / "scores"
    process_images(images, folder, Scorer(run_folder, device, condition or {}), "scored")
    return folder


class Scorer:
    """Scores single images with a run's prior.

    Args:
        run: the run folder.
        device: "auto", "cpu", "cuda" or "cuda:N".
        condition: name -> value of what is known about the participants of the images.

    Raises:
        UsageError: if the device is not available, or the prior does not have the condition.
        VQBrainError: if the networks are inconsistent, or cannot be read.
    """

    def __init__(self, run: RunFolder, device: str, condition: Mapping[str, str]) -> None:
        check_models(run)
        self.device = select_device(device)
        self.vqvae = cast("BrainVQVAE", load_network(run.vqvae, self.device))
        self.prior = cast("PixelCNN", load_network(run.prior, self.device))
        self.known: Known = self.prior.settings["conditions"]
        self.condition, self.position = dict(condition), position_condition(self.known)
        try:
            condition_row(self.known, self.condition)
        except ValueError as error:
            raise UsageError(f"--condition {error}") from error
        self.frame = SliceFrame.of(slicing_options(run, *SliceFrame.OPTIONS))
        models = {"3-vqvae": run.vqvae / "model.pt", "5-prior": run.prior / "model.pt"}
        self.made_from = describe(models)
        self.participants = RunParticipants(run)
        self.validation_bits = self._validation_bits(run)

    def __call__(self, path: Path, folder: Path) -> list[str]:
        """Score one image.

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
        check_result_folder(folder, path, "scores")
        image = read_input_image(path, self.frame)
        files = {"image": path} | ({"mask": image.mask_path} if image.mask_path else {})
        made_from = describe(files) | self.made_from
        participant = self.participants.find(path, made_from["image"]["sha256"])
        bits = self._bits(image)  # (S, w, h)
        table = self._table(image, bits)
        counted = table[table["counts"]]
        mean = float(counted["bits_per_code"].mean()) if len(counted) else None
        with building(folder) as work:
            name = folder.name
            stack = np.kron(bits.transpose(1, 2, 0), np.ones((self.vqvae.factor,) * 2 + (1,)))
            width, height = image.slices.shape[:2]
            stack = np.ascontiguousarray(stack[:width, :height], dtype=np.float32)
            values = image.back(stack) * image.brain
            file = work / f"{name}_desc-bits_T1w.nii.gz"
            write_like(values, MAX_BITS, "bits per code, vqbrain", image.like, file)
            write_table(table, work / f"{name}_bits.tsv", digits=6)
            (work / f"{name}.png").write_bytes(bits_panel(image, stack, table))
            about: dict[str, Any] = {
                "kind": "scores",
                "image": str(path.resolve()),
                "condition": self.condition,
                "bits_per_code": mean,
                "bits": float(counted["bits"].sum()),
                "usual": self.validation_bits,
                "notes": image.notes,
            }
            seconds = time.monotonic() - began
            write_provenance(work, made_from, asdict(self.frame), seconds, **about)
        warning = self.participants.warning(participant)
        lines = [self._line(mean, len(counted)), *image.notes]
        return [*lines, warning] if warning else lines

    @torch.inference_mode()
    def _bits(self, image: InputImage) -> np.ndarray:
        """Bits of every code of every slice, (S, w, h)."""
        slices = torch.from_numpy(np.ascontiguousarray(image.slices.transpose(2, 0, 1)))[:, None]
        rows = torch.stack([self._row(place) for place in image.places])
        bits = []
        for batch, conditions in zip(slices.split(BATCH), rows.split(BATCH), strict=True):
            codes = self.vqvae.index_quantize(batch.to(self.device))
            if list(codes.shape[-2:]) != self.prior.settings["grid"][-2:]:
                w, h = (side * self.vqvae.factor for side in self.prior.settings["grid"][-2:])
                raise VQBrainError(
                    f"has slices of {batch.shape[2]}x{batch.shape[3]} pixels, and the prior was "
                    f"trained on {w}x{h}: give a volume, or a slice of that size"
                )
            bits.append(self._code_bits(codes, conditions))
        return torch.cat(bits).cpu().numpy()

    def _row(self, place: Mapping[str, Any]) -> torch.Tensor:
        """The conditions of one slice, (C,): the given ones, and its position if it is one."""
        return condition_row(self.known, conditions_of_row(place, self.known) | self.condition)

    def _table(self, image: InputImage, bits: np.ndarray) -> pd.DataFrame:
        table = pd.DataFrame(image.places, columns=list(POSITION_COLUMNS))
        table["bits_per_code"] = bits.mean(axis=(1, 2))
        table["bits"] = bits.sum(axis=(1, 2)) * self.prior.groups
        counts = ~(table["brain_fraction"] < MIN_BRAIN_FRACTION)  # NaN for a picture
        if self.position is not None:
            low, high = map(float, self.known[self.position])
            positions = table[self.position].round(RANGE_DIGITS)
            counts &= positions.isna() | positions.between(low, high)
        return table.assign(counts=counts)

    @torch.inference_mode()
    def _validation_bits(self, run: RunFolder) -> dict[str, Any]:
        """Bits per code of validation participants, given the same conditions as the images."""
        items = code_items(run.path, "validation", 256, self.known)
        named = {self.position, *self.condition, *PLAIN_VIEW}
        given = torch.tensor([name in named for name in self.known])
        means: list[float] = []
        for start in range(0, len(items), BATCH):
            batch = items[start : start + BATCH]
            codes = torch.stack([item["codes"] for item in batch]).to(self.device)
            rows = torch.empty(len(batch), 0)
            if self.known:
                rows = torch.stack([item["condition"] for item in batch])
                rows = rows.masked_fill(~given, torch.nan)
            means += self._code_bits(codes, rows).mean((-1, -2)).tolist()
        participants = [str(item["participant_id"]) for item in items]
        by_participant = pd.Series(means).groupby(participants).mean()
        percentiles = np.percentile(by_participant, PERCENTILES).tolist()
        mean = over_participants(means, participants).as_json()
        return mean | {"percentiles": dict(zip(map(str, PERCENTILES), percentiles, strict=True))}

    def _code_bits(self, codes: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Bits per code under conditions, (B, w, h); the mean over several groups."""
        bits = code_bits(self.prior, codes, rows.to(self.device) if self.known else None)
        return bits.mean(1) if bits.ndim == 4 else bits

    def _line(self, mean: float | None, slices: int) -> str:
        if mean is None:
            return "no slice is at a position that the prior was trained on: do not rely on the map"
        low, middle, high = (self.validation_bits["percentiles"][str(p)] for p in (5, 50, 95))
        return (
            f"{mean:.2f} bits per code over {slices} slices (validation participants: median "
            f"{middle:.2f}, 5th to 95th percentile {low:.2f} to {high:.2f})"
        )
