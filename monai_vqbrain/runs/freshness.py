"""What each stage of a run depends on, and whether the stages are consistent."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from hashlib import sha256 as new_sha256
from pathlib import Path, PurePosixPath
from typing import Any

from monai_vqbrain.cohorts import Scan
from monai_vqbrain.contents import content_sha256
from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.progress import progress
from monai_vqbrain.provenance import Described, describe, intact_provenance
from monai_vqbrain.runs.codes_file import open_codes
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.packaged import find_models, find_start
from monai_vqbrain.runs.sample_sets import sample_sets

BLOCK = 2**20  # bytes read at a time


def scan_inputs(scans: Iterable[Scan]) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of all images and masks of scans, by their names in the source.

    Several files of one scan count as one; files without read permission and broken links are
    left out.

    Raises:
        VQBrainError: if a file no longer exists, or cannot be read from the disk or the network.
    """
    files: dict[str, tuple[Path, ...]] = {}
    for scan in scans:
        image, mask = input_names(scan)
        files[image] = scan.files or (scan.path,)
        if scan.mask_path is not None:
            files[mask] = (scan.mask_path,)
    try:
        readable = {name: [p for p in paths if _is_readable(p)] for name, paths in files.items()}
        there = [(name, paths) for name, paths in readable.items() if paths]
        hashing = progress(there, "hashing images", unit="file")
        return {name: _describe_files(paths) for name, paths in hashing}
    except OSError as error:
        raise VQBrainError(
            f"{error.filename} could not be read ({error.strerror}): run the same command again "
            "when it is available"
        ) from error


def input_names(scan: Scan) -> tuple[str, str]:
    """The names of a scan's image and mask among the inputs of slices."""
    return scan.source, f"{scan.source} (mask)"


def _is_readable(path: Path) -> bool:
    try:
        path.stat()
    except PermissionError:  # of its folder
        return False
    except FileNotFoundError:
        if path.is_symlink():
            return False
        raise
    return path.is_file() and os.access(path, os.R_OK)


def _describe_files(files: Iterable[Path]) -> dict[str, Any]:
    digest, size = new_sha256(), 0
    for path in files:
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
                size += len(block)
    return {"bytes": size, "sha256": digest.hexdigest()}


def slices_content(run: RunFolder) -> dict[str, Any]:
    """Size and hash of a run's slices: images, masks and the tables that later stages read."""
    return _content(run.slices, "datalist.json", "slices.tsv", "stacks/*.nii")


def _content(folder: Path, *patterns: str) -> dict[str, Any]:
    """Size and hash of some files of a finished stage, as recorded: no time and no log counts.

    Raises:
        VQBrainError: if the stage's record is missing or damaged.
    """
    record = intact_provenance(folder)
    if record is None:
        raise VQBrainError(f"{folder} is missing or damaged: make its stage again")
    files = {
        name: entry
        for name, entry in sorted(record["files"].items())
        if any(PurePosixPath(name).match(pattern) for pattern in patterns)
    }
    content = json.dumps([[name, entry["sha256"]] for name, entry in files.items()])
    size = sum(entry["bytes"] for entry in files.values())
    return {"bytes": size, "sha256": new_sha256(content.encode()).hexdigest()}


def training_inputs(run_dir: Path | str, which: str, start_from: str | None = None) -> Described:
    """Size and hash of what a training depends on.

    Args:
        run_dir: the run folder.
        which: "vqvae" or "prior".
        start_from: the weights that it starts from, see `find_start`; None for random ones.
    """
    run = RunFolder(run_dir)
    start = {} if start_from is None else {"start_from": find_start(start_from, which)}
    if which == "vqvae":
        return {"2-slices": slices_content(run), **describe(start)}
    files = {"4-codes": run.codes / "codes.safetensors", "codes.tsv": run.codes / "codes.tsv"}
    return describe(files | start)


def code_inputs(run: RunFolder) -> Described:
    """Size and hash of what codes depend on."""
    return {"2-slices": slices_content(run), **describe({"3-vqvae": run.vqvae / "model.pt"})}


def sample_inputs(run: RunFolder, options: Mapping[str, Any]) -> Described:
    """Size and hash of the files that samples depend on."""
    files = {name: Path(options[name]) for name in ("known", "mask") if options[name]}
    folders = find_models(run.path, options.get("weights"))
    models = {"3-vqvae": folders.vqvae / "model.pt", "5-prior": folders.prior / "model.pt"}
    return describe(models | files)


def evaluation_inputs(run: RunFolder) -> Described:
    """Size and hash of the existing files that the evaluation depends on."""
    files = {
        "3-vqvae": run.vqvae / "model.pt",
        "4-codes": run.codes / "codes.safetensors",
        "5-prior": run.prior / "model.pt",
    }
    described = describe({name: path for name, path in files.items() if path.is_file()})
    sets = {
        f"{run.samples.name}/{name}": _content(run.sample_set(name), "*.nii.gz", "samples.tsv")
        for name in sample_sets(run)
    }
    return {"2-slices": slices_content(run), **described, **sets}


def check_evaluated(run: RunFolder) -> None:
    """Refuse an evaluation of other slices, networks, codes or samples than the run has now.

    Sets of samples that were drawn after it do not count.

    Raises:
        VQBrainError: if one of them has changed or is missing.
    """
    record = intact_provenance(run.report) or {"made_from": {}}
    now = evaluation_inputs(run)
    stages = (run.slices, run.vqvae, run.codes, run.prior, run.samples)
    names = {stage.name for stage in stages}
    for name, entry in record["made_from"].items():
        if name.partition("/")[0] in names and now.get(name) != entry:
            raise VQBrainError(
                f"{run.report.name} is of another {name} than the run has now: "
                f"run {run.command('evaluate')}"
            )


def check_vqvae(run: RunFolder) -> None:
    """Refuse a VQ-VAE that was trained on other slices: they may include test participants.

    Raises:
        VQBrainError: if the VQ-VAE was trained on other slices, or one is missing or damaged.
    """
    run.need(run.slices, "prepare SOURCE")
    run.need(run.vqvae, "train vqvae")
    record = intact_provenance(run.vqvae) or {"made_from": {}}
    if record["made_from"].get("2-slices") != slices_content(run):
        raise VQBrainError(
            f"{run.vqvae.name} was trained on other slices than {run.slices.name} holds: "
            f"run {run.command('train vqvae')}"
        )


def check_codes(run: RunFolder) -> None:
    """Refuse codes of other slices or another VQ-VAE.

    Raises:
        VQBrainError: if slices, VQ-VAE and codes are inconsistent, or one is missing or damaged.
    """
    if (run.codes / "codes.safetensors").is_file():
        run.need(run.codes, "encode")
    header = codes_header(run)
    check_vqvae(run)
    if header["vqvae_sha256"] != content_sha256(run.vqvae / "model.pt"):
        raise VQBrainError(
            f"{run.codes.name} was encoded by another VQ-VAE than {run.vqvae.name} holds: "
            f"run {run.command('encode')}"
        )


def check_models(run: RunFolder) -> None:
    """Refuse to decode codes with another codebook than they were encoded with.

    Raises:
        VQBrainError: if slices, VQ-VAE, codes and prior are inconsistent, or one is missing or
            damaged.
    """
    check_codes(run)
    if not run.prior.exists():
        raise VQBrainError(f"{run.prior} holds no trained prior: run {run.command('train prior')}")
    run.need(run.prior, "train prior")
    record = intact_provenance(run.prior) or {"made_from": {}}
    made_from, now = record["made_from"], training_inputs(run.path, "prior")
    if any(made_from.get(name) != entry for name, entry in now.items()):
        raise VQBrainError(
            f"{run.prior.name} was trained on other codes than {run.codes.name} holds: "
            f"run {run.command('train prior')}"
        )


def codes_header(run: RunFolder) -> dict[str, str]:
    """The header of codes.safetensors: hash of the VQ-VAE, quantizer, number of codes, grid.

    Raises:
        VQBrainError: if nothing is encoded.
    """
    path = run.codes / "codes.safetensors"
    if not path.is_file():
        raise VQBrainError(f"{path} is not there: first run {run.command('encode')}")
    with open_codes(path) as file:
        header: dict[str, str] = file.metadata()
    return header
