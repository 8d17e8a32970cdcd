"""What do a plan's components describe of new participants, and what do they reveal of others?

    python benchmarks/plan_components.py --run run

Plans of two components are fitted to four fifths of a run's training participants, 200 times. The
table gives the share of the deviation from the mean that plans describe, in these participants and
in the remaining fifth, and how well what they lack distinguishes the former from the latter, an AUC
(0.5: not at all). Test and validation participants are left out. `--picture FILE.png` shows what
the components of the run's own prior do: two rows for each of which participants have coefficients
of their own, 3 standard deviations below and above the mean.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from standings import aligned, command_line, keep, machine, short

from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.metrics.membership import membership
from monai_vqbrain.networks.plan import EXPLAINED, VolumePlan
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.networks import load_network
from monai_vqbrain.runs.plans import blurred_volume
from monai_vqbrain.runs.tables import in_split, read_slices_table

COMPONENTS = 2
KINDS = {"tangent vectors": EXPLAINED - 1, "principal components": EXPLAINED}  # participants
SHOWN, ENLARGED = 8, 4  # levels, and pixels per code, of the picture
COLUMNS = ("described", "described_new", "membership")


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit plans of each kind, print the table."""
    args = parse(arguments)
    volumes = training_volumes(RunFolder(args.run))
    found = {kind: figures(volumes, count, args) for kind, count in KINDS.items()}
    print(
        aligned([["", *COLUMNS], *([k, *(short(f[c]) for c in COLUMNS)] for k, f in found.items())])
    )
    print(machine())
    if args.picture:
        picture(load_network(RunFolder(args.run).prior).plan).save(args.picture)
    keep({"rows": found, "participants": len(volumes), "machine": machine()}, args.json)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = command_line(__doc__ or "")
    parser.add_argument("--run", type=Path, required=True, help="a run with a prior")
    parser.add_argument("--repeats", type=int, default=200, help="random divisions")
    parser.add_argument("--seed", type=int, default=0, help="of the divisions")
    parser.add_argument("--picture", type=Path, help="of the prior's components, a PNG file")
    return parser.parse_args(arguments)


def training_volumes(run: RunFolder) -> torch.Tensor:
    """The blurred volume of each training participant's first scan, (M, LEVELS, h, w)."""
    prior: Any = load_network(run.prior)
    slices = read_slices_table(run)
    slices = slices[in_split(slices, "training")]
    stacks = slices.groupby("participant_id")["stack"].first()
    parts = [slices[slices["stack"] == stack] for stack in stacks]
    return torch.stack([blurred_volume(run, part, prior) for part in parts])


def figures(volumes: torch.Tensor, count: int, args: argparse.Namespace) -> dict[str, float]:
    """Means over the divisions, of plans as for a number of participants."""
    rng, found = np.random.default_rng(args.seed), []
    for _ in range(args.repeats):
        order = torch.from_numpy(rng.permutation(len(volumes)))
        members, others = volumes[order].tensor_split([round(0.8 * len(volumes))])
        plan = VolumePlan(
            COMPONENTS, volumes.shape[-2:], {"position_rel": [0.0, 1.0]}, [], "position_rel"
        )
        plan.fit(members, torch.zeros(len(members), 1), count)
        lacking = torch.cat((plan.residuals(members), plan.residuals(others))).numpy()
        is_member = np.arange(len(lacking)) < len(members)
        names = [str(number) for number in range(len(lacking))]
        auc = membership(lacking, names, is_member, unit="slice").auc.value
        found.append((1 - lacking[is_member].mean(), 1 - lacking[~is_member].mean(), auc))
    return dict(zip(COLUMNS, np.mean(found, axis=0).tolist(), strict=True))


def picture(plan: Any) -> Image.Image:
    """Plans of which one coefficient is far below or above its mean: levels from left to right."""
    positions, rows = torch.linspace(plan.low, plan.high, SHOWN)[None], []
    for change in torch.diag(3 * plan.spread.norm(dim=1)):
        if change.any():
            for coefficients in (-change, change):
                slices = plan.at(coefficients[None], positions)[0].numpy()
                rows.append(np.concatenate([np.rot90(one) for one in slices], axis=1))
    grey = (255 * np.clip((np.concatenate(rows) + 1) / 4, 0, 1)).astype(np.uint8)
    shown = Image.fromarray(grey)
    return shown.resize((ENLARGED * shown.width, ENLARGED * shown.height), Image.Resampling.BICUBIC)


if __name__ == "__main__":
    try:
        main()
    except VQBrainError as error:
        raise SystemExit(str(error)) from None
