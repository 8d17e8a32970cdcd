"""The steps of a bundle's sampling from a run, and a reader of samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import torch

from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.files import sha256
from monai_vqbrain.networks.conditions import condition_row
from monai_vqbrain.provenance import Described, describe, read_provenance
from monai_vqbrain.runs.conditions import position_condition
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.freshness import check_models, sample_inputs
from monai_vqbrain.runs.inpainting import inpainting_codes
from monai_vqbrain.runs.stacks import to_uint8
from monai_vqbrain.runs.stage_folder import finish_stage, open_stage
from monai_vqbrain.runs.tables import in_split
from monai_vqbrain.tables import read_table


def begin_samples(run_dir: Path | str, options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Open the partial folder of the samples: the first step of the bundle's `run`.

    Args:
        run_dir: the run folder.
        options: the sampling options, named as in SampleOptions.

    Returns:
        Size and hash of each file that the samples depend on, taken before sampling.

    Raises:
        VQBrainError: if the prior was trained on codes of another VQ-VAE.
    """
    run = RunFolder(run_dir)
    check_models(run)
    open_stage(run.samples)
    return describe(sample_inputs(run, options))


def sample_marks(run_dir: Path | str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata of every sample: the sampling options and the hashes of both models."""
    run = RunFolder(run_dir)
    condition = ", ".join(f"{name}={value}" for name, value in options["condition"].items())
    files = {n: sha256(Path(options[n])) for n in ("known", "mask") if options[n]}
    return {f"{name}_sha256": value for name, value in files.items()} | {
        "seed": options["seed"],
        "volume": options["volume"],
        "condition": condition or "none",
        "guidance": options["guidance"],
        "temperature": options["temperature"],
        "top_p": options["top_p"],
        "vqvae_sha256": sha256(run.vqvae / "model.pt"),
        "prior_sha256": sha256(run.prior / "model.pt"),
    }


def sampler_inputs(
    run_dir: Path | str, network: Any, decoder: Any, options: Mapping[str, Any]
) -> dict[str, torch.Tensor]:
    """The sampler's arguments besides the networks, as tensors.

    Args:
        run_dir: the run folder.
        network: the prior.
        decoder: the VQ-VAE.
        options: the sampling options, named as in SampleOptions.

    Returns:
        `condition`, (1, C) float32, or (S, C) for volumes of S slices, together with `base`, (S, C)
        rows with the positions only; `known`, the codes of one slice, (1, *grid), -1 where they are
        to be drawn. Entries that are not requested are absent.

    Raises:
        ValueError: if the prior does not have a condition or its value.
        VQBrainError: if an image cannot be used, or a volume would have gaps.
    """
    run = RunFolder(run_dir)
    known, condition = network.settings["conditions"], dict(options["condition"])
    given = {"condition": condition_row(known, condition)[None]} if condition else {}
    position = position_condition(known)
    if options["volume"] and position is not None:
        positions = slice_positions(run, position)
        if len(positions) != positions.index[-1] - positions.index[0] + 1:
            raise VQBrainError(f"{run.codes} lacks slices between others: no volume can be drawn")
        rows = [{position: value} for value in positions]
        given["condition"] = torch.stack([condition_row(known, condition | row) for row in rows])
        given["base"] = torch.stack([condition_row(known, row) for row in rows])
    if options["known"]:
        image, mask = Path(options["known"]), Path(options["mask"])
        given["known"] = inpainting_codes(run, decoder, image, mask)
    return given


def slice_positions(run: RunFolder, position: str) -> pd.Series:
    """Median position over training participants of each slice index with enough brain."""
    table = read_table(run.codes / "codes.tsv")
    rows = table[in_split(table, "training")]
    return rows.groupby("index")[position].median().sort_index()


def sample_affine(run_dir: Path | str, network: Any, options: Mapping[str, Any]) -> np.ndarray:
    """The affine of samples, (4, 4), voxel -> world, mm, RAS.

    Axes are those of the first stack, the origin is the median over stacks. The origin is in the
    first slice drawn or, for a single slice at a requested position, in the slice nearest to it.
    """
    run = RunFolder(run_dir)
    table = run.slices / "slices.tsv"
    if not table.is_file():
        return np.eye(4)
    stacks = read_table(table)["stack"].unique()
    affines = np.stack([nib.Nifti1Image.from_filename(run.slices / s).affine for s in stacks])
    affine = affines[0].copy()
    affine[:3, 3] = np.median(affines[:, :3, 3], axis=0)
    position = position_condition(network.settings["conditions"])
    if position is not None and (options["volume"] or position in options["condition"]):
        positions = slice_positions(run, position)
        asked = positions.iloc[0] if options["volume"] else float(options["condition"][position])
        affine[:3, 3] += affine[:3, 2] * (positions - asked).abs().idxmin()
    return np.asarray(affine)


def sample_size(run_dir: Path | str) -> tuple[int, int] | None:
    """Width and height of a run's slices, pixels; None without slices.

    Decoded code grids are larger if these are not multiples of the VQ-VAE's factor.
    """
    run = RunFolder(run_dir)
    table = run.slices / "slices.tsv"
    if not table.is_file():
        return None
    stack = nib.Nifti1Image.from_filename(run.slices / read_table(table)["stack"][0])
    return (stack.shape[0], stack.shape[1])


def finish_samples(
    run_dir: Path | str, sources: Described, seconds: float, options: dict[str, Any]
) -> None:
    """Write the provenance of the samples and publish their folder."""
    finish_stage(RunFolder(run_dir).samples, sources, options, seconds)


def sample_files(run: RunFolder) -> list[Path]:
    """The samples of a run, in order; empty if they were drawn from other networks."""
    models = {"3-vqvae": run.vqvae / "model.pt", "5-prior": run.prior / "model.pt"}
    record = read_provenance(run.samples)
    if record is None or not all(path.is_file() for path in models.values()):
        return []
    if any(record["made_from"].get(n) != entry for n, entry in describe(models).items()):
        return []
    return sorted(run.samples.glob("sample-*.nii.gz"))


def read_samples(files: Sequence[Path]) -> np.ndarray:
    """Read the slices of samples of one size: (N, W, H) uint8, 255 for an intensity of 1."""
    slices = [np.moveaxis(nib.load(f).get_fdata(), 2, 0) for f in files]  # type: ignore[attr-defined]
    return to_uint8(np.concatenate(slices))
