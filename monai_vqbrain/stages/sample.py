"""`vqbrain sample`: new code grids from the prior, decoded to images."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import click
import nibabel as nib
import numpy as np
import pandas as pd
import torch

from monai_vqbrain.errors import UsageError, VQBrainError
from monai_vqbrain.files import hold, partial, publish, release, sha256
from monai_vqbrain.networks.conditions import condition_row
from monai_vqbrain.provenance import Described, describe, what_changed, write_provenance
from monai_vqbrain.stages.bundle import bundle_command, run_bundle
from monai_vqbrain.stages.codes import check_models
from monai_vqbrain.stages.conditions import position_known
from monai_vqbrain.stages.known import known_codes
from monai_vqbrain.stages.run import RunFolder
from monai_vqbrain.stages.tables import read_table, where


@dataclass(frozen=True)
class SampleOptions:
    """What a sample is asked for; `condition` as name -> value, `known` and `mask` as files."""

    number: int = 16
    seed: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    guidance: float = 1.0
    condition: dict[str, str] = field(default_factory=dict)
    volume: bool = False
    known: str | None = None
    mask: str | None = None


def sample(
    run_path: Path, options: SampleOptions, device: str = "auto", show_command: bool = False
) -> None:
    """Write `R/6-samples`, unless the same samples of the same models lie there.

    Args:
        run_path: the run folder.
        options: what is asked for.
        device: "auto", "cpu", "cuda" or "cuda:N".
        show_command: print the bundle command that does the same, and stop.

    Raises:
        UsageError: if a network is missing, an option is out of range, or the prior does not know
            what it is asked for.
    """
    _check(options)
    # a path as it is typed could be code to MONAI
    options = replace(options, known=_absolute(options.known), mask=_absolute(options.mask))
    run = RunFolder(run_path)
    ids = {"run_dir": str(run.path.absolute()), "device": device, **asdict(options)}
    if show_command:
        click.echo(bundle_command("pixelcnn", "inference", ids))
        return
    run.need(run.vqvae, "train vqvae")
    run.need(run.prior, "train prior")
    check_models(run)
    _check_asked(run, options)
    why = what_changed(run.samples, describe(_made_from(run, asdict(options))), asdict(options))
    if why is None:
        click.echo(f"{run.samples.name} is up to date: the same {options.number} samples lie there")
        return
    click.echo(f"sampling {run.samples.name} ({why})")
    try:
        run_bundle("pixelcnn", "inference", ids)
    finally:
        release(run.samples)
    what = ("volume" if options.volume else "image") + ("s" if options.number > 1 else "")
    click.echo(f"{options.number} synthetic {what}: {run.samples}")


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
    hold(run.samples)
    work = partial(run.samples)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    return describe(_made_from(run, options))


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


def sample_given(
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
    position = position_known(known)
    if options["volume"] and position is not None:
        places = slice_positions(run, position)
        if len(places) != places.index[-1] - places.index[0] + 1:
            raise VQBrainError(f"{run.codes} lacks slices between others: no volume can be drawn")
        where = [{position: place} for place in places]
        given["condition"] = torch.stack([condition_row(known, condition | at) for at in where])
        given["base"] = torch.stack([condition_row(known, at) for at in where])
    if options["known"]:
        image, mask = Path(options["known"]), Path(options["mask"])
        given["known"] = known_codes(run, decoder, image, mask)
    return given


def slice_positions(run: RunFolder, position: str) -> pd.Series:
    """Where a run's slices with enough brain lie, by index: medians over training people."""
    table = read_table(run.codes / "codes.tsv")
    rows = table[where(table, "training")]
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
    stacks = pd.read_csv(table, sep="\t", usecols=["stack"])["stack"].unique()
    affines = np.stack([nib.load(run.slices / str(stack)).affine for stack in stacks])  # type: ignore[attr-defined]
    affine = affines[0].copy()
    affine[:3, 3] = np.median(affines[:, :3, 3], axis=0)
    position = position_known(network.settings["conditions"])
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
    stack: Any = nib.load(run.slices / str(pd.read_csv(table, sep="\t", nrows=1)["stack"][0]))
    return (stack.shape[0], stack.shape[1])


def finish_samples(
    run_dir: Path | str, sources: Described, seconds: float, options: dict[str, Any]
) -> None:
    """Write the provenance of the samples and give their folder its name."""
    run = RunFolder(run_dir)
    write_provenance(partial(run.samples), sources, options, seconds)
    publish(run.samples)


def _made_from(run: RunFolder, options: Mapping[str, Any]) -> dict[str, Path]:
    files = {name: Path(options[name]) for name in ("known", "mask") if options[name]}
    return {"3-vqvae": run.vqvae / "model.pt", "5-prior": run.prior / "model.pt", **files}


def _check(options: SampleOptions) -> None:
    _check_known(options)
    if options.number < 1:
        raise UsageError(f"-n must be 1 or more, got {options.number}")
    if options.seed < 0:
        raise UsageError(f"--seed must be 0 or more, got {options.seed}")
    if not options.temperature > 0:
        raise UsageError(f"--temperature must be above 0, got {options.temperature:g}")
    if not options.guidance >= 0:
        raise UsageError(f"--guidance must be 0 or more, got {options.guidance:g}")
    if options.guidance != 1 and not options.condition:
        raise UsageError(f"--guidance {options.guidance:g} needs a --condition to guide to")
    if not 0 < options.top_p <= 1:
        raise UsageError(f"--top-p must lie in (0, 1], got {options.top_p:g}")


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).absolute())


def _check_known(options: SampleOptions) -> None:
    if (options.known is None) != (options.mask is None):
        raise UsageError("--known and --mask go together: what is kept, and where to draw anew")
    if options.known is None:
        return
    if options.volume:
        raise UsageError("--known fills in one slice, and --volume draws many: leave one out")
    for name, path in (("known", options.known), ("mask", options.mask)):
        if not Path(str(path)).is_file():
            raise UsageError(f"--{name} {path}: there is no such file")


def _check_asked(run: RunFolder, options: SampleOptions) -> None:
    """Refuse before anything runs what the prior was not trained for."""
    settings = json.loads((run.prior / "config.json").read_text())["network_def"]
    known = settings.get("conditions", {})
    position = position_known(known)
    try:
        condition_row(known, options.condition)
    except ValueError as error:
        raise UsageError(f"--condition {error}") from error
    if not options.volume:
        return
    if position is not None and position in options.condition:
        raise UsageError(f"--volume draws slices at every {position}: leave that condition out")
    if not settings.get("neighbour") or position is None:
        raise UsageError(
            "--volume needs a prior that knows the slice before and the position: train it with "
            "neighbour=true and condition_on=auto, on volumes of several slices"
        )
