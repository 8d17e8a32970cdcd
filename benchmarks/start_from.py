"""What does starting from the packaged weights give on a small cohort?

    python benchmarks/start_from.py --source ixi-hh --work start-from --json start-from.json

The cohort, its splits, the balanced subset of training participants and the samples are those of
`cohort_size.py`. VQ-VAE and prior are trained by the shipped recipe, on one thread, for each budget
in CPU-seconds of this process and from each start: random weights, or the packaged ones. Scores are
those of test participants; detectability is that of samples against real validation and test
slices, both through the VQ-VAE. Bits per code of two VQ-VAEs are of other codes: read them beside
the SSIM, or as bits below those of each position's own histogram.

The results of each start and budget are kept in the work folder: after an interruption, what is
finished is not trained again. With --starts, two processes can share the work, one start each; a
last run without --starts prints the whole table.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from cohort_size import comparison, cpu_budgets, interval, nested_order, prepare_subset
from standings import aligned, command_line, keep, machine, short

from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.files import writing
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.packaged import PACKAGED
from monai_vqbrain.stages.encode import encode
from monai_vqbrain.stages.evaluate import run_evaluations
from monai_vqbrain.stages.prepare import prepare
from monai_vqbrain.stages.reporting import ruler
from monai_vqbrain.stages.reporting.fidelity import fidelity
from monai_vqbrain.stages.reporting.summary import prior_bits
from monai_vqbrain.stages.train import train_prior, train_vqvae
from monai_vqbrain.tables import read_table

BUDGETS = (60, 120, 300)  # CPU-seconds of each network
NOTHING = "nothing"
STARTS = (NOTHING, PACKAGED[0])
COLUMNS = {  # heading -> figure
    "SSIM": "ssim_brain",
    "bits per code": "bits_per_code",
    "below unigram": "below_unigram",
    "detectability": "detectability",
    "CPU min": "cpu_minutes",
}

Found = Mapping[tuple[str, int], Mapping[str, Any]]  # by start and budget


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what has no results yet, and print the table."""
    args = parse(arguments)
    torch.set_num_threads(1)
    subset = RunFolder(args.work / f"{args.participants}-participants")
    prepare_cohort(subset, args)
    cells = [(start, budget) for budget in args.budgets for start in args.starts]
    found = {(start, budget): measured(subset, start, budget, args) for start, budget in cells}
    print(table(found))
    print(machine())
    figures = {
        f"{start}_{budget}_{name}": value
        for (start, budget), one in found.items()
        for name, value in one.items()
    }
    keep(figures | settings(args) | {"machine": machine()}, args.json)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = command_line(__doc__ or "")
    add = parser.add_argument
    add("--source", type=Path, required=True, help="ixi-hh, or another cohort with sexes and ages")
    add("--work", type=Path, default=Path("start-from"), help="where runs and results are kept")
    add("--participants", type=int, default=11, help="training participants")
    add("--budgets", type=float, nargs="+", default=BUDGETS, help="CPU-seconds of each network")
    add("--starts", choices=STARTS, nargs="+", default=STARTS, help="what trainings start from")
    add("--samples", type=int, default=256, help="samples of each prior")
    add("--seed", type=int, default=0, help="of the subset, the trainings and the samples")
    args = parser.parse_args(arguments)
    if args.participants < 4 or args.samples < 10:
        parser.error("--participants must be 4 or more, --samples 10 or more")
    if not min(args.budgets) > 0:
        parser.error("--budgets must be above 0")
    return args


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """What the results depend on besides start and budget."""
    names = ("participants", "samples", "seed")
    return {"source": str(args.source), **{name: getattr(args, name) for name in names}}


def prepare_cohort(subset: RunFolder, args: argparse.Namespace) -> None:
    """Prepare the subset of training participants, unless it is there."""
    if subset.slices.is_dir():
        return
    whole = RunFolder(args.work / "all")
    prepare(args.source, whole.path)
    order = nested_order(read_table(whole.slices / "participants.tsv"), args.seed)
    if args.participants > len(order):
        raise VQBrainError(
            f"--participants {args.participants}: the cohort has {len(order)} for training"
        )
    prepare_subset(whole, subset, args.source, order[args.participants :])


def measured(
    subset: RunFolder, start: str, budget: float, args: argparse.Namespace
) -> dict[str, Any]:
    """The figures of one start and budget: those kept, or those of networks trained now."""
    kept = args.work / f"{start}-{budget:g}.json"
    if kept.is_file():
        found: dict[str, Any] = json.loads(kept.read_text())
        if found.pop("settings") == settings(args):
            return found
    began = time.process_time()
    run = RunFolder(args.work / f"{start}-{budget:g}")
    shutil.rmtree(run.path, ignore_errors=True)
    run.path.mkdir(parents=True)
    run.slices.symlink_to(subset.slices.absolute())
    learn(run, None if start == NOTHING else start, budget, args.seed)
    found = figures_of(run, args.samples, args.seed)
    found |= {"cpu_minutes": (time.process_time() - began) / 60}
    with writing(kept) as temporary:
        temporary.write_text(json.dumps(found | {"settings": settings(args)}, indent=2) + "\n")
    return found


def learn(run: RunFolder, start: str | None, budget: float, seed: int) -> None:
    """Train both networks for a budget of CPU-seconds each."""
    with cpu_budgets():
        train_vqvae(run.path, minutes=budget / 60, device="cpu", seed=seed, start_from=start)
        encode(run.path, device="cpu")
        train_prior(run.path, minutes=budget / 60, device="cpu", seed=seed, start_from=start)


def figures_of(run: RunFolder, number: int, seed: int) -> dict[str, Any]:
    """In-brain SSIM and bits per code of test participants, and detectability of samples."""
    work = run.path / "scores"
    work.mkdir(exist_ok=True)
    run_evaluations(run, work, "cpu")
    scores = fidelity(read_table(work / "fidelity.tsv"))
    bits = prior_bits(run, read_table(work / "bits.tsv"))
    sets = comparison(run, number, seed)
    return {
        **interval("ssim_brain", scores["ssim_brain"], "mean"),
        **interval("bits_per_code", bits["bits_per_code_interval"], "mean"),
        "below_unigram": bits["unigram_minus_prior_interval"]["mean"],
        **interval("detectability", ruler.measure_detectability(sets), "auc"),
    }


def table(found: Found) -> str:
    """One row per budget and start, and what the packaged weights change."""
    rows = [
        [f"{budget:g} s from {start}", *(short(one[key]) for key in COLUMNS.values())]
        for (start, budget), one in found.items()
    ]
    lines = ["", aligned([["each network", *COLUMNS], *rows])]
    budgets = sorted({budget for _, budget in found})
    first, last = (PACKAGED[0], budgets[0]), (NOTHING, budgets[-1])
    if first in found and last in found:
        gain = found[first]["ssim_brain"] - found[last]["ssim_brain"]
        lines.append(
            f"in-brain SSIM after {budgets[0]:g} s from {PACKAGED[0]}, minus that after "
            f"{budgets[-1]:g} s from {NOTHING}: {gain:+.3f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        main()
    except VQBrainError as error:
        raise SystemExit(str(error)) from None
