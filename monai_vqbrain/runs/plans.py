"""Blurred volumes of a run's training participants: what the prior's plan is fitted to."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from monai_vqbrain.networks.conditions import condition_row
from monai_vqbrain.networks.plan import EXPLAINED, LEVELS, PARTICIPANTS
from monai_vqbrain.runs.conditions import conditions_of_row, position_condition
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.geometry import sample_size
from monai_vqbrain.runs.stacks import read_slices
from monai_vqbrain.runs.tables import in_split, read_rows, read_slices_table, with_enough_brain
from monai_vqbrain.selection import thin_out
from monai_vqbrain.tables import SLICE_KEYS, read_text_table

MOST_VOLUMES = 512  # that components are fitted to


def fit_plan(network: Any, run_dir: Path | str) -> Any:
    """Fit the prior's plan to the run's training volumes and return the prior.

    Args:
        network: a PixelCNN; unchanged if it has no plan.
        run_dir: the run folder; if nothing is encoded yet, or there are fewer than 15 training
            participants, the plan stays unfitted.
    """
    run = RunFolder(run_dir)
    if network.plan is not None and (run.codes / "codes.tsv").is_file():
        slices = _training_slices(run)
        stacks = thin_out(sorted(slices["stack"].unique()), MOST_VOLUMES)
        slices = slices[slices["stack"].isin(stacks)]
        participants = slices["participant_id"].nunique()
        if participants < PARTICIPANTS:
            return network
        parts = [slices[slices["stack"] == stack] for stack in stacks]
        volumes = [blurred_volume(run, part, network) for part in parts]
        rows = [_row(part, network) for part in parts]
        network.plan.fit(torch.stack(volumes), torch.stack(rows), participants)
    return network


def few_participants(run_dir: Path | str, settings: Mapping[str, Any] | None = None) -> bool:
    """Whether a run has 15 to 39 training participants: a plan, of which conditions explain none.

    A prior then learns little from plans that holds for others, and memorises what they say of its
    training participants. With more participants it has to follow what conditions explain.

    Args:
        run_dir: the run folder.
        settings: of a PixelCNN; they decide if nothing is encoded yet. Empty or None for none.
    """
    run = RunFolder(run_dir)
    if not (run.codes / "codes.tsv").is_file():
        return (settings or {}).get("plan_channels") is not None
    return PARTICIPANTS <= int(_training_slices(run)["participant_id"].nunique()) < EXPLAINED


def with_plans(
    items: Sequence[dict[str, Any]], run_dir: Path | str, network: Any
) -> list[dict[str, Any]]:
    """Items of slices and their views, each with the plan of its own volume.

    Args:
        items: of `code_items`, with all of the prior's conditions.
        run_dir: the run folder.
        network: the prior, after `fit_plan`.

    Returns:
        The items with "plan", (h, w) float32, NaN for slices with too little brain; as they are if
        the prior has no plan.
    """
    if network.plan is None or not network.plan.fitted:
        return list(items)
    run, plan = RunFolder(run_dir), copy.deepcopy(network.plan).cpu()  # as slices are
    slices = with_enough_brain(read_rows(run.codes / "codes.tsv"))
    names = read_text_table(run.codes / "codes.tsv")[list(SLICE_KEYS)].astype(str)  # as items have
    named = names["participant_id"].isin({str(item["participant_id"]) for item in items})
    found: dict[tuple[str, ...], Tensor] = {}
    for _, part in slices[named.loc[slices.index]].groupby("stack"):
        volume, row = blurred_volume(run, part, network), _row(part, network)
        coefficients = plan.coefficients(volume[None], row[None])
        positions = torch.tensor(part[_position(network)].to_numpy(np.float32))[None]
        keys = names.loc[part.index].itertuples(index=False, name=None)
        found |= dict(zip(keys, plan.at(coefficients, positions)[0], strict=True))
    size = sample_size(run.path)
    assert size is not None  # there are slices
    factor, nothing = _factor(size[0], network), torch.full(plan.mean.shape[1:], torch.nan)
    planned: list[dict[str, Any]] = []
    for item, shift in zip(items, _shifts(items, network), strict=True):
        own = found.get(tuple(str(item[key]) for key in SLICE_KEYS), nothing)
        planned.append(item | {"plan": _moved(own, shift / factor)})
    return planned


def plan_residuals(run: RunFolder, network: Any, split: Sequence[str]) -> dict[str, float]:
    """What no plan has of each participant's volumes, see VolumePlan; a mean over volumes.

    Args:
        run: the run folder.
        network: the prior, with a fitted plan.
        split: of the participants: training, validation, test.
    """
    slices = read_slices_table(run)
    slices = slices[slices["split"].isin(split)]
    plan = copy.deepcopy(network.plan).cpu()
    found: dict[str, list[float]] = {}
    for _, part in slices.groupby("stack"):
        volume = blurred_volume(run, part, network)[None]
        own = found.setdefault(str(part["participant_id"].iloc[0]), [])
        own.append(float(plan.residuals(volume)))
    return {name: float(np.mean(values)) for name, values in found.items()}


def blurred_volume(run: RunFolder, slices: pd.DataFrame, network: Any) -> Tensor:
    """The slices of one stack, averaged over the pixels of each code, at the plan's levels.

    Args:
        run: the run folder.
        slices: the stack's rows of slices.tsv, or of codes.tsv.
        network: the prior.

    Returns:
        (LEVELS, h, w) in [0, 1].
    """
    height, width = network.settings["grid"][-2:]
    images = torch.from_numpy(read_slices(run, slices)[0].astype(np.float32) / 255)[:, None]
    factor = _factor(images.shape[2], network)
    more = (0, width * factor - images.shape[3], 0, height * factor - images.shape[2])
    cells = F.avg_pool2d(F.pad(images, more), factor)[:, 0]
    positions = slices[_position(network)].to_numpy(float)
    order = np.argsort(positions)
    wanted = np.linspace(network.plan.low, network.plan.high, LEVELS)
    places = np.interp(wanted, positions[order], np.arange(len(order)))
    below = np.floor(places).astype(int).clip(0, max(0, len(order) - 2))
    above = np.minimum(below + 1, len(order) - 1)
    part = torch.from_numpy(places - below).float()[:, None, None]
    return cells[order[below]] * (1 - part) + cells[order[above]] * part


def _training_slices(run: RunFolder) -> pd.DataFrame:
    """Those that the prior learns: rows of codes.tsv, whose splits may be those of a fold."""
    slices = with_enough_brain(read_rows(run.codes / "codes.tsv"))
    return slices[in_split(slices, "training")]


def _row(slices: pd.DataFrame, network: Any) -> Tensor:
    """The conditions of a stack's first slice, (C,)."""
    known, first = network.settings["conditions"], slices.iloc[0].to_dict()
    return condition_row(known, conditions_of_row({str(k): v for k, v in first.items()}, known))


def _position(network: Any) -> str:
    name = position_condition(network.settings["conditions"])
    assert name is not None  # a plan has one
    return name


def _factor(side: int, network: Any) -> int:
    """Pixels along each side of a code, of slices with this number of rows: a power of two."""
    factor = 1
    while -(-side // factor) > int(network.settings["grid"][-2]):
        factor *= 2
    return factor


def _shifts(items: Sequence[dict[str, Any]], network: Any) -> Tensor:
    """Of each item's view, pixels along both axes: (N, 2)."""
    names = list(network.settings["conditions"])
    columns = [names.index(n) if n in names else None for n in ("shift_x", "shift_y")]
    rows = torch.stack([item["condition"] for item in items])
    return torch.stack([rows[:, c] if c is not None else 0 * rows[:, 0] for c in columns], dim=1)


def _moved(plan: Tensor, shift: Tensor) -> Tensor:
    """A plan (h, w) moved by parts of its cells along both axes, linearly interpolated."""
    if not shift.any():
        return plan
    height, width = plan.shape
    x, y = (-2 * float(by) / side for by, side in zip(shift, (height, width), strict=True))
    turn = torch.tensor([[[1.0, 0.0, y], [0.0, 1.0, x]]])
    grid = F.affine_grid(turn, [1, 1, height, width], align_corners=False)
    return F.grid_sample(plan[None, None], grid, padding_mode="border", align_corners=False)[0, 0]
