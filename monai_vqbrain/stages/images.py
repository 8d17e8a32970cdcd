"""Images that a command names, one after the other: read, each into a folder of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from monai_vqbrain.cohorts.names import stem
from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.progress import progress
from monai_vqbrain.provenance import read_provenance
from monai_vqbrain.stages.original import Frame, Original, volume_original
from monai_vqbrain.stages.original_slice import (
    is_flat,
    is_picture,
    picture_original,
    slice_original,
)
from monai_vqbrain.stages.volume import UnusableVolumeError

DICOM_MARK = slice(128, 132)  # "DICM" in a DICOM file


def each_image(
    images: Sequence[Path], folder: Path, work: Callable[[Path, Path], list[str]], verb: str
) -> None:
    """Work on images one by one, each into a folder of its own; a failure does not end the others.

    Args:
        images: paths; one that comes twice counts once.
        folder: where the images' folders go.
        work: of (image, its folder), gives what to tell a person.
        verb: what is done, such as "reconstructed".

    Raises:
        VQBrainError: if an image failed: the line of the last one; those before are printed.
    """
    names = result_names(images)
    lines, problems = [], []
    for path, name in progress(names.items(), "images", len(names)):
        try:
            lines += [f"{name}: {line}" for line in work(path, folder / name)]
        except VQBrainError as error:
            problems.append(f"{path}: {error}")
        except ValueError as error:  # of the transforms, about this image's numbers
            problems.append(f"{path}: {error}: look at the image")
        except OSError as error:  # of the image, or of where its result goes
            problems.append(f"{path}: {error}: mend that, or leave this image out")
    done = f"{len(names) - len(problems)} of {len(names)} images {verb}: {folder}"
    click.echo("\n".join([*lines, done]))
    for problem in problems[:-1]:
        click.echo(f"Error: {problem}", err=True)
    if problems:
        raise VQBrainError(problems[-1])


def result_names(images: Sequence[Path]) -> dict[Path, str]:
    """A name for the results of each image: its own, with its ending or folders where it repeats.

    Args:
        images: paths; one that comes twice counts once.

    Example:
        >>> list(result_names([Path("a/mri/brain.mgz"), Path("b/mri/brain.mgz")]).values())
        ['a_mri_brain', 'b_mri_brain']
        >>> list(result_names([Path("sub-02_T1w.nii.gz"), Path("x.nii"), Path("x.png")]).values())
        ['sub-02', 'x.nii', 'x.png']
    """
    paths = list({path.resolve(): path for path in images}.values())
    plain = {path: _plain(path) for path in paths}
    twins = Counter((path.absolute().parent, plain[path]) for path in paths)
    parts = {
        path: (*folder.parts[1:], path.name if twins[folder, plain[path]] > 1 else plain[path])
        for path in paths
        for folder in [path.absolute().parent]
    }
    depth = dict.fromkeys(paths, 1)
    for _ in range(sum(map(len, parts.values()))):
        names = {path: "_".join(parts[path][-depth[path] :]) for path in paths}
        repeated = [path for path in paths if list(names.values()).count(names[path]) > 1]
        longest = max((depth[path] for path in repeated), default=0)
        depth |= {path: longest + 1 for path in repeated if depth[path] == longest}
    return names


def _plain(path: Path) -> str:
    """A file's name without its ending and without `_T1w`."""
    name = stem(path)
    return (path.stem if name == path.name else name).removesuffix("_T1w")


def check_free(folder: Path, image: Path, kind: str) -> None:
    """Refuse to replace a folder that is not an earlier result of the same kind and image.

    Args:
        folder: where the result is to go.
        image: what it is of.
        kind: what it is, as its provenance has it: "reconstruction" or "scores".

    Raises:
        VQBrainError: saying whose it is.
    """
    if not folder.exists():
        return
    record = (read_provenance(folder) or {}) if folder.is_dir() else {}
    owner = record.get("image")
    if owner is None or record.get("kind") != kind:
        raise VQBrainError(f"{folder} is there and holds no {kind}: give another --output")
    if owner != str(image.resolve()):
        raise VQBrainError(
            f"{folder} holds the {kind} of {owner}: delete it, or give another --output"
        )


def read_original(path: Path, frame: Frame) -> Original:
    """Read an image of any kind that can be reconstructed.

    Raises:
        UnusableVolumeError: it is not there, or cannot be used.
        ValueError: of the transforms, about its numbers.
    """
    if not path.exists():
        raise UnusableVolumeError("does not exist", "check the path")
    if path.is_dir():
        advice = "name the images in it; DICOM is converted with dcm2niix first"
        raise UnusableVolumeError("is a folder", advice)
    with path.open("rb") as file:
        if file.read(DICOM_MARK.stop)[DICOM_MARK] == b"DICM":
            raise UnusableVolumeError("is DICOM", "convert it with dcm2niix first")
    if is_picture(path):
        return picture_original(path)
    return slice_original(path, frame) if is_flat(path) else volume_original(path, frame)
