"""Membership inference from the likelihood of a run's prior."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any, cast

import numpy as np
import torch

from monai_vqbrain.inferers import code_bits
from monai_vqbrain.metrics.bootstrap import balanced
from monai_vqbrain.metrics.membership import Membership, dataset_inference, membership
from monai_vqbrain.networks import PixelCNN
from monai_vqbrain.progress import progress
from monai_vqbrain.runs.codes import code_items
from monai_vqbrain.runs.conditions import of_participants
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.networks import load_network, select_device
from monai_vqbrain.runs.plans import plan_residuals, with_plans
from monai_vqbrain.team import spread

BATCH = 16
MOST = 256  # slices of training and of held-out participants each

Items = list[dict[str, Any]]


def measure_membership(
    run: RunFolder,
    device: str = "auto",
    seed: int = 0,
    held_out: tuple[str, ...] = ("validation", "test"),
) -> dict[str, Any]:
    """How well the bits of slices distinguish training participants from others.

    Five scores are computed: conditional bits, conditional minus unconditional bits, bits given
    what describes the participant minus bits without, bits given the plan of the slice's own volume
    minus bits without, and the residual of a participant's blurred volume under the prior's plan.
    The figures are those of the best score; all are in `scores`.

    Args:
        run: the run folder, with a trained prior.
        device: "auto", "cpu", "cuda" or "cuda:N".
        seed: of the choice of slices and the bootstrap.
        held_out: splits of the participants to compare with.

    Returns:
        JSON values.
    """
    place = select_device(device)
    prior = cast("PixelCNN", load_network(run.prior, place))
    members = _chosen(_items(run, prior, ("training",)), seed)
    others = _chosen(_items(run, prior, held_out), seed)
    items = members + others
    participants = [str(item["participant_id"]) for item in items]
    scores = _scores(prior, items)
    if prior.plan is not None and prior.plan.fitted:
        planned = bits_of_items(prior, with_plans(items, run.path, prior))
        scores["bits_minus_unplanned"] = planned - scores["bits"]
        lacking = plan_residuals(run, prior, ("training", *held_out))
        scores["plan"] = np.array([lacking[name] for name in participants])
    is_member = np.arange(len(items)) < len(members)
    found = {
        name: _figures(values, participants, is_member, seed) for name, values in scores.items()
    }
    best = max(found, key=lambda name: float(found[name]["auc"]))
    return found[best] | {"score": best, "scores": found}


def _items(run: RunFolder, prior: PixelCNN, splits: tuple[str, ...]) -> Items:
    known = prior.settings["conditions"]
    return [item for split in splits for item in code_items(run.path, split, None, known)]


def _chosen(items: Items, seed: int) -> Items:
    """At most `MOST` items, participants balanced."""
    if len(items) <= MOST:
        return items
    participants = [str(item["participant_id"]) for item in items]
    return [items[i] for i in balanced(participants, MOST, seed)]


def _scores(prior: PixelCNN, items: Items) -> dict[str, np.ndarray]:
    """Name of the score -> (N,) bits per slice; low for what the prior has learned well."""
    bits = bits_of_items(prior, items)
    if not prior.settings["conditions"]:
        return {"bits": bits}
    plain = bits_of_items(prior, items, conditions=False)
    scores = {"bits": bits, "bits_minus_unconditional": bits - plain}
    if of_participants(prior.settings["conditions"]):
        scores["bits_minus_undescribed"] = bits - bits_of_items(prior, undescribed(prior, items))
    return scores


def undescribed(prior: PixelCNN, items: Items) -> Items:
    """Items whose conditions of the participant (diagnosis, sex, age) are missing."""
    known = prior.settings["conditions"]
    columns = [list(known).index(name) for name in of_participants(known)]
    found = []
    for item in items:
        row = item["condition"].clone()
        row[columns] = torch.nan
        found.append(item | {"condition": row})
    return found


def bits_of_items(prior: PixelCNN, items: Items, conditions: bool = True) -> np.ndarray:
    """Bits of each whole slice, without its neighbours.

    Args:
        prior: the prior.
        items: N of `code_items`; a plan that they have is passed to the prior.
        conditions: pass the conditions to the prior, if it has any.

    Returns:
        (N,) float64.
    """
    batches = [items[start : start + BATCH] for start in range(0, len(items), BATCH)]
    given = conditions and bool(prior.settings["conditions"])
    found = spread(partial(_bits_of_batch, prior, given), batches)
    return np.concatenate(list(progress(found, "membership", len(batches), "batch")))


def _bits_of_batch(prior: PixelCNN, given: bool, batch: Items) -> np.ndarray:
    device = next(prior.parameters()).device
    codes = torch.stack([item["codes"] for item in batch]).to(device).long()
    rows = torch.stack([item["condition"] for item in batch]).to(device) if given else None
    plans = [item["plan"] for item in batch if "plan" in item]
    plan = torch.stack(plans).to(device) if plans else None
    with torch.inference_mode():
        return code_bits(prior, codes, rows, plan=plan).flatten(1).double().sum(1).cpu().numpy()


def _figures(
    bits: np.ndarray, participants: list[str], members: np.ndarray, seed: int
) -> dict[str, Any]:
    by_slice = membership(bits, participants, members, unit="slice", seed=seed)
    by_participant = membership(bits, participants, members, unit="participant", seed=seed)
    return {
        "auc": by_slice.auc.value,
        "low": by_slice.auc.low,
        "high": by_slice.auc.high,
        "true_positives": _rates(by_slice),
        "participant_auc": by_participant.auc.value,
        "participant_low": by_participant.auc.low,
        "participant_high": by_participant.auc.high,
        "participant_true_positives": _rates(by_participant),
        "dataset_p_value": dataset_inference(bits, participants, members, seed=seed),
        "members": by_slice.members,
        "others": by_slice.others,
        "member_participants": by_slice.member_participants,
        "other_participants": by_slice.other_participants,
    }


def _rates(found: Membership) -> list[dict[str, Any]]:
    """True-positive rates at 1 % and 10 % false positives; null where N does not allow them."""
    return [asdict(rate) for rate in found.true_positives]
