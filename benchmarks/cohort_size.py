"""How do a run's figures depend on the number of training participants?

    python benchmarks/cohort_size.py --source ixi-hh --work cohort-size --json cohort-size.json

The cohort needs sexes and ages. Training participants are reduced to nested subsets, in which sexes
and ages are balanced; validation and test participants stay the same. VQ-VAE and prior of each
subset are trained by the shipped recipe from random weights, on one thread, for a fixed number of
CPU-seconds of this process, validation included. Samples are drawn with the conditions of random
training slices. Every set of images that KID, coverage and utility use has the same size in all
rows. The results of a subset are kept in the work folder: after an interruption, finished subsets
are not trained again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from standings import aligned, command_line, keep, machine, short

from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.files import writing
from monai_vqbrain.inferers import AncestralSampler
from monai_vqbrain.metrics.bootstrap import balanced
from monai_vqbrain.metrics.utility import Labelled, measure_utility
from monai_vqbrain.runs.codes import code_items, read_codes
from monai_vqbrain.runs.conditions import position_column
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.geometry import sample_size
from monai_vqbrain.runs.networks import load_network
from monai_vqbrain.runs.splits import read_splits
from monai_vqbrain.runs.stacks import to_uint8
from monai_vqbrain.runs.tables import in_split
from monai_vqbrain.stages.encode import encode
from monai_vqbrain.stages.evaluate import evaluate
from monai_vqbrain.stages.prepare import prepare
from monai_vqbrain.stages.reporting import ruler
from monai_vqbrain.stages.reporting.decoding import decoder
from monai_vqbrain.stages.reporting.image_sets import Comparison, Decode, ImageSet
from monai_vqbrain.stages.reporting.membership_audit import measure_membership
from monai_vqbrain.stages.train import train_prior, train_vqvae
from monai_vqbrain.tables import read_table

SIZES = (11, 22, 44, 87)
BATCH = 64
EQUAL = 160  # images in each set for KID, coverage and utility; 11 participants have 176 slices
BUDGETS = "monai_vqbrain.handlers.budget.time"  # the clock of the training budgets
COLUMNS = {  # heading -> figure
    "bits per code": "bits_per_code",
    "below unigram": "below_unigram",
    "SSIM": "ssim_brain",
    "KID": "kid",
    "KID floor": "kid_floor",
    "coverage": "coverage",
    "coverage floor": "coverage_floor",
    "detectability": "detectability",
    "membership": "membership",
    "sex, real": "sex_real",
    "sex, samples": "sex_synthetic",
    "age, real": "age_real",
    "age, samples": "age_synthetic",
    "CPU min": "cpu_minutes",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure each subset that has no results yet, and print the table."""
    args = parse(arguments)
    torch.set_num_threads(1)
    whole = RunFolder(args.work / "all")
    prepare(args.source, whole.path)
    order = nested_order(read_table(whole.slices / "participants.tsv"), args.seed)
    found = {size: measured(size, order, whole, args) for size in args.sizes}
    print(table(found))
    print(machine())
    figures = {
        f"{name}_{size}": value for size, one in found.items() for name, value in one.items()
    }
    keep(figures | settings(args) | {"machine": machine()}, args.json)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = command_line(__doc__ or "")
    add = parser.add_argument
    add("--source", type=Path, required=True, help="ixi-hh, or another cohort with sexes and ages")
    add("--work", type=Path, default=Path("cohort-size"), help="where runs and results are kept")
    add("--sizes", type=int, nargs="+", default=SIZES, help="training participants of each subset")
    add("--vqvae-seconds", type=float, default=150, help="CPU-seconds of each VQ-VAE's training")
    add("--prior-seconds", type=float, default=300, help="CPU-seconds of each prior's training")
    add("--samples", type=int, default=256, help="samples of each subset")
    add("--seed", type=int, default=0, help="of the subsets, the trainings and the samples")
    args = parser.parse_args(arguments)
    if min(args.sizes) < 4 or args.samples < 10:
        parser.error("--sizes must be 4 or more, --samples 10 or more")
    if not min(args.vqvae_seconds, args.prior_seconds) > 0:
        parser.error("--vqvae-seconds and --prior-seconds must be above 0")
    return args


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """What the results of a subset depend on besides its size."""
    names = ("source", "vqvae_seconds", "prior_seconds", "samples", "seed")
    return {name: str(args.source) if name == "source" else getattr(args, name) for name in names}


def nested_order(participants: pd.DataFrame, seed: int) -> list[str]:
    """Training participants in an order of which every beginning is balanced by sex and age.

    Args:
        participants: participants.tsv; ages above and below their median are distinguished.
        seed: of the order within a sex and half of the ages.

    Returns:
        Identifiers; the first n are the subset of n.
    """
    rows = participants[participants["split"] == "training"].sample(frac=1, random_state=seed)
    older = rows["age"] > rows["age"].median()
    groups = rows.groupby([rows["sex"].fillna(""), older])["participant_id"]
    place = (groups.cumcount() + 0.5) / groups.transform("size")
    return [str(name) for name in rows["participant_id"][place.sort_values(kind="stable").index]]


def measured(
    size: int, order: Sequence[str], whole: RunFolder, args: argparse.Namespace
) -> dict[str, Any]:
    """The figures of one subset: those kept, or those of networks trained now."""
    kept = args.work / f"{size}.json"
    if kept.is_file():
        found: dict[str, Any] = json.loads(kept.read_text())
        if found.pop("settings") == settings(args):
            return found
    if size > len(order):
        raise VQBrainError(f"--sizes {size}: the cohort has {len(order)} training participants")
    began = time.process_time()
    run = RunFolder(args.work / f"{size}-participants")
    shutil.rmtree(run.path, ignore_errors=True)
    prepare_subset(whole, run, args.source, order[size:])
    trained = learn(run, args)
    found = trained | figures_of(run, args.samples, args.seed)
    found |= {"cpu_minutes": (time.process_time() - began) / 60}
    with writing(kept) as temporary:
        temporary.write_text(json.dumps(found | {"settings": settings(args)}, indent=2) + "\n")
    return found


def prepare_subset(whole: RunFolder, run: RunFolder, source: Path, dropped: Sequence[str]) -> None:
    """Prepare a run without some participants; the others keep their splits and stacks."""
    shutil.copytree(whole.slices, run.slices)
    prepare(source, run.path, exclude=dropped)
    before, after = (read_splits(one.slices / "participants.tsv") for one in (whole, run))
    expected = {name: split for name, split in before.items() if name not in dropped}
    if after != expected:
        raise VQBrainError(f"{run.slices} has other splits than {whole.slices}: use another --work")


@contextmanager
def cpu_budgets() -> Iterator[None]:
    """Training budgets in CPU-seconds of this process: other jobs then take nothing from them."""
    with patch(BUDGETS, SimpleNamespace(monotonic=time.process_time)):
        yield


def learn(run: RunFolder, args: argparse.Namespace) -> dict[str, float]:
    """Train both networks; the steps and CPU-seconds of each."""
    with cpu_budgets():
        train_vqvae(run.path, minutes=args.vqvae_seconds / 60, device="cpu", seed=args.seed)
        encode(run.path, device="cpu")
        train_prior(run.path, minutes=args.prior_seconds / 60, device="cpu", seed=args.seed)
    found = {}
    for name, folder in {"vqvae": run.vqvae, "prior": run.prior}.items():
        last = read_table(folder / "metrics.tsv").iloc[-1]
        found[f"{name}_steps"] = int(last["iteration"])
        found[f"{name}_cpu_seconds"] = float(last["seconds"])
    return found


def figures_of(run: RunFolder, number: int, seed: int) -> dict[str, Any]:
    """All figures of a run with both networks trained."""
    evaluate(run.path, device="cpu")
    scores = json.loads((run.report / "metrics.json").read_text())
    sets = comparison(run, number, seed)
    count = min(EQUAL, len(sets.synthetic))
    chosen = balanced(sets.synthetic.participants, count, seed)
    equal = ruler.equal_sets(replace(sets, synthetic=sets.synthetic.take(chosen)), seed)
    return {
        **interval("bits_per_code", scores["prior"]["bits_per_code_interval"], "mean"),
        "below_unigram": scores["prior"]["unigram_minus_prior_interval"]["mean"],
        **interval("ssim_brain", scores["fidelity"]["test"]["ssim_brain"], "mean"),
        "codes_used": scores["codebook"]["used"],
        **distribution(equal, sets.training, seed),
        **interval("detectability", ruler.measure_detectability(sets), "auc"),
        **interval("membership", measure_membership(run, "cpu", seed), "auc", "participant_"),
        **utility(equal, sets.held_out),
    }


def interval(
    name: str, found: Mapping[str, Any], value: str = "value", prefix: str = ""
) -> dict[str, float | None]:
    """A figure as `name`, and the ends of its interval as `name_low` and `name_high`."""
    ends = {f"{name}_{end}": found[prefix + end] for end in ("low", "high")}
    return {name: found[prefix + value], **ends}


def comparison(run: RunFolder, number: int, seed: int) -> Comparison:
    """Real slices as the VQ-VAE returns them, and samples drawn now."""
    decode = decoder(load_network(run.vqvae), sample_size(run.path))
    codes, rows, _ = read_codes(run)
    position = position_column(run)
    about = rows.assign(position=rows[position]).reset_index(drop=True)
    real = ImageSet(decoded(codes, decode), about)
    training = in_split(about, "training")
    drawn, conditions = draw(run, number, seed)
    conditions = conditions.assign(
        position=conditions[position],
        participant_id=[f"sample-{i}" for i in range(number)],
    )
    samples = ImageSet(decoded(drawn, decode), conditions)
    return Comparison(real.take(training), real.take(~training), samples)


def decoded(codes: np.ndarray, decode: Decode) -> np.ndarray:
    """Images (N, W, H) uint8 of code grids (N, G, w, h)."""
    parts = [to_uint8(decode(codes[i : i + BATCH])) for i in range(0, len(codes), BATCH)]
    return np.concatenate(parts)


def draw(run: RunFolder, number: int, seed: int) -> tuple[np.ndarray, pd.DataFrame]:
    """Code grids (N, G, w, h), each drawn with the conditions of a random training slice.

    Training slices of which a condition is unknown are left out.

    Returns:
        The grids; and N rows with one column per condition.
    """
    prior: Any = load_network(run.prior)
    known = prior.settings["conditions"]
    items = code_items(run.path, "training", None, known)
    rows = torch.stack([item["condition"] for item in items])
    rows = rows[~rows.isnan().any(1)]
    rows = rows[np.random.default_rng(seed).integers(len(rows), size=number)]
    generator = torch.Generator().manual_seed(seed)
    grids = [AncestralSampler()(prior, len(part), generator, part) for part in rows.split(BATCH)]
    codes = torch.cat(grids).reshape(number, prior.groups, *grids[0].shape[-2:])
    conditions = pd.DataFrame(rows.numpy(), columns=list(known))
    sexes = {float(place): value for place, value in enumerate(known["sex"])}
    return codes.numpy(), conditions.assign(sex=conditions["sex"].map(sexes))


def distribution(equal: Comparison, reference: ImageSet, seed: int) -> dict[str, Any]:
    """KID and coverage of random features, each with its floor."""
    spaces = {"random": ruler.SPACES["random"]}
    found = ruler.measure_distribution(equal, spaces, seed, reference)
    kid, coverage = (found[name]["random"] for name in ("kid", "coverage_interval"))
    floors = {"kid_floor": kid["floor"], "coverage_floor": coverage["floor"]}
    counts = {"equal_images": len(equal.synthetic)}
    return interval("kid", kid) | interval("coverage", coverage) | floors | counts


def utility(equal: Comparison, held_out: ImageSet) -> dict[str, Any]:
    """AUC of sex, and of age above the median of held-out slices, learned from either set."""
    middle = float(held_out.about["age"].median())
    found: dict[str, Any] = {}
    for task in ("sex", "age"):
        sets = (equal.training, equal.synthetic, held_out)
        one = measure_utility(*(labelled(images, task, middle) for images in sets))
        found |= {
            f"{task}_real": one.real.auc,
            f"{task}_synthetic": one.synthetic.auc,
            f"{task}_both": one.both.auc,
            f"{task}_difference": one.difference,
            f"{task}_difference_low": one.difference_low,
            f"{task}_difference_high": one.difference_high,
            f"{task}_measurable": one.measurable,
        }
    return found


def labelled(images: ImageSet, task: str, middle: float) -> Labelled:
    """The images whose sex or age is known, with their classes: 1 is male, or above `middle`."""
    known = images.take(images.about[task].notna().to_numpy())
    values = known.about[task]
    classes = values == "M" if task == "sex" else values > middle
    return Labelled(known.images, classes.to_numpy().astype(int), known.participants)


def table(found: Mapping[int, Mapping[str, Any]]) -> str:
    """One row per subset, the smallest first."""
    rows = [[str(n), *(short(found[n][key]) for key in COLUMNS.values())] for n in sorted(found)]
    return "\n" + aligned([["participants", *COLUMNS], *rows])


if __name__ == "__main__":
    try:
        main()
    except VQBrainError as error:
        raise SystemExit(str(error)) from None
