"""The steps of a bundle's sampling from a run, and reading the samples."""

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
        options: what is asked for, as SampleOptions has it.

    Returns:
        What the samples will rest on, described before they are drawn.

    Raises:
        VQBrainError: if the prior was trained on codes of another VQ-VAE.
    """
    run = RunFolder(run_dir)
    check_models(run)
    open_stage(run.samples)
    return describe(sample_inputs(run, options))


def sample_marks(run_dir: Path | str, options: Mapping[str, Any]) -> dict[str, Any]:
    """What every sample carries: how it was drawn, from which models."""
    run = RunFolder(run_dir)
    asked = ", ".join(f"{name}={value}" for name, value in options["condition"].items())
    files = {n: sha256(Path(options[n])) for n in ("known", "mask") if options[n]}
    return {f"{name}_sha256": value for name, value in files.items()} | {
        "seed": options["seed"],
        "volume": options["volume"],
        "condition": asked or "none",
        "guidance": options["guidance"],
        "temperature": options["temperature"],
        "top_p": options["top_p"],
        "vqvae_sha256": sha256(run.vqvae / "model.pt"),
        "prior_sha256": sha256(run.prior / "model.pt"),
    }


def sampler_inputs(
    run_dir: Path | str, network: Any, decoder: Any, options: Mapping[str, Any]
) -> dict[str, torch.Tensor]:
    """What the sampler is given besides the prior, as tensors.

    Args:
        run_dir: the run folder.
        network: the prior.
        decoder: the VQ-VAE.
        options: what is asked for, as SampleOptions has it.

    Returns:
        `condition`, (1, C), or a row for each slice of volumes, and then `base`, rows with their
        positions alone; `known`, codes of one slice, -1 where they are to be drawn. Nothing where
        nothing is asked.

    Raises:
        ValueError: if the prior does not know what is asked.
        VQBrainError: if an image cannot be used, or a volume would have gaps.
    """
    run = RunFolder(run_dir)
    known, condition = network.settings["conditions"], dict(options["condition"])
    given = {"condition": condition_row(known, condition)[None]} if condition else {}
    position = position_condition(known)
    if options["volume"] and position is not None:
        places = slice_positions(run, position)
        if len(places) != places.index[-1] - places.index[0] + 1:
            raise VQBrainError(f"{run.codes} lacks slices between others: no volume can be drawn")
        where = [{position: place} for place in places]
        given["condition"] = torch.stack([condition_row(known, condition | at) for at in where])
        given["base"] = torch.stack([condition_row(known, at) for at in where])
    if options["known"]:
        image, mask = Path(options["known"]), Path(options["mask"])
        given["known"] = inpainting_codes(run, decoder, image, mask)
    return given


def slice_positions(run: RunFolder, position: str) -> pd.Series:
    """Where a run's slices with enough brain lie, by index: medians over training people."""
    table = read_table(run.codes / "codes.tsv")
    rows = table[in_split(table, "training")]
    return rows.groupby("index")[position].median().sort_index()


def sample_affine(run_dir: Path | str, network: Any, options: Mapping[str, Any]) -> np.ndarray:
    """Voxel -> world, mm, of samples: the axes of the first stack, the median of the origins.

    The first voxel is that of the first slice that is drawn, or of the slice nearest to where a
    single one is asked for.
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
        places = slice_positions(run, position)
        asked = places.iloc[0] if options["volume"] else float(options["condition"][position])
        affine[:3, 3] += affine[:3, 2] * (places - asked).abs().idxmin()
    return np.asarray(affine)


def sample_size(run_dir: Path | str) -> tuple[int, int] | None:
    """Width and height of a run's slices, in pixels; None where there are none.

    Decoded code grids are larger where these are no multiple of the VQ-VAE's factor.
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
    """Write the provenance of the samples and give their folder its name."""
    finish_stage(RunFolder(run_dir).samples, sources, options, seconds)


def sample_files(run: RunFolder) -> list[Path]:
    """The samples of a run, in order; none if they were drawn from other networks than its own."""
    models = {"3-vqvae": run.vqvae / "model.pt", "5-prior": run.prior / "model.pt"}
    record = read_provenance(run.samples)
    if record is None or not all(path.is_file() for path in models.values()):
        return []
    if any(record["made_from"].get(n) != entry for n, entry in describe(models).items()):
        return []
    return sorted(run.samples.glob("sample-*.nii.gz"))


def read_samples(files: Sequence[Path]) -> np.ndarray:
    """The slices of samples of one size, file after file: (N, W, H) uint8, 255 standing for 1."""
    import nibabel

    slices = [np.moveaxis(nibabel.load(f).get_fdata(), 2, 0) for f in files]  # type: ignore[attr-defined]
    return to_uint8(np.concatenate(slices))
