"""`vqbrain reconstruct`: images through a run's VQ-VAE, back in their own space, with scores."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from monai_vqbrain.cohorts.names import stem
from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.files import building
from monai_vqbrain.progress import progress
from monai_vqbrain.provenance import describe, read_provenance, write_provenance
from monai_vqbrain.stages.codes import check_vqvae, codes_made_from
from monai_vqbrain.stages.original import Frame, Original, volume_original
from monai_vqbrain.stages.original_slice import (
    is_flat,
    is_picture,
    picture_original,
    slice_original,
)
from monai_vqbrain.stages.reconstruction import reconstruct_image, write_reconstruction
from monai_vqbrain.stages.run import RunFolder
from monai_vqbrain.stages.tables import read_slices_table
from monai_vqbrain.stages.trained import device_named, trained_network
from monai_vqbrain.stages.volume import UnusableVolumeError
from monai_vqbrain.stages.who import RunPeople

FLATTERS = {
    "training": "a training participant of this run: these scores flatter",
    "validation": "a validation participant of this run, by whom its weights were chosen: these "
    "scores flatter a little",
}
DICOM_MARK = slice(128, 132)  # "DICM" in a DICOM file


def reconstruct(
    run_path: Path, images: Sequence[Path], output: Path | None = None, device: str = "auto"
) -> None:
    """Reconstruct images, each into a folder of its own; what fails gets a line, the rest is done.

    Args:
        run_path: the run folder.
        images: volumes, or single slices as NIfTI or pictures.
        output: where the folders go, by default `R/reconstructions`.
        device: "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        UsageError: slices or VQ-VAE are missing, or there is no such device.
        VQBrainError: the VQ-VAE does not fit; or an image failed: the line of the last one.
    """
    run = RunFolder(run_path)
    run.need(run.slices, "prepare SOURCE")
    run.need(run.vqvae, "train vqvae")
    folder = output or run.path / "reconstructions"
    names = result_names(images)
    work = Reconstructor(run, device)
    lines, problems = [], []
    for path, name in progress(names.items(), "reconstructing", len(names)):
        try:
            lines += [f"{name}: {line}" for line in work(path, folder / name)]
        except VQBrainError as error:
            problems.append(f"{path}: {error}")
        except ValueError as error:  # of the transforms, about this image's numbers
            problems.append(f"{path}: {error}: look at the image")
    done = f"{len(names) - len(problems)} of {len(names)} images reconstructed: {folder}"
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


class Reconstructor:
    """Reconstructs one image after the other with a run's VQ-VAE.

    Args:
        run: the run folder.
        device: "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        UsageError: there is no such device.
        VQBrainError: the VQ-VAE was trained on other slices, or cannot be read.
    """

    def __init__(self, run: RunFolder, device: str) -> None:
        check_vqvae(run)
        self.device = device_named(device)
        self.network = trained_network(run.vqvae, self.device)
        self.frame = Frame.of((read_provenance(run.slices) or {})["options"])
        self.people = RunPeople(run)
        self.made_from = codes_made_from(run)
        rows = read_slices_table(run)
        where = rows["position_rel"][rows["split"] == "training"]
        self.trained_on = float(where.min()), float(where.max())

    def __call__(self, path: Path, folder: Path) -> list[str]:
        """Reconstruct one image.

        Args:
            path: the image.
            folder: where its files go, named as the folder is; an earlier result is replaced.

        Returns:
            What to tell a person.

        Raises:
            VQBrainError: the image cannot be used, or the folder is not its.
            ValueError: of the transforms, about the image's numbers.
        """
        began = time.monotonic()
        check_free(folder, path)
        original = read_original(path, self.frame)
        files = {"image": path} | ({"mask": original.mask_path} if original.mask_path else {})
        made_from = describe(files | self.made_from)
        who = self.people.find(path, made_from["image"]["sha256"])
        result = reconstruct_image(original, self.network, self.device)
        scores = result.summary(self.trained_on)
        about: dict[str, Any] = {
            "image": str(path.resolve()),
            "intensities_of_0_and_1": original.limits,
            "split": self.people.splits[who] if who else None,
            "scores": scores,
            "notes": original.notes,
            "device": str(self.device),
        }
        with building(folder) as work:
            write_reconstruction(result, work, folder.name, is_picture(path))
            seconds = time.monotonic() - began
            write_provenance(work, made_from, asdict(self.frame), seconds, **about)
        flattered = [f"{who} is {FLATTERS[about['split']]}"] if about["split"] in FLATTERS else []
        return [score_line(scores), *original.notes, *flattered]


def check_free(folder: Path, image: Path) -> None:
    """Refuse to replace a folder that is not an earlier result of the same image.

    Raises:
        VQBrainError: saying whose it is.
    """
    if not folder.exists():
        return
    owner = (read_provenance(folder) or {}).get("image") if folder.is_dir() else None
    if owner is None:
        raise VQBrainError(f"{folder} is there and no reconstruction: give another --output")
    if owner != str(image.resolve()):
        raise VQBrainError(
            f"{folder} holds the reconstruction of {owner}: delete it, or give another --output"
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


def score_line(scores: dict[str, Any]) -> str:
    """The scores of one image for a person to read."""
    if scores["ssim_brain"] is None:
        return (
            f"SSIM {scores['ssim_whole']:.3f}, background included; no slice counts for the brain"
        )
    counted, trained = scores["slices_scored"], scores["slices_trained_on"]
    text = f"SSIM in the brain {scores['ssim_brain']:.3f}"
    if scores["slices"] > 1:
        text += f" over {counted} slices"
    if trained and trained < counted:
        text += f" ({scores['ssim_brain_trained_on']:.3f} over the {trained} at trained positions)"
    text += f", mean error {scores['error_brain']:.3f}"
    if scores["error_brain_resampling"] > 0:
        text += f" ({scores['error_brain_resampling']:.3f} by resampling alone)"
    return text
