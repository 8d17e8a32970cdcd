"""Compare variants of the shipped VQ-VAE's training on validation participants, several seeds each.

    python benchmarks/ablation.py --data ds002748 --variant ema=0.999 --variant "ema=0.99 amp=false"

A variant is what `vqbrain train vqvae --set` takes, several parted by spaces; the recipe as it
ships is always among them. Slices, loop and scores are those of vqvae.py. One thread a run.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from statistics import median
from typing import Any

import torch
from monai.utils import set_determinism
from race import Slices, described, keep_memory, load, run_with_slices, score, slices_options, train
from racers import ours
from standings import aligned, command_line, keep, machine

from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.options import json_or_text
from monai_vqbrain.runs.overrides import check_overrides

SHIPPED = "as shipped"
MEASURES = ("ssim_brain", "psnr_whole", "codes_used", "steps")
Data = tuple[Slices, Slices]  # to train on, to score
Runs = dict[str, list[dict[str, Any]]]  # variant -> the scores of each seed


def main(arguments: Sequence[str] | None = None) -> None:
    """Train every variant with every seed, print the table."""
    args = parse(arguments)
    run = run_with_slices(args)
    data = load(run, "training"), load(run, "validation")
    print(described(run, *data), flush=True)
    found = trained_all(args, partial(trained, seconds=args.cpu_seconds, data=data), "ssim_brain")
    print(table(found, args.cpu_seconds))
    print(machine())
    figures = {f"{name}: {key}": value for name, rows in found.items() for key, value in
               [(measure, [row[measure] for row in rows]) for measure in MEASURES]}  # fmt: skip
    keep(figures | {"machine": machine(), "seeds": args.seeds}, args.json)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; variants are checked against the configuration."""
    parser = command_line(__doc__ or "")
    slices_options(parser, "vqvae-race")
    return variants(parser, arguments, "vqvae")


def variants(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None, bundle: str
) -> argparse.Namespace:
    """Read the command line of a comparison of a bundle's variants, after adding its options."""
    add = parser.add_argument
    add("--variant", action="append", default=[], metavar="ID=VALUE ...", dest="variants")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="SEED")
    add("--cpu-seconds", type=float, default=100, help="of each run")
    add("--jobs", type=int, default=1, help="side by side, each on a core of its own")
    args = parser.parse_args(arguments)
    if args.run is None and args.data is None:
        parser.error("give --data DIR or --run RUN")
    if not args.cpu_seconds > 0 or not 1 <= args.jobs <= len(os.sched_getaffinity(0)):
        parser.error("--cpu-seconds must be above 0, and --jobs from 1 to the number of cores")
    for variant in args.variants:
        overrides(bundle, variant)
    return args


def overrides(bundle: str, variant: str) -> dict[str, Any]:
    """What a variant changes in a bundle's train.json, by id.

    Raises:
        UsageError: if the configuration has no such id.
    """
    pairs = [] if variant == SHIPPED else [pair.split("=", 1) for pair in variant.split()]
    return check_overrides(bundle, "train", {name: json_or_text(text) for name, text in pairs})


def trained_all(args: argparse.Namespace, train_one: Callable[..., Any], told: str) -> Runs:
    """The scores of every variant, one for each seed.

    Args:
        args: of `variants`.
        train_one: (variant, seed) -> scores.
        told: the score that a line says when a run ends.
    """
    names = [SHIPPED, *args.variants]
    found: Runs = {name: [] for name in names}
    context = get_context("fork")  # the slices are shared, and MONAI is imported once
    with ProcessPoolExecutor(args.jobs, context, begin) as pool:
        jobs = {
            pool.submit(train_one, name, seed): (name, seed)
            for seed in args.seeds
            for name in names
        }
        for job in as_completed(jobs):
            name, seed = jobs[job]
            found[name].append(job.result())
            print(f"{name}, seed {seed}: {found[name][-1][told]:.4f}", flush=True)
    return found


def begin() -> None:
    """Set up a process that trains."""
    torch.set_num_threads(1)
    keep_memory()


def trained(variant: str, seed: int, seconds: float, data: Data) -> dict[str, Any]:
    """Train one variant and score it."""
    set_determinism(seed)
    racer = ours({}, overrides("vqvae", variant))
    pace = train(racer, data[0], seconds)
    return pace | score(racer.network if racer.averaged is None else racer.averaged, data[1])


def table(found: Runs, seconds: float) -> str:
    """Medians, the range of the in-brain SSIM, and its difference to the shipped recipe's."""
    rows = [[f"{seconds:g} CPU-s", "SSIM in brain", "range", "change", "PSNR", "codes", "steps"]]
    base = median(row["ssim_brain"] for row in found[SHIPPED])
    for name, runs in found.items():
        ssim, psnr, codes, steps = (median(run[m] for run in runs) for m in MEASURES)
        scores = [run["ssim_brain"] for run in runs]
        between = f"{min(scores):.4f}-{max(scores):.4f}"
        change = "" if name == SHIPPED else f"{ssim - base:+.4f}"
        rows.append(
            [name, f"{ssim:.4f}", between, change, f"{psnr:.2f}", f"{codes:.0f}", f"{steps:.0f}"]
        )
    return "\n" + aligned(rows)


if __name__ == "__main__":
    try:
        main()
    except VQBrainError as error:
        raise SystemExit(str(error)) from None
