"""The steps of a bundle's sampling from a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.files import sha256
from monai_vqbrain.inferers.joint_conditions import ANY, Conditions
from monai_vqbrain.networks.conditions import Known, condition_row
from monai_vqbrain.provenance import Described
from monai_vqbrain.runs.conditions import position_condition, read_joint
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.freshness import check_models, sample_inputs
from monai_vqbrain.runs.geometry import cohort_affine, slice_positions
from monai_vqbrain.runs.inpainting import inpainting_codes
from monai_vqbrain.runs.packaged import find_models
from monai_vqbrain.runs.stage_folder import finish_stage, open_stage, use_inputs
from monai_vqbrain.runs.views import PLAIN_VIEW


def begin_samples(run_dir: Path | str, options: Mapping[str, Any]) -> Described:
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
    folder = run.sample_set(options["name"])
    if options.get("weights") is None:
        use_inputs(folder, run.slices, run.vqvae, run.codes, run.prior)
        check_models(run)
    open_stage(folder)
    return sample_inputs(run, options)


def sample_marks(run_dir: Path | str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata of every sample: sampling options and the hashes of both models."""
    models = find_models(run_dir, options.get("weights"))
    files = {n: sha256(Path(options[n])) for n in ("known", "mask") if options[n]}
    return {f"{name}_sha256": value for name, value in files.items()} | {
        "seed": options["seed"],
        "volume": options["volume"],
        "guidance": options["guidance"],
        "temperature": options["temperature"],
        "top_p": options["top_p"],
        "vqvae_sha256": sha256(models.vqvae / "model.pt"),
        "prior_sha256": sha256(models.prior / "model.pt"),
    }


def draw_conditions(
    run_dir: Path | str, network: Any, options: Mapping[str, Any]
) -> list[Conditions]:
    """The conditions of each sample: what is asked for, and the rest drawn given that.

    Args:
        run_dir: the run folder.
        network: the prior.
        options: the sampling options, named as in SampleOptions.
    """
    known, asked = network.settings["conditions"], dict(options["condition"])
    # what augmented the training slices must not show in samples
    view = {n: asked.pop(n, plain) for n, plain in PLAIN_VIEW.items() if n in known}
    joint = read_joint(run_dir, known, options.get("weights"))
    rng = np.random.default_rng(options["seed"])
    drawn = joint.draw(options["number"], asked, rng)
    for conditions in drawn:
        conditions |= {name: None if value == ANY else value for name, value in view.items()}
    if options["volume"]:  # its slices are at every position
        for conditions in drawn:
            conditions.pop(position_condition(known) or "", None)
    return drawn


def condition_texts(drawn: Sequence[Conditions]) -> list[str]:
    """What each sample was drawn for, such as `diagnosis=AD, age=75`; `none` for nothing."""
    texts = (
        ", ".join(
            f"{name}={value}"
            for name, value in conditions.items()
            if value is not None and value != PLAIN_VIEW.get(name)
        )
        for conditions in drawn
    )
    return [text or "none" for text in texts]


def condition_rows(
    run_dir: Path | str,
    network: Any,
    options: Mapping[str, Any],
    drawn: Sequence[Conditions],
) -> dict[str, torch.Tensor]:
    """The conditions as the sampler takes them, one row per sample.

    Args:
        run_dir: the run folder.
        network: the prior.
        options: the sampling options, named as in SampleOptions.
        drawn: the result of `draw_conditions`.

    Returns:
        `condition`, (N, C) float32, or (N, S, C) for volumes of S slices; with guidance also
        `base`, the same without what was asked for, from which guidance starts. Empty for a
        prior without conditions.

    Raises:
        ValueError: if the prior does not have a condition or its value.
        VQBrainError: if a volume would have gaps.
    """
    known = network.settings["conditions"]
    if not known:
        return {}
    places = None
    if options["volume"]:
        places = _volume_places(RunFolder(run_dir), known, options.get("weights"))
    without = [{n: v for n, v in row.items() if n not in options["condition"]} for row in drawn]
    wanted = {"condition": drawn} | ({"base": without} if options["guidance"] != 1 else {})
    return {name: _rows(known, conditions, places) for name, conditions in wanted.items()}


def _rows(
    known: Known, drawn: Sequence[Conditions], places: Sequence[Conditions] | None
) -> torch.Tensor:
    """(N, C), or with the places of S slices (N, S, C)."""
    if places is None:
        return torch.stack([condition_row(known, row) for row in drawn])
    return torch.stack(
        [torch.stack([condition_row(known, row | place) for place in places]) for row in drawn]
    )


def _volume_places(run: RunFolder, known: Known, weights: str | None) -> list[Conditions] | None:
    """The position of each slice of a volume; None for a prior without positions."""
    position = position_condition(known)
    if position is None:
        return None
    positions = slice_positions(run, position, weights)
    if len(positions) != positions.index[-1] - positions.index[0] + 1:
        raise VQBrainError(
            f"{weights or run.codes} lacks slices between others: no volume can be drawn"
        )
    return [{position: float(value)} for value in positions]


def known_codes(
    run_dir: Path | str, decoder: Any, options: Mapping[str, Any]
) -> dict[str, torch.Tensor]:
    """`known`, the codes of the slice to inpaint, (1, *grid), -1 where they are to be drawn.

    Args:
        run_dir: the run folder.
        decoder: the VQ-VAE.
        options: the sampling options, named as in SampleOptions.

    Returns:
        Empty if nothing is to be inpainted.

    Raises:
        VQBrainError: if an image cannot be used.
    """
    if not options["known"]:
        return {}
    image, mask = Path(options["known"]), Path(options["mask"])
    run, weights = RunFolder(run_dir), options.get("weights")
    return {"known": inpainting_codes(run, decoder, image, mask, weights)}


def sample_affines(
    run_dir: Path | str, network: Any, options: Mapping[str, Any], drawn: Sequence[Conditions]
) -> np.ndarray:
    """The affine of each sample, (N, 4, 4), voxel -> world, mm, RAS.

    Axes are those of the first stack, the origin is the median over stacks. The origin is in the
    first slice of a volume or, for a single slice with a position, in the slice nearest to it.

    Args:
        run_dir: the run folder.
        network: the prior.
        options: the sampling options, named as in SampleOptions.
        drawn: the result of `draw_conditions`.
    """
    run, weights = RunFolder(run_dir), options.get("weights")
    affines = np.tile(cohort_affine(run, weights), (len(drawn), 1, 1))
    position = position_condition(network.settings["conditions"])
    if position is None:
        return affines
    positions = slice_positions(run, position, weights)
    for affine, conditions in zip(affines, drawn, strict=True):
        asked = positions.iloc[0] if options["volume"] else conditions[position]
        if asked is not None:
            affine[:3, 3] += affine[:3, 2] * (positions - float(asked)).abs().idxmin()
    return affines


def finish_samples(
    run_dir: Path | str, sources: Described, seconds: float, options: dict[str, Any]
) -> None:
    """Write the provenance of a set of samples and publish its folder."""
    finish_stage(RunFolder(run_dir).sample_set(options["name"]), sources, options, seconds)
