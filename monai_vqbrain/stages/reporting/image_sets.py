"""The sets of images that an evaluation compares: training, held-out and synthetic slices."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from PIL import Image

from monai_vqbrain.cohorts.columns import read_table as read_any_table
from monai_vqbrain.errors import UsageError, VQBrainError
from monai_vqbrain.metrics.copies import Matches
from monai_vqbrain.progress import progress
from monai_vqbrain.provenance import read_provenance
from monai_vqbrain.runs.codes import read_codes
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.sampling import sample_files
from monai_vqbrain.runs.stacks import to_uint8
from monai_vqbrain.runs.tables import in_split
from monai_vqbrain.tables import read_table
from monai_vqbrain.transforms.input_image import UNREADABLE
from monai_vqbrain.transforms.input_slice import PICTURES, grey_pixels

logger = logging.getLogger(__name__)

Decode = Callable[[np.ndarray], np.ndarray]  # (B, G, w, h) codes -> (B, W, H) float in [0, 1]

BATCH = 64  # slices that are decoded at a time
VOLUMES = (".nii", ".nii.gz")
MIN_FOREGROUND = 0.05  # of a slice's frame, for a slice of a volume to count


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Slices of one size, with what is known about each.

    Args:
        images: (N, W, H) uint8, 255 standing for an intensity of 1; the first axis to the right,
            the second upwards.
        about: N rows: participant_id, and where known position, age, sex, diagnosis.
    """

    images: np.ndarray
    about: pd.DataFrame

    def __len__(self) -> int:
        """How many slices there are."""
        return len(self.images)

    @property
    def participants(self) -> list[str]:
        """N participants, one per slice."""
        return [str(name) for name in self.about["participant_id"]]

    @property
    def positions(self) -> np.ndarray:
        """(N,) position along the axis, NaN where unknown."""
        if "position" not in self.about:
            return np.full(len(self), np.nan)
        return pd.to_numeric(self.about["position"], errors="coerce").to_numpy(dtype=float)

    def take(self, which: np.ndarray) -> ImageSet:
        """The slices of these indices (integers), or of this mask (bool)."""
        chosen = np.flatnonzero(which) if which.dtype == bool else which
        return ImageSet(self.images[chosen], self.about.iloc[chosen].reset_index(drop=True))


@dataclass(frozen=True, eq=False)
class Comparison:
    """What is compared.

    Args:
        training: real slices that the generator was trained on, as the VQ-VAE returns them; of two
            folders, those of one half of the participants.
        held_out: real slices of participants that it was not trained on; of two folders, those of
            the other half.
        synthetic: the samples; their `participant_id` is the name of each sample.
        spacing: mm per pixel; None where it is unknown.
        sagittal: left and right do not lie along the first axis.
        notes: what a reader should know.
    """

    training: ImageSet
    held_out: ImageSet
    synthetic: ImageSet
    spacing: float | None = None
    sagittal: bool = False
    notes: tuple[str, ...] = field(default=())


def run_comparison(run: RunFolder, decode: Decode) -> Comparison:
    """The sets of a run; real slices as its VQ-VAE returns them, like the samples.

    Raw slices hold detail that no decoded image has, and would be told from samples by that alone.

    Args:
        run: the run folder, with samples.
        decode: the VQ-VAE's decoder.
    """
    codes, rows, _ = read_codes(run)
    position = "position_mm" if rows["position_mm"].notna().all() else "position_rel"
    options = _slicing_options(run)
    if not options.get("space"):
        position = "position_rel"
    about = rows.assign(position=rows[position]).reset_index(drop=True)
    decoded = _decoded(codes, decode)
    real = ImageSet(decoded, about)
    held_out = in_split(about, "validation") | in_split(about, "test")
    return Comparison(
        training=real.take(in_split(about, "training")),
        held_out=real.take(held_out),
        synthetic=_samples(run, position),
        spacing=float(options["spacing"]) if "spacing" in options else None,
        sagittal=set(rows["axis"]) == {"sagittal"},
    )


def closest_pairs(
    comparison: Comparison, matches: Matches, which: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Samples and the training slices nearest to them, in the view that fits best.

    Args:
        comparison: the sets.
        matches: of the samples.
        which: numbers of the samples to show.

    Returns:
        (n, W, H) uint8 of each.
    """
    views = []
    for i in which:
        image = comparison.training.images[matches.nearest[i]]
        image = image[::-1] if matches.mirrored[i] else image
        views.append(np.roll(image, np.rint(matches.shift[i]).astype(int), axis=(0, 1)))
    return comparison.synthetic.images[list(which)], np.stack(views)


def _slicing_options(run: RunFolder) -> dict[str, Any]:
    return dict((read_provenance(run.slices) or {}).get("options", {}))


def _decoded(codes: np.ndarray, decode: Decode) -> np.ndarray:
    """(N, W, H) uint8 of (N, G, w, h) codes, decoded in fixed batches."""
    starts = range(0, len(codes), BATCH)
    batches = [to_uint8(decode(codes[i : i + BATCH])) for i in progress(starts, "decode slices")]
    return np.concatenate(batches)


def _samples(run: RunFolder, position: str) -> ImageSet:
    """The slices of the samples; those of a volume lie at the run's own positions."""
    files = sample_files(run)
    table = read_table(run.samples / "samples.tsv")
    conditions = [_parse_condition(text) for text in table["condition"]]
    stacks, about = [], []
    for file, asked in zip(files, conditions, strict=True):
        image: Any = nib.load(file)
        slices = np.moveaxis(np.asanyarray(image.dataobj.get_unscaled()), 2, 0)
        stacks.append(slices)
        where = asked.get(position) if len(slices) == 1 else None
        known = {name: asked.get(name) for name in ("age", "sex", "diagnosis")}
        name = file.name.removesuffix(".nii.gz")
        about += [{"participant_id": name, "position": where, **known}] * len(slices)
    return ImageSet(np.concatenate(stacks), pd.DataFrame(about))


def _parse_condition(text: Any) -> dict[str, str]:
    """`diagnosis=AD, age=75` as a dictionary."""
    parts = [part.split("=", 1) for part in str(text).split(", ") if "=" in part]
    return dict(parts)


def folder_comparison(real: Path, synthetic: Path, table: Path | None, seed: int = 0) -> Comparison:
    """The sets of two folders of images; half of the real participants take the part of training.

    Args:
        real: the folder with real images.
        synthetic: the folder with those of a generator.
        table: which participant each real image shows: columns `image` and `participant_id`.
        seed: of the halves.

    Raises:
        UsageError: if a folder or the table cannot be used.
        VQBrainError: if the images differ in size.
    """
    known = {} if table is None else _participants_of(table)
    first = read_images(real, known)
    second = read_images(synthetic, {}, size=first.images.shape[1:])
    notes = []
    if table is None:
        notes.append(
            "no table says which participant each real image shows, so each image counts as a "
            "participant; if several show one, intervals are too narrow and copies look legitimate"
        )
        logger.warning("%s: give --participants TABLE", notes[0])
    people = np.unique(first.participants)
    half = np.random.default_rng(seed).permutation(people)[: len(people) // 2]
    training = np.isin(first.participants, half)
    return Comparison(first.take(training), first.take(~training), second, notes=tuple(notes))


def read_images(
    folder: Path, participants: Mapping[str, str], size: tuple[int, ...] | None = None
) -> ImageSet:
    """Read a folder of PNG, JPEG, TIFF or NIfTI images of one size.

    A NIfTI volume gives all of its slices along the third axis that hold at least 5 % foreground.

    Args:
        folder: it is searched with its sub-folders.
        participants: name of a file, with or without its folder and ending -> participant; a file
            that is not in it is a participant of its own.
        size: (W, H) that the images must have; by default that of the first.

    Raises:
        UsageError: if the folder is not there or holds no image.
        VQBrainError: for an image of another size, or one that cannot be read.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder: give one with PNG, JPEG or NIfTI images")
    files = [p for p in sorted(folder.rglob("*")) if p.name.lower().endswith((*PICTURES, *VOLUMES))]
    if not files:
        raise UsageError(f"{folder} holds no PNG, JPEG, TIFF or NIfTI image")
    stacks: list[np.ndarray] = []
    about: list[dict[str, Any]] = []
    for file in progress(files, f"read {folder.name}", len(files)):
        slices, places = _slices_of(file)
        size = slices.shape[1:] if size is None else size
        if slices.shape[1:] != tuple(size):
            raise VQBrainError(
                f"{file} has {slices.shape[1]}x{slices.shape[2]} pixels, the others "
                f"{size[0]}x{size[1]}: resample all images to one size first"
            )
        name = _participant(file, folder, participants)
        stacks.append(slices)
        about += [{"participant_id": name, "position": place} for place in places]
    return ImageSet(np.concatenate(stacks), pd.DataFrame(about))


def _slices_of(file: Path) -> tuple[np.ndarray, Sequence[float]]:
    """(S, W, H) uint8 and the position of each slice; NaN for a single one."""
    try:
        if file.name.lower().endswith(PICTURES):
            with Image.open(file) as opened:
                stack = np.rot90(grey_pixels(opened), -1)[None]
        else:
            values = np.asarray(nib.load(file).dataobj)  # type: ignore[attr-defined]
            stack = np.moveaxis(values.reshape((*values.shape, 1)[:3]), 2, 0)
    except UNREADABLE as error:
        raise VQBrainError(f"{file} cannot be read ({error}): remove it or replace it") from error
    slices = _as_uint8(stack)
    if len(slices) == 1:
        return slices, [float("nan")]
    full = (slices > 0).mean(axis=(1, 2)) >= MIN_FOREGROUND
    return slices[full], (np.flatnonzero(full) / max(len(slices) - 1, 1)).tolist()


def _as_uint8(values: np.ndarray) -> np.ndarray:
    """8-bit values as they are; values in [0, 1] times 255; others by their largest."""
    if values.dtype == np.uint8:
        return values
    top = float(values.max())
    scale = 1.0 if values.dtype.kind == "f" and top <= 1 else max(top, 1e-12)
    return to_uint8(values.astype(np.float32) / scale)


def _participant(file: Path, folder: Path, participants: Mapping[str, str]) -> str:
    relative = file.relative_to(folder)
    stem = relative.name.split(".")[0]
    for name in (relative.as_posix(), relative.name, stem):
        if name in participants:
            return participants[name]
    return relative.as_posix()


def _participants_of(path: Path) -> dict[str, str]:
    table, problems = read_any_table(path)
    columns = {str(name).lower(): str(name) for name in table.columns}
    if problems or not {"image", "participant_id"} <= columns.keys():
        there = ", ".join(map(str, table.columns)) or "none that can be read"
        raise UsageError(f"{path} needs the columns image and participant_id; there are: {there}")
    names = table[columns["image"]].str.strip()
    return dict(zip(names, table[columns["participant_id"]].str.strip(), strict=True))
