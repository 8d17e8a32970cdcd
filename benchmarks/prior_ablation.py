"""Compare variants of the shipped prior's training on validation participants, several seeds each.

    python benchmarks/prior_ablation.py --data ds002748 --variant batch_size=16

A variant is what `vqbrain train prior --set` takes, several parted by spaces; the recipe as it
ships is always among them. Codes, loop and scores are those of prior.py. `--vqvae` changes the
VQ-VAE whose codes are learnt, in the same way (`--vqvae network_def#factor=4`). One thread a run.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from statistics import median
from typing import Any

import priors
from ablation import SHIPPED, Runs, begin, overrides, trained_all, variants
from coded import Cohort, encode
from prior import VQVAE_SECONDS
from race import parameters, run_with_slices, slices_options
from standings import aligned, command_line, keep, machine

from monai_vqbrain.errors import VQBrainError


def main(arguments: Sequence[str] | None = None) -> None:
    """Train every variant with every seed, print the table."""
    args = parse(arguments)
    begin()
    run = run_with_slices(args)
    cohort = encode(run, args.work, args.vqvae_seconds, "validation", args.vqvae)
    unigram = cohort.unigram("validation")
    train_one = partial(trained, seconds=args.cpu_seconds, cohort=cohort)
    found = trained_all(args, train_one, "bits")
    print(table(found, args.cpu_seconds, unigram))
    codes = cohort.grid[0] * cohort.grid[1]
    best = median(row["bits"] for row in found[SHIPPED])
    print(
        f"unigram {unigram:.3f} bits per code; shipped {best * codes:.0f} bits per image of {codes}"
        f" codes; VQ-VAE {args.vqvae or SHIPPED}: in-brain SSIM {cohort.vqvae['ssim_brain']:.3f}, "
        f"{cohort.vqvae['codes_used']:.0f} codes in use\n{machine()}"
    )
    figures = {f"{name}: {key}": [row[key] for row in rows]
               for name, rows in found.items() for key in rows[0]}  # fmt: skip
    facts = {"unigram": unigram, "codes": codes, "vqvae": args.vqvae, "machine": machine()}
    keep(figures | facts | {f"vqvae_{k}": v for k, v in cohort.vqvae.items()}, args.json)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; variants are checked against the configurations."""
    parser = command_line(__doc__ or "")
    add = parser.add_argument
    slices_options(parser, "prior-race")
    add("--vqvae", default="", metavar="ID=VALUE ...", help="what the VQ-VAE has other than usual")
    add("--vqvae-seconds", type=float, default=VQVAE_SECONDS, help="CPU-seconds of its training")
    args = variants(parser, arguments, "pixelcnn")
    overrides("vqvae", args.vqvae or SHIPPED)
    return args


def trained(variant: str, seed: int, seconds: float, cohort: Cohort) -> dict[str, Any]:
    """Train one variant and score it."""
    racer = priors.ours(cohort, seed, overrides("pixelcnn", variant))
    best, steps = priors.fit(racer, cohort, seconds)
    bits = priors.bits_of(best, cohort.codes["validation"])
    return {"bits": bits, "steps": steps, "parameters": parameters(racer.network)}


def table(found: Runs, seconds: float, unigram: float) -> str:
    """Medians, the range of the bits, and how far they lie below the shipped and the unigram."""
    rows = [[f"{seconds:g} CPU-s", "bits per code", "range", "change", "below unigram", "steps"]]
    base = median(row["bits"] for row in found[SHIPPED])
    for name, runs in found.items():
        bits = [run["bits"] for run in runs]
        change = "" if name == SHIPPED else f"{median(bits) - base:+.3f}"
        rows.append([
            name, f"{median(bits):.3f}", f"{min(bits):.3f}-{max(bits):.3f}", change,
            f"{unigram - median(bits):.3f}", f"{median(run['steps'] for run in runs):.0f}",
        ])  # fmt: skip
    return "\n" + aligned(rows)


if __name__ == "__main__":
    try:
        main()
    except VQBrainError as error:
        raise SystemExit(str(error)) from None
