"""Race our prior against MONAI's transformer: bits per code on held-out participants.

    python benchmarks/prior.py --data ds002748 --work prior-race --json figures.json

The shipped VQ-VAE with 8 x 8 pixels per code is trained for 600 CPU-seconds and encodes all slices.
On these codes both priors train from random weights, again for each budget, on one thread: ours as
the bundle trains it, MONAI's tuned on validation participants, with shifted slices and what
else of our recipe helps it; and MONAI's as is usual, with Adam at a constant rate. Every tenth of
the budget, the clock stopped, validation participants are scored, and the weights with the best
score are evaluated on the test participants. All know the codes of a slice and nothing else. Bits
are means over a participant's slices, then over participants. The unigram gives each position its
own smoothed histogram of training codes.

To tune MONAI's on validation participants:
--split validation --racers monai --monai lr=0.003 dropout=0
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import priors
import torch
from coded import Cohort, encode
from race import keep_memory, parameters, run_with_slices, slices_options
from standings import aligned, command_line, keep, machine, short

from monai_vqbrain.errors import VQBrainError

BUDGETS = (70, 300)  # CPU-seconds
VQVAE_SECONDS = 600
NAMES = {"ours": "ours", "monai": "MONAI's, tuned", "usual": "MONAI's, usual"}
RACERS = tuple(NAMES)
GOALS = {  # figure -> words, must, aim
    "bits_below_monai_70s": ("bits below MONAI's transformer, 70 CPU-s", 1.2, 1.4),
    "bits_below_unigram_70s": ("bits below the unigram, 70 CPU-s", 0.9, 1.0),
    "bits_below_monai_300s": ("bits below MONAI's transformer, 300 CPU-s", 0.6, 0.9),
    "bits_below_unigram_300s": ("bits below the unigram, 300 CPU-s", 1.0, 1.2),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Encode, race, print the table."""
    args = parse(arguments)
    torch.set_num_threads(1)
    keep_memory()
    run, scale = run_with_slices(args), args.cpu_seconds / BUDGETS[-1]
    cohort = encode(run, args.work, VQVAE_SECONDS * scale, args.split)
    found: dict[str, Any] = {f"vqvae_{name}": value for name, value in cohort.vqvae.items()}
    found["unigram"] = cohort.unigram(args.split)
    for budget in args.budgets:
        for name in args.racers:
            results = [raced(name, cohort, budget * scale, seed, args) for seed in args.seeds]
            for key in results[0]:
                values = [result[key] for result in results]
                found[f"{name}_{key}_{budget}s"] = float(np.median(values))
                found[f"{name}_{key}_{budget}s_seeds"] = values
    found |= compared(found)
    print(table(found))
    found |= {"machine": machine(), "threads": 1, "seeds": args.seeds, "split": args.split}
    found |= {"run": str(run), "cpu_seconds": args.cpu_seconds}
    found |= {f"monai_{name}": value for name, value in dataclasses.asdict(args.monai).items()}
    print(found["machine"])
    keep(found, args.json)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = command_line(__doc__ or "")
    add = parser.add_argument
    slices_options(parser, "prior-race")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="SEED")
    add("--split", choices=["validation", "test"], default="test", help="the split to score")
    add("--cpu-seconds", type=float, default=BUDGETS[-1], help="of the longest; scales all")
    add("--budgets", nargs="+", type=int, choices=BUDGETS, default=BUDGETS, help="which to race")
    add("--racers", nargs="+", choices=RACERS, default=RACERS)
    add("--monai", nargs="+", default=[], metavar="NAME=VALUE", help="other settings of MONAI's")
    args = parser.parse_args(arguments)
    if args.run is None and args.data is None:
        parser.error("give --data DIR or --run RUN")
    if not args.cpu_seconds > 0:
        parser.error("--cpu-seconds must be above 0")
    try:
        changes = {name: json.loads(value) for name, value in (w.split("=") for w in args.monai)}
        args.monai = priors.Settings(**changes)
    except (TypeError, ValueError):
        names = ", ".join(field.name for field in dataclasses.fields(priors.Settings))
        parser.error(f"--monai takes NAME=VALUE, the names being {names}")
    return args


def raced(
    name: str, cohort: Cohort, seconds: float, seed: int, args: argparse.Namespace
) -> dict[str, float]:
    """Train one prior; its bits on the participants to score, steps, and parameters."""
    settings = {"monai": args.monai, "usual": priors.USUAL}.get(name)
    racer = priors.monai(cohort, seed, settings) if settings else priors.ours(cohort, seed)
    best, steps = priors.fit(racer, cohort, seconds)
    result = {
        "bits": priors.bits_of(best, cohort.codes[args.split]),
        "validation_bits": priors.bits_of(best, cohort.codes["validation"]),
        "steps": steps,
        "parameters": parameters(racer.network),
    }
    print(f"{name}, {seconds:g} CPU-s, seed {seed}: {json.dumps(result)}", flush=True)
    return result


def compared(found: Mapping[str, float]) -> dict[str, float]:
    """How many bits ours lies below the others, where both raced."""
    more = {}
    for budget in BUDGETS:
        if (mine := found.get(f"ours_bits_{budget}s")) is None:
            continue
        for peer in RACERS[1:]:
            if (theirs := found.get(f"{peer}_bits_{budget}s")) is not None:
                more[f"bits_below_{peer}_{budget}s"] = theirs - mine
        more[f"bits_below_unigram_{budget}s"] = found["unigram"] - mine
    return more


def table(found: Mapping[str, Any]) -> str:
    """Bits of all, then what was to be reached."""
    rows = [["bits per code", "CPU-s", "median", "range", "steps", "parameters"]]
    for name in RACERS:
        for budget in BUDGETS:
            if f"{name}_bits_{budget}s" not in found:
                continue
            bits = found[f"{name}_bits_{budget}s_seeds"]
            rows.append([
                NAMES[name], str(budget), f"{np.median(bits):.3f}",
                f"{min(bits):.3f}-{max(bits):.3f}",
                f"{found[f'{name}_steps_{budget}s']:.0f}",
                f"{found[f'{name}_parameters_{budget}s']:,.0f}",
            ])  # fmt: skip
    rows.append(["unigram", "", f"{found['unigram']:.3f}", "", "", ""])
    goals = [["", "found", "must", "aim", ""]]
    for name, (words, must, aim) in GOALS.items():
        if name in found:
            value = found[name]
            verdict = "aim met" if value >= aim else "must met" if value >= must else "missed"
            goals.append([words, short(value), short(must), short(aim), verdict])
    facts = (
        f"codes of a VQ-VAE with in-brain SSIM {found['vqvae_ssim_brain']:.3f}, "
        f"{found['vqvae_codes_used']:.0f} codes in use"
    )
    return f"\n{aligned(rows)}\n\n{aligned(goals)}\n{facts}"


if __name__ == "__main__":
    try:
        main()
    except VQBrainError as error:
        raise SystemExit(str(error)) from None
