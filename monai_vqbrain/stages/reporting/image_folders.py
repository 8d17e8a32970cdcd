"""Folders of images that an evaluation compares."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from monai_vqbrain.cohorts.columns import (
    choose_columns,
    facts,
    records,
)
from monai_vqbrain.cohorts.table_file import read_table as read_any_table
from monai_vqbrain.errors import UnusableImageError, UsageError, VQBrainError
from monai_vqbrain.progress import progress
from monai_vqbrain.runs.stacks import to_uint8
from monai_vqbrain.stages.reporting.image_sets import Comparison, ImageSet
from monai_vqbrain.transforms.input_slice import PICTURES, grey_pixels, open_picture
from monai_vqbrain.transforms.voxels import open_image, read_scaled

logger = logging.getLogger(__name__)

VOLUMES = (".nii", ".nii.gz")
DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "F")  # of pictures with more than 8 bits
MIN_FOREGROUND = 0.05  # of a slice's frame, for a slice of a volume to count


About = Mapping[str, dict[str, Any]]  # name of an image -> participant_id, diagnosis, sex, age


def folder_comparison(
    real: Path, synthetic: Path, table: Path | None, asked: Path | None = None, seed: int = 0
) -> Comparison:
    """The sets of two folders of images; half of the real participants are used as training data.

    Args:
        real: the folder with real images.
        synthetic: the folder with those of a generator.
        table: the participant of each real image: columns `image` and `participant_id`; and
            diagnosis, sex and age if it has them.
        asked: the requested conditions of each synthetic image: columns `image` and any of these.
        seed: of the halves.

    Raises:
        UsageError: if a folder or the table cannot be used.
        VQBrainError: if the images differ in size.
    """
    _check_apart(real, synthetic)
    first = read_images(real, read_about(table, ("image", "participant_id")))
    second = read_images(synthetic, read_about(asked, ("image",)), first.images.shape[1:])
    notes = []
    if table is None:
        notes.append(
            "the participants of the real images are unknown, so each image counts as one "
            "participant; if several are of the same participant, intervals are too narrow and "
            "copies go undetected"
        )
        logger.warning("%s: give --participants TABLE", notes[0])
    participants = np.unique(first.participants)
    half = np.random.default_rng(seed).permutation(participants)[: len(participants) // 2]
    training = np.isin(first.participants, half)
    return Comparison(first.take(training), first.take(~training), second, notes=tuple(notes))


def _check_apart(real: Path, synthetic: Path) -> None:
    """Refuse nested folders: images would count on both sides."""
    one, other = real.resolve(), synthetic.resolve()
    if one.is_relative_to(other) or other.is_relative_to(one):
        raise UsageError(
            f"{real} and {synthetic} are the same or nested folders: give two separate folders"
        )


def read_images(folder: Path, about: About, size: tuple[int, ...] | None = None) -> ImageSet:
    """Read a folder of PNG, JPEG, TIFF or NIfTI images of one size.

    A NIfTI volume gives all of its slices along the third axis with at least 5 % foreground.
    8-bit values are kept; other values are divided by the folder's maximum if that is above 1.

    Args:
        folder: it is searched with its sub-folders.
        about: name of a file, with or without its folder and ending -> its data; a file that is
            not in it counts as one participant.
        size: (W, H) that the images must have; by default that of the first.

    Raises:
        UsageError: if the folder does not exist or has no image, or `about` names none of them.
        VQBrainError: for an image of another size, or one that cannot be read.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder: give one with PNG, JPEG or NIfTI images")
    files = [p for p in sorted(folder.rglob("*")) if p.name.lower().endswith((*PICTURES, *VOLUMES))]
    if not files:
        raise UsageError(f"{folder} has no PNG, JPEG, TIFF or NIfTI image")
    stacks: list[np.ndarray] = []
    rows: list[dict[str, Any]] = []
    _check_named(files, folder, about)
    deep = [file for file in files if not _is_8_bit(file)]
    scale = _largest(deep, folder) if deep else 1.0
    for file in progress(files, f"read {folder.name}", unit="image"):
        slices, places = _slices_of(file, scale)
        size = slices.shape[1:] if size is None else size
        if slices.shape[1:] != tuple(size):
            raise VQBrainError(
                f"{file} has {slices.shape[1]}x{slices.shape[2]} pixels, the others "
                f"{size[0]}x{size[1]}: resample all images to one size first"
            )
        known = _find(file, folder, about)
        stacks.append(slices)
        rows += [known | {"position": place} for place in places]
    return ImageSet(np.concatenate(stacks), pd.DataFrame(rows))


def _largest(files: Sequence[Path], folder: Path) -> float:
    """The value that is scaled to 1 in images that are not 8-bit, the same for the whole folder.

    A scale per image would change the relative brightness of images.
    """
    largest = 0.0
    for file in progress(files, f"scan {folder.name}", unit="image"):
        stack = _read(file)
        if stack.dtype != np.uint8:
            largest = max(largest, float(stack.max()))
    return largest if largest > 1 else 1.0


def _is_8_bit(file: Path) -> bool:
    """Whether an image is a picture of 8-bit values, by its header."""
    if not file.name.lower().endswith(PICTURES):
        return False
    try:
        with open_picture(file) as opened:
            return opened.mode not in DEEP_MODES
    except UnusableImageError:
        return True  # reading it reports the error


def _slices_of(file: Path, scale: float) -> tuple[np.ndarray, Sequence[float]]:
    """(S, W, H) uint8 and the position of each slice; NaN for a single one."""
    stack = _read(file)
    slices = stack if stack.dtype == np.uint8 else to_uint8(stack.astype(np.float32) / scale)
    if len(slices) == 1:
        return slices, [float("nan")]
    full = (slices > 0).mean(axis=(1, 2)) >= MIN_FOREGROUND
    return slices[full], (np.flatnonzero(full) / max(len(slices) - 1, 1)).tolist()


def _read(file: Path) -> np.ndarray:
    """(S, W, H) of the values as they are stored.

    Raises:
        VQBrainError: if the file cannot be read, is in colour, or has values that are not finite.
    """
    try:
        if file.name.lower().endswith(PICTURES):
            with open_picture(file) as opened:
                return np.rot90(grey_pixels(opened), -1)[None]
        values = read_scaled(open_image(file))
    except UnusableImageError as error:
        raise VQBrainError(f"{file} {error.problem}: remove it or replace it") from error
    except ValueError as error:
        raise VQBrainError(f"{file} cannot be read ({error}): remove it or replace it") from error
    if values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise VQBrainError(f"{file} has values that are not finite: remove it or fix it")
    shape = (*values.shape, 1)[:3]
    if values.ndim < 2 or values.size != np.prod(shape):
        raise VQBrainError(f"{file} has the shape {values.shape}: give slices or 3D volumes")
    return np.moveaxis(values.reshape(shape), 2, 0)


def _check_named(files: Sequence[Path], folder: Path, about: About) -> None:
    """Refuse a table that names none of the images; warn of images that it does not name."""
    missing = sum(_name_in(file, folder, about) is None for file in files)
    if about and missing == len(files):
        raise UsageError(
            f"the table of {folder} names {next(iter(about))} and others, but none of its images, "
            f"such as {files[0].relative_to(folder)}: use the names of the files"
        )
    if about and missing:
        logger.warning(
            "%d of %d images in %s are not in its table: each counts as one participant",
            missing,
            len(files),
            folder,
        )


def _name_in(file: Path, folder: Path, about: About) -> str | None:
    """The name of an image in a table: with its folder and ending, or without."""
    relative = file.relative_to(folder)
    names = (relative.as_posix(), relative.name, relative.name.split(".")[0])
    return next((name for name in names if name in about), None)


def _find(file: Path, folder: Path, about: About) -> dict[str, Any]:
    """The data of an image; its file name as participant if unknown."""
    name = _name_in(file, folder, about)
    own = {"participant_id": file.relative_to(folder).as_posix()}
    return own if name is None else own | about[name]


def read_about(path: Path | None, needed: tuple[str, ...]) -> About:
    """Read a table of images; empty for None.

    Args:
        path: CSV or TSV with a column `image` and others.
        needed: the columns that it must have, in any case.

    Returns:
        Name of an image -> participant_id if there is that column, and diagnosis, sex and age if
        known.

    Raises:
        UsageError: if the file cannot be read or lacks a column.
    """
    if path is None:
        return {}
    table, problems = read_any_table(path)
    columns = {str(name).lower(): str(name) for name in table.columns}
    if problems or not set(needed) <= columns.keys():
        there = ", ".join(map(str, table.columns)) or "none"
        raise UsageError(f"{path} needs the columns {' and '.join(needed)}; it has: {there}")
    chosen = choose_columns(table)
    about = {}
    for row in records(table):
        known = asdict(facts(row, chosen))
        if "participant_id" in columns:
            known["participant_id"] = row[columns["participant_id"]].strip()
        about[row[columns["image"]].strip()] = {k: v for k, v in known.items() if v}
    return about
