"""Whose samples pass for brains? Ours, our prior before, MONAI's transformer, latent diffusion.

    python benchmarks/realism.py --run run --json figures.json

All learn the same training slices of a run (prepared, VQ-VAE trained, encoded) on one thread and
are judged on the same held-out participants by the protocol of `vqbrain evaluate` (see
realism_judge.py); real slices are those that the generator's own VQ-VAE or autoencoder returns,
so that the decoder makes no difference. Each prior is trained for --cpu-seconds on the codes of
the run's VQ-VAE. Latent diffusion trains its autoencoder and its diffusion network in
--vqvae-seconds + --cpu-seconds: give the seconds that the run's VQ-VAE took. With `_3x` it has
three times as many.

- ours: as shipped.
- before: as the prior was before it was changed for its samples, but for mirrored views: 112
  channels, AdamW, batches of 8, views not distinguished, half of the steps with the previous
  slice, no plan; drawn of any participant at temperature 1.
- monai_transformer: DecoderOnlyTransformer, tuned on validation participants (priors.py), drawn
  with keys and values kept at --transformer-temperature.
- monai_ldm: AutoencoderKL and DiffusionModelUNet, tuned likewise (diffusion.py), drawn by DDIM.

Membership is the AUC of distinguishing training from held-out slices: of our priors by the best of
the scores of `vqbrain evaluate`, of the transformer by bits, of latent diffusion by errors of
denoising.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import diffusion
import monai
import numpy as np
import pandas as pd
import priors
import torch
from coded import Codes, Cohort, code_vectors
from cohort_size import cpu_budgets, decoded
from monai.utils.ordering import Ordering
from realism_ablation import drawn, link_codes, steps_and_bits, trained
from realism_judge import Figures, judged, membership_auc
from standings import aligned, command_line, keep, machine, short

from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.inferers import AncestralSampler
from monai_vqbrain.interop import CachedTransformerInferer
from monai_vqbrain.runs.bundles import bundle_folder
from monai_vqbrain.runs.codes import code_items, read_codes
from monai_vqbrain.runs.conditions import position_column
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.geometry import sample_size
from monai_vqbrain.runs.networks import load_network
from monai_vqbrain.runs.stacks import read_slices, to_uint8
from monai_vqbrain.runs.tables import in_split, read_slices_table
from monai_vqbrain.stages.reporting.decoding import decoder
from monai_vqbrain.stages.reporting.image_sets import Comparison, ImageSet
from monai_vqbrain.stages.reporting.membership_audit import measure_membership

BATCH = 64
MORE = 3  # times the CPU-seconds
BEFORE = {  # ids of the bundle's configuration
    "batch_size": 8,
    "network_def#channels": 112,
    "network_def#plan": 0,
    "network_def#late_conditions": [],
    "conditions": "$conditions.prior_conditions(@run_dir, @condition_on)",
    "optimizer": {
        "_target_": "torch.optim.AdamW", "params": "$@network.parameters()", "lr": 0.004,
        "betas": [0.9, 0.95], "weight_decay": 0.3, "fused": True,
    },
    "budget#restart": None,
    "late_parts#_disabled_": True,
    "train#prepare_batch#alone": 0.5,
}  # fmt: skip
TEMPERATURE = 0.97  # of samples, as the bundle has it
FIGURES = {  # name in the JSON file: name in the judgement
    "auc": "detectability", "kid_ratio": "kid_ratio", "coverage": "coverage_ratio",
    "implausible": "implausible", "membership": "membership", "cpu_per_image": "cpu_per_image",
}  # fmt: skip


@dataclass(frozen=True)
class Generated:
    """What a generator made and learnt.

    Args:
        sets: training and held-out slices as its decoder returns them, and samples.
        membership: how well an attack on it distinguishes training from held-out slices, an AUC.
        steps: of its training.
        cpu_per_image: CPU-seconds to draw and decode one image.
    """

    sets: Comparison
    membership: float
    steps: int
    cpu_per_image: float


class Bench:
    """The slices, the codes and what decodes them.

    Args:
        args: the command line.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.run = args, RunFolder(args.run)
        codes, table, _ = read_codes(self.run)
        self.about = table.assign(position=table[position_column(self.run)]).reset_index(drop=True)
        self.codes = codes
        self.vqvae: Any = load_network(self.run.vqvae)
        self.decode = decoder(self.vqvae, sample_size(self.run.path))
        self.rows = {name: in_split(self.about, name) for name in ("training", args.split)}

    def real(self, images: Callable[[Any], np.ndarray], split: str) -> ImageSet:
        """Real slices, made by `images` of the rows of a split."""
        rows = self.rows[split]
        return ImageSet(images(rows), self.about[rows].reset_index(drop=True))

    def compared(self, images: Callable[[Any], np.ndarray], synthetic: ImageSet) -> Comparison:
        """Both sets of real slices, and samples."""
        return Comparison(
            self.real(images, "training"), self.real(images, self.args.split), synthetic
        )

    def decoded(self, rows: Any) -> np.ndarray:
        """Real slices as the run's VQ-VAE returns them."""
        return decoded(self.codes[rows], self.decode)

    def participants(self) -> tuple[list[str], list[str]]:
        """Those of training and of held-out slices."""
        names = self.about["participant_id"].astype(str)
        return names[self.rows["training"]].tolist(), names[self.rows[self.args.split]].tolist()

    def originals(self, split: str) -> torch.Tensor:
        """Slices before any network, (N, 1, W, H) in [0, 1], in the order of the codes."""
        keys = self.about.loc[self.rows[split], ["stack", "index"]]
        slices = keys.merge(read_slices_table(self.run), on=["stack", "index"], how="left")
        return torch.from_numpy(read_slices(self.run, slices)[0] / np.float32(255))[:, None]


def main(arguments: Sequence[str] | None = None) -> None:
    """Train all, draw, judge, print the table."""
    args = parse(arguments)
    torch.set_num_threads(1)
    bench, found = Bench(args), {}
    for name in args.racers:
        made = RACERS[name](bench)
        found[name] = judged(made.sets) | {
            "membership": made.membership, "steps": made.steps, "cpu_per_image": made.cpu_per_image,
        }  # fmt: skip
        print(f"{name}: {made.steps} steps, AUC {found[name]['detectability']:.3f}", flush=True)
        keep(flat(found) | {"machine": machine(), "split": args.split}, args.json)
    print(table(found))
    print(machine())


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = command_line(__doc__ or "")
    add = parser.add_argument
    add("--run", type=Path, required=True, help="a run with codes; it is left as it is")
    add("--work", type=Path, default=Path("realism"), help="where priors are kept")
    add("--split", choices=("validation", "test"), default="test", help="the held-out split")
    add("--racers", nargs="+", choices=tuple(RACERS), default=tuple(RACERS))
    add("--cpu-seconds", type=float, default=500, help="of a prior's training")
    add("--vqvae-seconds", type=float, default=500, help="that the run's VQ-VAE took")
    add("--number", type=int, default=512, help="samples")
    add("--seed", type=int, default=0, help="of trainings and samples")
    add("--ldm", nargs="+", default=[], metavar="NAME=VALUE", help="other settings of diffusion")
    add("--transformer-temperature", type=float, default=1.0, help="of its samples")
    add("--transformer", nargs="+", default=[], metavar="NAME=VALUE", help="of the transformer")
    args = parser.parse_args(arguments)
    args.ldm = changed(diffusion.Settings(), args.ldm, parser)
    args.transformer = changed(priors.Settings(), args.transformer, parser)
    return args


def changed(settings: Any, words: Sequence[str], parser: argparse.ArgumentParser) -> Any:
    """Settings with other values."""
    try:
        return replace(settings, **{n: json.loads(v) for n, v in (w.split("=") for w in words)})
    except (TypeError, ValueError):
        names = ", ".join(field.name for field in fields(settings))
        parser.error(f"give NAME=VALUE, the names being {names}")


def ours(bench: Bench) -> Generated:
    """Our prior and sampler as shipped."""
    args = argparse.Namespace(**vars(bench.args), set=[])
    run = RunFolder(args.work / "ours")
    trained(run, args)
    return of_prior(bench, run, anybody=False)


def before(bench: Bench) -> Generated:
    """The prior as it was before, asked for nothing."""
    args = bench.args
    run, configs = RunFolder(args.work / "before"), bundle_folder("pixelcnn") / "configs"
    link_codes(run, args.run)
    if not run.prior.is_dir():
        with cpu_budgets():
            monai.bundle.run(
                "training", config_file=str(configs / "train.json"),
                meta_file=str(configs / "metadata.json"), logging_file=False,
                run_dir=str(run.path.absolute()), device="cpu", seed=args.seed,
                minutes=args.cpu_seconds / 60, **BEFORE,
            )  # fmt: skip
    return of_prior(bench, run, anybody=True)


def of_prior(bench: Bench, run: RunFolder, anybody: bool) -> Generated:
    """What a trained prior makes: its own conditions drawn, or all of them left open."""
    args, prior = bench.args, load_network(run.prior)
    began = time.process_time()
    sampler = AncestralSampler(temperature=1 if anybody else TEMPERATURE)
    codes, _ = drawn(run, prior, sampler, args, anybody=anybody)
    images = decoded(codes, bench.decode)
    seconds = (time.process_time() - began) / args.number
    membership = measure_membership(run, "cpu", held_out=(args.split,))["auc"]
    steps = steps_and_bits(run)[0]
    return Generated(bench.compared(bench.decoded, of_anybody(images)), membership, steps, seconds)


def monai_transformer(bench: Bench) -> Generated:
    """MONAI's transformer on the same codes."""
    args = bench.args
    cohort = cohort_of(bench)
    racer = priors.monai(cohort, args.seed, args.transformer)
    best, steps = priors.fit(racer, cohort, args.cpu_seconds)
    began = time.process_time()
    height, width = cohort.grid
    inferer, order = CachedTransformerInferer(), Ordering("raster_scan", 2, (1, height, width))
    torch.manual_seed(args.seed)
    transformer: Any = best.eval()
    images = []
    for start in torch.full((args.number, 1), cohort.num_codes).split(BATCH):
        batch = inferer.sample(
            (height, width), start, bench.vqvae, transformer.transformer, order, verbose=False,
            temperature=args.transformer_temperature,
        )  # fmt: skip
        images.append(to_uint8(batch[:, 0].numpy()))
    seconds = (time.process_time() - began) / args.number
    members, others = (
        bits_of_slices(transformer, cohort.codes[name].grids) for name in ("training", args.split)
    )
    return Generated(
        bench.compared(bench.decoded, of_anybody(np.concatenate(images))),
        membership_auc(members, others, bench.participants()), steps, seconds,
    )  # fmt: skip


def monai_ldm(bench: Bench, times: float = 1) -> Generated:
    """MONAI's latent diffusion in as many CPU-seconds as VQ-VAE and prior, or more."""
    args = bench.args
    model = diffusion.LatentDiffusion(args.ldm, args.seed)
    model.fit(bench.originals("training"), times * (args.vqvae_seconds + args.cpu_seconds))
    began = time.process_time()
    images = to_uint8(model.sample(args.number, args.seed)[:, 0].numpy())
    seconds = (time.process_time() - began) / args.number
    originals = {name: bench.originals(name) for name in bench.rows}

    def returned(rows: Any) -> np.ndarray:
        split = next(name for name, those in bench.rows.items() if those is rows)
        return to_uint8(model.reconstruct(originals[split])[:, 0].numpy())

    sides = [model.scores(part, args.seed).numpy() for part in originals.values()]
    return Generated(
        bench.compared(returned, of_anybody(images)),
        membership_auc(sides[0], sides[1], bench.participants()),
        model.done["diffusion"], seconds,
    )  # fmt: skip


def monai_ldm_3x(bench: Bench) -> Generated:
    """The same in three times as many CPU-seconds."""
    return monai_ldm(bench, MORE)


RACERS: Mapping[str, Callable[[Bench], Generated]] = {
    racer.__name__: racer for racer in (ours, before, monai_transformer, monai_ldm, monai_ldm_3x)
}


def cohort_of(bench: Bench) -> Cohort:
    """The run's codes as the races of priors take them."""

    def grids(split: str, views: bool = False) -> Codes:
        items = code_items(bench.run.path, split, views=views)
        names = [str(item["participant_id"]) for item in items]
        return Codes(torch.stack([item["codes"] for item in items]), names)

    splits = dict.fromkeys(("training", "validation", bench.args.split))
    codes = {split: grids(split) for split in splits}
    every, plain = grids("training", views=True), len(codes["training"].grids)
    codes["views"] = Codes(every.grids[plain:], every.participants[plain:])
    return Cohort(codes, code_vectors(bench.vqvae), {})


def bits_of_slices(network: Any, grids: torch.Tensor) -> np.ndarray:
    """Bits of each whole slice, (N,)."""
    parts = [priors.bits_by_slice(network, part) for part in grids.split(16)]
    return torch.cat(parts).numpy()


def of_anybody(images: np.ndarray) -> ImageSet:
    """Samples without positions, which not all generators know, for equal measures."""
    names = [f"sample-{number}" for number in range(len(images))]
    return ImageSet(images, pd.DataFrame({"participant_id": names, "position": np.nan}))


def flat(found: Mapping[str, Figures]) -> Figures:
    """The figures by plain names, such as auc_ours, and all of them by generator."""
    named = {
        f"{name}_{racer}": figures[key]
        for racer, figures in found.items()
        for name, key in FIGURES.items()
    }
    return named | {"all": dict(found)}


def table(found: Mapping[str, Figures]) -> str:
    """A row per generator, and how much more the others are than ours."""
    rows = [["", *FIGURES, "steps"]]
    for name, figures in found.items():
        rows.append([name, *(short(figures[key]) for key in FIGURES.values()),
                     str(figures["steps"])])  # fmt: skip
    if "ours" in found:
        rows.append([""] * len(rows[0]))
        rows += [
            [f"{name} / ours", *(short(figures[k] / found["ours"][k]) for k in FIGURES.values()),
             ""]
            for name, figures in found.items() if name != "ours"
        ]  # fmt: skip
    return f"\n{aligned(rows)}"


if __name__ == "__main__":
    try:
        main()
    except VQBrainError as error:
        raise SystemExit(str(error)) from None
