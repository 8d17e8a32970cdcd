"""Brain masks of whole heads against reference masks: deepbet, and the template after registration.

    python benchmarks/brain_extraction.py --heads ../shared/data/ixi-heads --json brains.json

The folder has heads `NAME_T1w.nii.gz` and reference masks `NAME_desc-brain_mask.nii.gz`. `lost` is
the share of the reference that the mask lacks, `added` the share of the mask outside the reference.
CPU time is that of one thread, from the volume on disk to the mask; deepbet is loaded before.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from standings import Figures, aligned, command_line, keep, machine

from monai_vqbrain.stages.slicing.normalisation import Normalisation, normalise
from monai_vqbrain.transforms.brain_extraction import brain_methods, extract_brain

WAYS = ("deepbet", "template")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all heads by both ways, and print a table."""
    parser = command_line(__doc__ or "")
    parser.add_argument("--heads", type=Path, required=True, help="folder of heads and masks")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    heads = sorted(args.heads.glob("*_T1w.nii.gz"))
    if not heads:
        parser.error(f"{args.heads} has no *_T1w.nii.gz")
    _load(heads[0])
    measured: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for head in heads:
        for way in WAYS:  # both alternately
            measured[way].append(measure(head, way))
    figures = figures_of(measured)
    print(machine())
    print(table(figures))
    keep(figures, args.json)


def measure(head: Path, way: str) -> dict[str, float]:
    """Dice, shares and CPU-seconds of one head's mask."""
    started = time.process_time()
    found = normalise(head, Normalisation(brain=brain_methods(way, deepbet=True))).inside
    seconds = time.process_time() - started
    name = head.name.removesuffix("_T1w.nii.gz")
    reference = np.asarray(nib.load(head.with_name(f"{name}_desc-brain_mask.nii.gz")).dataobj) > 0
    return agreement(found, reference) | {"cpu_seconds": seconds}


def agreement(found: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Dice, and the shares lost of the reference and added to it, of two (X, Y, Z) bool."""
    both, mine, theirs = (int(np.count_nonzero(x)) for x in (found & reference, found, reference))
    return {
        "dice": 2 * both / (mine + theirs),
        "lost": 1 - both / theirs,
        "added": 1 - both / mine,
    }


def figures_of(measured: Mapping[str, Sequence[Mapping[str, float]]]) -> Figures:
    """Flat figures of all heads: medians, and the lowest Dice."""
    figures: Figures = {"heads": len(measured[WAYS[0]])}
    for way, heads in measured.items():
        for name in heads[0]:
            figures[f"{way}_{name}_median"] = float(np.median([head[name] for head in heads]))
        figures[f"{way}_dice_lowest"] = min(head["dice"] for head in heads)
    ratio = figures["template_cpu_seconds_median"] / figures["deepbet_cpu_seconds_median"]
    return figures | {"cpu_seconds_ratio": ratio}


def table(figures: Figures) -> str:
    """One row per way."""
    names = ("dice_median", "dice_lowest", "lost_median", "added_median", "cpu_seconds_median")
    rows = [["mask", *(name.replace("_", " ") for name in names)]]
    rows += [[way, *(f"{figures[f'{way}_{name}']:.3f}" for name in names)] for way in WAYS]
    return aligned(rows)


def _load(head: Path) -> None:
    image = nib.load(head)
    extract_brain(np.asarray(image.dataobj), image.affine)


if __name__ == "__main__":
    main()
