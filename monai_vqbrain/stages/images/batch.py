"""Processing the images of a command one by one, each into its own result folder."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from monai_vqbrain.cohorts.names import stem
from monai_vqbrain.errors import UnusableImageError, VQBrainError
from monai_vqbrain.logs import PRIVATE
from monai_vqbrain.progress import progress
from monai_vqbrain.provenance import read_provenance
from monai_vqbrain.stages.images.input_volume import SliceFrame, read_input_volume
from monai_vqbrain.transforms.input_image import InputImage
from monai_vqbrain.transforms.input_slice import (
    is_picture,
    is_single_slice,
    read_picture,
    read_slice_nifti,
)

logger = logging.getLogger(__name__)

DICOM_MARK = slice(128, 132)  # "DICM" in a DICOM file


def process_images(
    images: Sequence[Path | str],
    folder: Path,
    work: Callable[[Path, Path], list[str]],
    verb: str,
) -> None:
    """Process images one by one, each into its own folder; a failure does not stop the others.

    Args:
        images: paths; duplicates are processed once.
        folder: the parent of the images' folders.
        work: called with (image, its folder); returns lines for the user.
        verb: past participle for the summary, such as "reconstructed".

    Raises:
        VQBrainError: if an image failed, with the message for the last one; the others are logged.
    """
    names = result_names([Path(image) for image in images])
    lines, problems = [], []
    for path, name in progress(names.items(), "images", unit="image"):
        try:
            lines += [f"{name}: {line}" for line in work(path, folder / name)]
        except VQBrainError as error:
            problems.append(f"{path}: {error}")
        except ValueError as error:  # from a transform: unusable values
            problems.append(f"{path}: {error}: look at the image")
        except OSError as error:  # of the image or of its result folder
            problems.append(f"{path}: {error}: fix this, or leave this image out")
    for line in lines:
        logger.info("%s", line, extra=PRIVATE)
    logger.info("%d of %d images %s: %s", len(names) - len(problems), len(names), verb, folder)
    for problem in problems[:-1]:
        logger.error("%s", problem)
    if problems:
        raise VQBrainError(problems[-1])


def result_names(images: Sequence[Path]) -> dict[Path, str]:
    """A unique name for the results of each image: its stem, with suffix or folders if needed.

    Args:
        images: paths; duplicates count once.

    Example:
        >>> list(result_names([Path("a/mri/brain.mgz"), Path("b/mri/brain.mgz")]).values())
        ['a_mri_brain', 'b_mri_brain']
        >>> list(result_names([Path("sub-02_T1w.nii.gz"), Path("x.nii"), Path("x.png")]).values())
        ['sub-02', 'x.nii', 'x.png']
    """
    paths = list({path.resolve(): path for path in images}.values())
    plain = {path: _base_name(path) for path in paths}
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


def _base_name(path: Path) -> str:
    """A file's name without suffix and `_T1w`."""
    name = stem(path)
    return (path.stem if name == path.name else name).removesuffix("_T1w")


def check_result_folder(folder: Path, image: Path, kind: str) -> None:
    """Refuse to replace a folder that is not an earlier result of the same kind and image.

    Args:
        folder: the folder for the result.
        image: the image.
        kind: the kind of result, as in its provenance: "reconstruction" or "scores".

    Raises:
        VQBrainError: if it is; the message names the image that the folder belongs to.
    """
    if not folder.exists():
        return
    record = (read_provenance(folder) or {}) if folder.is_dir() else {}
    owner = record.get("image")
    if owner is None or record.get("kind") != kind:
        raise VQBrainError(f"{folder} exists and holds no {kind}: give another --output")
    if owner != str(image.resolve()):
        raise VQBrainError(
            f"{folder} holds the {kind} of {owner}: delete it, or give another --output"
        )


def read_input_image(path: Path, frame: SliceFrame) -> InputImage:
    """Read a volume, a single slice as NIfTI, or a picture.

    Args:
        path: the image.
        frame: how the run slices volumes.

    Raises:
        UnusableImageError: if it does not exist, or cannot be used.
        ValueError: from a transform, if its values are unusable.
    """
    if not path.exists():
        raise UnusableImageError("does not exist", "check the path")
    if path.is_dir():
        advice = "name the images in it; DICOM is converted with dcm2niix first"
        raise UnusableImageError("is a folder", advice)
    with path.open("rb") as file:
        if file.read(DICOM_MARK.stop)[DICOM_MARK] == b"DICM":
            raise UnusableImageError("is DICOM", "convert it with dcm2niix first")
    if is_picture(path):
        return read_picture(path)
    return (
        read_slice_nifti(path, frame.spacing)
        if is_single_slice(path)
        else read_input_volume(path, frame)
    )
