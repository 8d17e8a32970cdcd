"""Do samples follow their conditions? Groups, ages and slice positions, against real ones.

    python benchmarks/conditions.py --data ixi-hh --work conditions --json figures.json

Two runs of the shipped recipe on 64 x 64 slices of 3 mm: the built-in phantom, in which group AD
has wider ventricles, and a cohort with ages (ixi-hh). In each slice the brain is its filled
outline, and dark is what lies below half of the brain's median.

- group: dark area inside the brain (at least 12 mm from its rim: the ventricles) in the four slices
  where real groups differ most, of samples asked for AD less that of samples asked for CN, to the
  same difference between real participants.
- age: slope of the dark share of the brain over the age asked for, in the middle half of the
  slices, to that over real ages in the same slices.
- position: how far the position of the training slice nearest to a sample lies from that asked for.

What is not asked for is drawn given what is, as `vqbrain sample` draws it.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import ndimage
from standings import aligned, command_line, keep, machine, short

from monai_vqbrain import metrics
from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.inferers import AncestralSampler
from monai_vqbrain.inferers.joint_conditions import Conditions
from monai_vqbrain.networks.conditions import condition_row
from monai_vqbrain.runs.conditions import read_joint
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.geometry import slice_positions
from monai_vqbrain.runs.networks import load_network
from monai_vqbrain.runs.phantom import SIZE, SPACING, slice_phantom
from monai_vqbrain.runs.stacks import read_slices, to_uint8
from monai_vqbrain.runs.tables import read_slices_table
from monai_vqbrain.runs.views import PLAIN_VIEW
from monai_vqbrain.stages.demo import FEW_CODES
from monai_vqbrain.stages.encode import encode
from monai_vqbrain.stages.prepare import prepare
from monai_vqbrain.stages.train import TrainOptions, train
from monai_vqbrain.transforms.mask import solid

Images = NDArray[np.uint8]  # (N, W, H) or (W, H), 255 standing for an intensity of 1

MILLIMETRES = SPACING
RIM = round(12 / MILLIMETRES)  # pixels; what is farther in and dark is ventricle
PLACES = 4  # slices in which groups are compared
AGES = 5  # that are asked for, over the range
GUIDED = (1.0, 1.5, 2.0)
GOALS = (
    ("group_share", "ventricle area, AD less CN: samples' difference to the real one", 0.5, 0.8),
    ("age_share", "dark share of the brain over age: samples' slope to the real one", None, None),
    ("position_error", "position of the nearest training slice: median error", None, None),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train both runs, unless that is done; measure; print the tables."""
    args = parse(arguments)
    phantom, participants = RunFolder(args.work / "phantom"), RunFolder(args.work / "ages")
    slice_phantom(phantom)
    prepare(args.data, participants.path, size=SIZE, spacing=SPACING)
    found: dict[str, Any] = {}
    for run in (phantom, participants):
        learn(run, args)
    for guidance in GUIDED:
        sampler = Sampler(phantom, guidance, args.number)
        found |= named(groups(phantom, sampler) | positions(phantom, sampler), guidance)
        found |= named(ages(participants, Sampler(participants, guidance, args.number)), guidance)
    print(table(found))
    found |= {"machine": machine(), "minutes": args.minutes, "number": args.number}
    print(found["machine"])
    keep(found, args.json)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = command_line(__doc__ or "")
    add = parser.add_argument
    add("--data", type=Path, required=True, help="ixi-hh, or another cohort with ages")
    add("--work", type=Path, default=Path("conditions"), help="where the two runs are kept")
    add("--minutes", type=float, default=5, help="of each of the four trainings")
    add("--number", type=int, default=64, help="samples for each thing that is asked for")
    args = parser.parse_args(arguments)
    if not args.minutes > 0 or args.number < 2:
        parser.error("--minutes must be above 0, --number 2 or more")
    return args


def learn(run: RunFolder, args: argparse.Namespace) -> None:
    """Train the recipe as the demo does."""
    options = TrainOptions(minutes=args.minutes)
    train(run.path, "vqvae", TrainOptions(minutes=args.minutes, overrides=FEW_CODES))
    encode(run.path)
    train(run.path, "prior", options)


class Sampler:
    """Draws images from a run's prior as they are asked for.

    Args:
        run: with both networks trained.
        guidance: see AncestralSampler.
        number: images for each thing that is asked for.
    """

    def __init__(self, run: RunFolder, guidance: float, number: int) -> None:
        self.prior: Any = load_network(run.prior)
        self.vqvae: Any = load_network(run.vqvae)
        self.joint = read_joint(run.path, self.prior.settings["conditions"], None)
        self.draw = AncestralSampler(guidance=guidance)
        self.number = number

    @torch.inference_mode()
    def __call__(self, seed: int, **asked: Any) -> Images:
        """`number` images of what is asked for."""
        known = self.prior.settings["conditions"]
        view = {name: plain for name, plain in PLAIN_VIEW.items() if name in known}
        drawn = self.joint.draw(self.number, asked, np.random.default_rng(seed))
        rows = torch.stack([condition_row(known, one | view) for one in drawn])
        left = torch.stack([condition_row(known, without(one, asked) | view) for one in drawn])
        generator = torch.Generator().manual_seed(seed)
        codes = self.draw(self.prior, self.number, generator, rows, base=left)
        return to_uint8(self.vqvae.decode_samples(codes)[:, 0].numpy())


def without(conditions: Conditions, asked: Mapping[str, Any]) -> Conditions:
    """Conditions but for those that are asked for, from which guidance starts."""
    return {name: value for name, value in conditions.items() if name not in asked}


def real(run: RunFolder, rows: pd.DataFrame) -> Images:
    """Real slices as the VQ-VAE gives them back, so that both sides went through it."""
    vqvae: Any = load_network(run.vqvae)
    images = torch.from_numpy(read_slices(run, rows)[0])[:, None].float() / 255
    with torch.inference_mode():
        parts = [vqvae.decode_samples(vqvae.index_quantize(part)) for part in images.split(64)]
    return to_uint8(torch.cat(parts)[:, 0].numpy())


def groups(run: RunFolder, sampler: Sampler) -> dict[str, float]:
    """Ventricle area of samples by the group asked for, and of real participants by their group."""
    rows = read_slices_table(run)
    rows = rows.assign(area=[ventricles(image) for image in real(run, rows)])
    means = rows.groupby(["index", "diagnosis"])["area"].mean().unstack()
    chosen = (means["AD"] - means["CN"]).nlargest(PLACES).index
    places = slice_positions(run, "position_rel")
    found: dict[str, float] = {}
    for group in ("AD", "CN"):
        found[f"{group.lower()}_real_mm2"] = float(means.loc[chosen, group].mean())
        areas = [
            ventricles(image)
            for index in chosen
            for image in sampler(int(index), diagnosis=group, position_rel=places[index])
        ]
        found[f"{group.lower()}_mm2"] = float(np.mean(areas))
    difference = found["ad_mm2"] - found["cn_mm2"]
    return found | {"group_share": difference / (found["ad_real_mm2"] - found["cn_real_mm2"])}


def ages(run: RunFolder, sampler: Sampler) -> dict[str, float]:
    """Slope of the dark share over the age asked for, and over real ages, in percent a decade."""
    rows = read_slices_table(run).dropna(subset=["age"])
    places = slice_positions(run, "position_rel")
    middle = places.index[len(places) // 4 : -len(places) // 4]
    rows = rows[rows["index"].isin(middle)]
    shares = pd.Series([dark_share(image) for image in real(run, rows)], index=rows.index)
    participants = pd.DataFrame({"participant": rows["stack"], "age": rows["age"], "dark": shares})
    participants = participants.groupby("participant").mean()
    low, high = sampler.prior.settings["conditions"]["age"]
    asked, dark = np.linspace(low, high, AGES), []
    for age in asked:
        images = [sampler(int(i), age=age, position_rel=places[i]) for i in middle]
        dark.append(np.mean([dark_share(image) for part in images for image in part]))
    slope = 10 * np.polyfit(asked, dark, 1)[0]
    true = 10 * np.polyfit(participants["age"], participants["dark"], 1)[0]
    return {
        "age_slope": float(slope),
        "age_slope_real": float(true),
        "age_correlation": pd.Series(asked).corr(pd.Series(dark)),
        "age_correlation_real": float(participants.corr().loc["age", "dark"]),
        "age_share": float(slope / true),
    }


def positions(run: RunFolder, sampler: Sampler) -> dict[str, float]:
    """How far samples lie from where they are asked to lie, by the nearest training slice."""
    rows = read_slices_table(run)
    rows = rows[rows["split"] == "training"]
    known, where = read_slices(run, rows)[0] / 255, rows["position_rel"].to_numpy()
    errors: list[float] = []
    for index, place in slice_positions(run, "position_rel").items():
        nearest = metrics.nearest(sampler(int(str(index)), position_rel=place) / 255, known)[0]
        errors += np.abs(where[nearest] - place).tolist()
    strangers = np.abs(np.subtract.outer(where, where))
    return {
        "position_error": float(np.median(errors)),
        "position_error_by_chance": float(np.median(strangers)),
        "position_step": float(np.median(np.diff(np.unique(slice_positions(run, "position_rel"))))),
    }


def ventricles(image: Images) -> float:
    """Dark area well inside the brain, mm2."""
    brain, dark = outline(image)
    inside = ndimage.binary_erosion(brain, iterations=RIM)
    return float((dark & inside).sum() * MILLIMETRES**2)


def dark_share(image: Images) -> float:
    """Percent of the brain that is dark."""
    brain, dark = outline(image)
    return float(100 * (dark & brain).sum() / max(1, brain.sum()))


def outline(image: Images) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The brain, filled, and where it is dark: below half of its median."""
    brain = solid(image > 25)
    level = np.median(image[brain]) / 2 if brain.any() else 0
    return brain, brain & (image < level)


def named(found: Mapping[str, float], guidance: float) -> dict[str, float]:
    """Figures by names that end in the guidance, where there is one."""
    return {name if guidance == 1 else f"{name}_g{guidance:g}": v for name, v in found.items()}


def table(found: Mapping[str, float]) -> str:
    """What was found for each guidance, then what was to be reached."""
    names = [name for name in found if "_g" not in name]
    rows = [["guidance", *(f"{g:g}" for g in GUIDED)]]
    for name in names:
        by_guidance = [name if g == 1 else f"{name}_g{g:g}" for g in GUIDED]
        rows.append([name, *(short(found[key]) for key in by_guidance)])
    goals = [["", "found", "must", "aim"]]
    goals += [[words, short(found[n]), short(must), short(aim)] for n, words, must, aim in GOALS]
    return f"\n{aligned(rows)}\n\n{aligned(goals)}"


if __name__ == "__main__":
    try:
        main()
    except VQBrainError as error:
        raise SystemExit(str(error)) from None
