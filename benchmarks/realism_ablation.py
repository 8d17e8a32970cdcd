"""What makes samples pass for brains? Variants of the prior, judged on validation participants.

    python benchmarks/realism_ablation.py --run run --set network_def#channels=112

A variant is what `vqbrain train prior --set` takes; without one it is the recipe as shipped. The
prior is trained on the codes of a run (prepared, VQ-VAE trained, encoded) for a fixed number of
CPU-seconds of this process on one thread, validation included. Each sampling option gives a row:
samples are drawn as `vqbrain sample` draws them, but for blank ones, which are not drawn again, and
compared with validation participants by the protocol of `vqbrain evaluate` (see realism_judge.py);
test participants are left out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from cohort_size import cpu_budgets, decoded
from realism_judge import Figures, judged
from standings import aligned, command_line, keep, machine, short

from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.inferers import AncestralSampler
from monai_vqbrain.options import json_or_text
from monai_vqbrain.runs.codes import read_codes
from monai_vqbrain.runs.conditions import position_column
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.geometry import sample_size
from monai_vqbrain.runs.networks import load_network
from monai_vqbrain.runs.sampling import condition_rows, draw_conditions
from monai_vqbrain.runs.tables import in_split
from monai_vqbrain.runs.training import kept_epoch
from monai_vqbrain.stages.reporting.decoding import decoder
from monai_vqbrain.stages.reporting.image_sets import Comparison, Decode, ImageSet
from monai_vqbrain.stages.reporting.membership_audit import measure_membership
from monai_vqbrain.stages.train import train_prior
from monai_vqbrain.tables import read_table

BATCH = 64
COLUMNS = (
    "bits", "detectability", "kid", "kid_floor", "coverage", "coverage_floor", "implausible",
    "implausible_real", "mirrored", "mirrored_real", "cpu_per_image", "membership",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the variant, unless that is done, judge each sampling, print the table."""
    args = parse(arguments)
    torch.set_num_threads(1)
    run = RunFolder(args.work)
    steps, bits = trained(run, args)
    prior: Any = load_network(run.prior)
    attacks = measure_membership(run, "cpu", held_out=("validation",))
    scores = {name: score["auc"] for name, score in attacks["scores"].items()}
    privacy = {"membership": attacks["auc"], "membership_by_score": scores}
    found: dict[str, Figures] = {}
    for temperature in args.temperature:
        sampler = AncestralSampler(temperature=temperature)
        found[f"temperature {temperature:g}"] = (
            {"bits": bits} | privacy | judged_samples(run, prior, sampler, args)
        )
    print(f"\n{' '.join(args.set) or 'as shipped'}: {steps} steps in {args.cpu_seconds:g} CPU-s")
    print(
        aligned([["", *COLUMNS], *([n, *(short(f[c]) for c in COLUMNS)] for n, f in found.items())])
    )
    print("membership by score:", ", ".join(f"{n} {auc:.3f}" for n, auc in scores.items()))
    print(machine())
    settings = {"set": args.set, "cpu_seconds": args.cpu_seconds, "seed": args.seed}
    keep({"rows": found, "steps": steps, "machine": machine()} | settings, args.json)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = command_line(__doc__ or "")
    add = parser.add_argument
    add("--run", type=Path, required=True, help="a run with codes; it is left as it is")
    add("--work", type=Path, default=Path("realism-ablation"), help="where the prior is kept")
    add("--set", action="append", default=[], metavar="ID=VALUE", help="of the variant")
    add("--cpu-seconds", type=float, default=500, help="of the prior's training")
    add("--temperature", type=float, nargs="+", default=[1.0], help="of each sampling")
    add("--number", type=int, default=512, help="samples")
    add("--seed", type=int, default=0, help="of training and samples")
    return parser.parse_args(arguments)


def trained(run: RunFolder, args: argparse.Namespace) -> tuple[int, float]:
    """Steps, and bits per code of validation participants, of the prior; trained unless it is."""
    link_codes(run, args.run)
    pairs = (text.partition("=") for text in args.set)
    overrides = {name: json_or_text(value) for name, _, value in pairs}
    with cpu_budgets():
        train_prior(
            run.path, minutes=args.cpu_seconds / 60, device="cpu", seed=args.seed,
            overrides=overrides,
        )  # fmt: skip
    return steps_and_bits(run)


def link_codes(run: RunFolder, source: Path) -> None:
    """Give a folder all that a prior is trained on, by links to another run."""
    run.path.mkdir(parents=True, exist_ok=True)
    for folder in ("2-slices", "3-vqvae", "4-codes"):
        link = run.path / folder
        if not link.exists():
            link.symlink_to((source / folder).resolve())


def steps_and_bits(run: RunFolder) -> tuple[int, float]:
    """Steps of a trained prior, and bits per code of validation participants."""
    table = read_table(run.prior / "metrics.tsv")
    return int(table["iteration"].iloc[-1]), float(kept_epoch(table)["bits_per_code"])


def judged_samples(run: RunFolder, prior: Any, sampler: AncestralSampler, args: Any) -> Figures:
    """The figures of samples that are drawn now."""
    decode = decoder(load_network(run.vqvae), sample_size(run.path))
    began = time.process_time()
    codes, about = drawn(run, prior, sampler, args)
    seconds = (time.process_time() - began) / args.number
    sets = comparison(run, decode, ImageSet(decoded(codes, decode), about), "validation")
    return judged(sets) | {"cpu_per_image": seconds}


def drawn(
    run: RunFolder, prior: Any, sampler: AncestralSampler, args: Any, anybody: bool = False
) -> tuple[np.ndarray, pd.DataFrame]:
    """Code grids (N, G, w, h), and a table of what each was drawn for."""
    asked = dict.fromkeys(prior.settings["conditions"], "any") if anybody else {}
    options = {"number": args.number, "seed": args.seed, "condition": asked, "volume": False}
    conditions = draw_conditions(run.path, prior, options)
    rows = condition_rows(run.path, prior, options | {"guidance": 1}, conditions)["condition"]
    generator = torch.Generator().manual_seed(args.seed)
    grids = [sampler(prior, len(part), generator, part) for part in rows.split(BATCH)]
    codes = torch.cat(grids).reshape(len(rows), prior.groups, *grids[0].shape[-2:])
    about = pd.DataFrame(conditions)
    about["position"] = about.get(position_column(run), np.nan)
    return codes.numpy(), about.assign(participant_id=[f"sample-{i}" for i in range(len(rows))])


def comparison(run: RunFolder, decode: Decode, synthetic: ImageSet, split: str) -> Comparison:
    """Training slices and those of a split as the VQ-VAE returns them, and samples."""
    codes, rows, _ = read_codes(run)
    about = rows.assign(position=rows[position_column(run)]).reset_index(drop=True)
    sets = [in_split(about, name) for name in ("training", split)]
    real = [
        ImageSet(decoded(codes[one], decode), about[one].reset_index(drop=True)) for one in sets
    ]
    return Comparison(real[0], real[1], synthetic)


if __name__ == "__main__":
    try:
        main()
    except VQBrainError as error:
        raise SystemExit(str(error)) from None
