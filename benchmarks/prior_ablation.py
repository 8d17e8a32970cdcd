"""Compare variants of the shipped prior's training on validation people, several seeds each.

    python benchmarks/prior_ablation.py --data ds002748 --variant batch_size=16

A variant is what `vqbrain train prior --set` takes, several parted by spaces; the recipe as it
ships is always among them. Codes, loop and scores are those of prior.py. `--vqvae` changes the
VQ-VAE whose codes are learnt, in the same way (`--vqvae factor=4`). One thread a run.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from statistics import median
from typing import Any

import priors
from ablation import SHIPPED, begin
from coded import Cohort, encode
from prior import VQVAE_SECONDS
from race import parameters, run_with_slices, slices_options
from standings import aligned, command_line, keep, machine

from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.stages.bundle import parse_overrides

Runs = dict[str, list[dict[str, Any]]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Train every variant with every seed, print the table."""
    args = parse(arguments)
    begin()
    run = run_with_slices(args)
    cohort = encode(run, args.work, args.vqvae_seconds, "validation", args.vqvae)
    unigram = cohort.unigram("validation")
    found = trained_all(args, cohort)
    print(table(found, args.cpu_seconds, unigram))
    codes = cohort.grid[0] * cohort.grid[1]
    best = median(row["bits"] for row in found[SHIPPED])
    print(
        f"unigram {unigram:.3f} bits a code; as shipped {best * codes:.0f} bits an image of {codes}"
        f" codes; VQ-VAE {args.vqvae or SHIPPED}: in-brain SSIM {cohort.vqvae['ssim_brain']:.3f}, "
        f"{cohort.vqvae['codes_used']:.0f} codes in use\\n{machine()}"
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
    add("--variant", action="append", default=[], metavar="ID=VALUE ...", dest="variants")
    add("--vqvae", default="", metavar="ID=VALUE ...", help="what the VQ-VAE has other than usual")
    add("--vqvae-seconds", type=float, default=VQVAE_SECONDS, help="CPU-seconds of its training")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="SEED")
    add("--cpu-seconds", type=float, default=100, help="of each run")
    add("--jobs", type=int, default=1, help="side by side, each on a core of its own")
    args = parser.parse_args(arguments)
    if args.run is None and args.data is None:
        parser.error("give --data DIR or --run RUN")
    if not args.cpu_seconds > 0 or not 1 <= args.jobs <= len(os.sched_getaffinity(0)):
        parser.error("--cpu-seconds must be above 0, and --jobs from 1 to the number of cores")
    for variant in args.variants:
        overrides(variant)
    parse_overrides("vqvae", "train", tuple(args.vqvae.split()))
    return args


def overrides(variant: str) -> dict[str, Any]:
    """What a variant changes, by id.

    Raises:
        UsageError: if the configuration has no such id.
    """
    pairs = () if variant == SHIPPED else tuple(variant.split())
    return parse_overrides("pixelcnn", "train", pairs)


def trained_all(args: argparse.Namespace, cohort: Cohort) -> Runs:
    """The bits of every variant, one for each seed."""
    names = [SHIPPED, *args.variants]
    found: Runs = {name: [] for name in names}
    with ProcessPoolExecutor(args.jobs, get_context("fork"), begin) as pool:
        jobs = {
            pool.submit(trained, name, seed, args.cpu_seconds, cohort): (name, seed)
            for seed in args.seeds
            for name in names
        }
        for job in as_completed(jobs):
            name, seed = jobs[job]
            found[name].append(job.result())
            print(f"{name}, seed {seed}: {found[name][-1]['bits']:.4f}", flush=True)
    return found


def trained(variant: str, seed: int, seconds: float, cohort: Cohort) -> dict[str, Any]:
    """Train one variant and score it."""
    racer = priors.ours(cohort, seed, overrides(variant))
    best, steps = priors.fit(racer, cohort, seconds)
    bits = priors.bits_of(best, cohort.codes["validation"])
    return {"bits": bits, "steps": steps, "parameters": parameters(racer.network)}


def table(found: Runs, seconds: float, unigram: float) -> str:
    """Medians, the range of the bits, and how far they lie below the shipped and the unigram."""
    rows = [[f"{seconds:g} CPU-s", "bits a code", "range", "change", "below unigram", "steps"]]
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
