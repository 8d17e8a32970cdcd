"""Do sampled volumes hold together? Cuts across slices, ventricles, and likeness of slices.

    python benchmarks/volumes.py --run run --json figures.json

Volumes are drawn from a run's prior as `vqbrain sample --volume` draws them, and compared with real
ones as the VQ-VAE returns them. Held out are the participants of --split.

- detectability: a network learns to tell sagittal (and coronal) cuts through sampled volumes from
  those through real training volumes, as `vqbrain evaluate` does for slices; AUC on cuts of
  held-out participants. A mean over three places, the middle and 9 mm to each side of it, each with
  networks of its own, so that no volume is both learnt from and scored.
- ventricles: volume in ml, its standard deviation over participants, and the correlation of the
  areas in slices next to each other, over all pairs, less each slice's own mean over volumes.
- SSIM inside the brain of slices 1, 2, 4 and 8 apart.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from cohort_size import decoded
from standings import aligned, command_line, keep, machine, short

from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.inferers import AncestralSampler, VolumeSampler
from monai_vqbrain.metrics.anatomy import fit_tissues, measure_anatomy
from monai_vqbrain.metrics.detectability import detectability
from monai_vqbrain.runs.codes import read_codes
from monai_vqbrain.runs.conditions import position_column
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.geometry import sample_size, slice_positions
from monai_vqbrain.runs.networks import load_network
from monai_vqbrain.runs.sampling import condition_rows, draw_conditions
from monai_vqbrain.runs.tables import in_split
from monai_vqbrain.stages.reporting.coherence import DISTANCES, slice_ssim
from monai_vqbrain.stages.reporting.decoding import decoder

BATCH = 8
CUTS = (-9.0, 0.0, 9.0)  # mm from the middle
SIDE = 128  # pixels of a cut, padded
DETECTORS = (0, 1, 2, 3, 4)
Volumes = np.ndarray  # (N, W, H, S) uint8


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw, cut, measure, print the table."""
    args = parse(arguments)
    torch.set_num_threads(1)
    run = RunFolder(args.run)
    vqvae: Any = load_network(run.vqvae)
    decode = decoder(vqvae, sample_size(run.path))
    codes, rows, _ = read_codes(run)
    training, _ = stacks(run, codes, rows, "training", decode)
    held_out, participants = stacks(run, codes, rows, args.split, decode)
    sampled = drawn(run, decode, args)
    found = figures(training, held_out, participants, sampled, spacing(run, rows))
    print(table(found))
    print(machine())
    settings = {"number": args.number, "seed": args.seed, "split": args.split}
    keep(found | settings | {"machine": machine()}, args.json)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = command_line(__doc__ or "")
    add = parser.add_argument
    add("--run", type=Path, required=True, help="a run with a prior; it is left as it is")
    add("--split", choices=("validation", "test"), default="test", help="the held-out split")
    add("--number", type=int, default=32, help="volumes to draw")
    add("--seed", type=int, default=0, help="of the volumes")
    add("--temperature", type=float, default=0.97, help="as of vqbrain sample")
    add("--neighbour-guidance", type=float, default=1.3, help="of the sampler, as in the bundle")
    return parser.parse_args(arguments)


def spacing(run: RunFolder, rows: pd.DataFrame) -> tuple[float, float]:
    """Millimetres between pixels, and between slices, of a run's stacks."""
    zooms = nib.Nifti1Image.from_filename(run.slices / rows["stack"].iloc[0]).header.get_zooms()
    return float(zooms[0]), float(zooms[2])


def stacks(
    run: RunFolder, codes: np.ndarray, rows: pd.DataFrame, split: str, decode: Any
) -> tuple[Volumes, list[str]]:
    """Stacks of a split that have every slice of a sampled volume, as the VQ-VAE returns them.

    Returns:
        The volumes, and whose they are.
    """
    wanted = list(slice_positions(run, position_column(run)).index)
    chosen = in_split(rows, split) & rows["index"].isin(wanted).to_numpy()
    images, about = decoded(codes[chosen], decode), rows[chosen].reset_index(drop=True)
    groups = [group.sort_values("index") for _, group in about.groupby("stack")]
    whole = [group for group in groups if group["index"].tolist() == wanted]
    volumes = [np.moveaxis(images[group.index.to_numpy()], 0, -1) for group in whole]
    return np.stack(volumes), [str(group["participant_id"].iloc[0]) for group in whole]


def drawn(run: RunFolder, decode: Any, args: argparse.Namespace) -> Volumes:
    """Volumes drawn now."""
    prior: Any = load_network(run.prior)
    options = {"number": args.number, "seed": args.seed, "condition": {}, "volume": True}
    conditions = draw_conditions(run.path, prior, options)
    rows = condition_rows(run.path, prior, options | {"guidance": 1}, conditions)["condition"]
    slice_sampler = AncestralSampler(args.temperature, neighbour_guidance=args.neighbour_guidance)
    sampler = VolumeSampler(slice_sampler)
    generator = torch.Generator().manual_seed(args.seed)
    found = []
    for part in rows.split(BATCH):
        grids = sampler(prior, len(part), generator, part)  # (B, S, *grid)
        flat = grids.flatten(0, 1).reshape(-1, prior.groups, *grids.shape[-2:]).numpy()
        images = decoded(flat, decode)
        found.append(np.moveaxis(images.reshape(*grids.shape[:2], *images.shape[1:]), 1, -1))
    return np.concatenate(found)


def figures(
    training: Volumes,
    held_out: Volumes,
    participants: list[str],
    sampled: Volumes,
    millimetres: tuple[float, float],
) -> dict[str, Any]:
    """All figures of sampled volumes beside real ones."""
    found: dict[str, Any] = {}
    for axis, name in enumerate(("sagittal", "coronal")):
        aucs = [
            detectability(
                cuts(training, axis, offset, millimetres),
                cuts(held_out, axis, offset, millimetres), participants,
                cuts(sampled, axis, offset, millimetres), DETECTORS,
            ).auc.value
            for offset in CUTS
        ]  # fmt: skip
        found |= {f"auc_{name}": float(np.mean(aucs)), f"auc_{name}_by_cut": aucs}
    areas = [ventricle_areas(part, training, millimetres[0]) for part in (held_out, sampled)]
    for name, area in zip(("real", "sampled"), areas, strict=True):
        ml = area.sum(1) * millimetres[1] / 1000
        found |= {f"ventricle_ml_{name}": float(ml.mean()), f"ventricle_sd_{name}": float(ml.std())}
        rest = area - area.mean(0)
        pairs = np.corrcoef(rest[:, :-1].ravel(), rest[:, 1:].ravel())[0, 1]
        found[f"ventricle_continuity_{name}"] = float(pairs)
    for distance in (d for d in DISTANCES if d < sampled.shape[-1]):
        for name, volumes in {"real": held_out, "sampled": sampled}.items():
            scores = [slice_ssim(volume, volume, None, distance)[0] for volume in volumes]
            found[f"ssim_{distance}_{name}"] = float(np.nanmean(scores))
    return found


def cuts(
    volumes: Volumes, axis: int, offset: float, millimetres: tuple[float, float]
) -> np.ndarray:
    """Cuts across slices, this many mm from the middle, of square pixels: (N, SIDE, SIDE) uint8."""
    across = round(millimetres[1] / millimetres[0])
    place = volumes.shape[1 + axis] // 2 + round(offset / millimetres[0])
    found = np.take(volumes, place, axis=1 + axis).repeat(across, axis=-1)
    padded = np.zeros((len(found), SIDE, SIDE), np.uint8)
    padded[:, : found.shape[1], : found.shape[2]] = found[:, :SIDE, :SIDE]
    return padded


def ventricle_areas(volumes: Volumes, training: Volumes, side: float) -> np.ndarray:
    """Area of the ventricles in each slice, mm2: (N, S)."""
    these, real = (
        np.moveaxis(part, -1, 1).reshape(-1, *part.shape[1:3]) for part in (volumes, training)
    )
    measures = measure_anatomy(these, (side, side), fit_tissues(real), "axial")
    areas: np.ndarray = np.asarray(measures["ventricle_area"], float)
    return 100 * np.nan_to_num(areas).reshape(len(volumes), -1)  # of cm2


def table(found: dict[str, Any]) -> str:
    """Sampled beside real."""
    rows = [["", "sampled", "real", "ratio"]]
    for name in sorted({key.rsplit("_", 1)[0] for key in found if key.endswith("_real")}):
        pair = found[f"{name}_sampled"], found[f"{name}_real"]
        rows.append([name, *map(short, pair), short(pair[0] / pair[1])])
    rows += [[name, short(found[name]), "0.5", ""] for name in ("auc_sagittal", "auc_coronal")]
    return f"\n{aligned(rows)}"


if __name__ == "__main__":
    try:
        main()
    except VQBrainError as error:
        raise SystemExit(str(error)) from None
