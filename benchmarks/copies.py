"""Are copies of training slices found among samples? Planted copies, and false alarms.

    python benchmarks/copies.py --run RUN --run OTHER_RUN --json copies.json

Each run has slices and a trained VQ-VAE. Copies of its training slices are planted in six ways and
searched for among all training slices. The threshold is set on one half of the held-out
participants, whose slices pass through the VQ-VAE as samples do, and false alarms are counted on
the other half; the halves are swapped, over ten halvings. Redrawn codes are taken at random from
all codes of the batch.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from standings import aligned, command_line, keep, machine, short

from monai_vqbrain.metrics.copies import (
    CopySearch,
    found_share,
    halved_thresholds,
    planted_copies,
)
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.networks import load_network
from monai_vqbrain.runs.stacks import read_slices
from monai_vqbrain.runs.tables import in_split, read_slices_table

BATCH = 64
REDRAWN = 0.1  # share of the codes
MUST = 0.95  # of every kind but "redrawn"


def main(arguments: Sequence[str] | None = None) -> None:
    """Plant, search, and print the table."""
    parser = command_line(__doc__ or "")
    parser.add_argument("--run", type=Path, action="append", required=True, help="may be repeated")
    args = parser.parse_args(arguments)
    found = {run.name: detection(RunFolder(run)) for run in args.run}
    print(table(found))
    figures = {
        f"{run}_{name}": value for run, all_ in found.items() for name, value in all_.items()
    }
    goals = [v for each in found.values() for k, v in each.items() if needed(k)]
    figures |= {
        "copies_found": min(goals),
        "false_alarms": max(each["false_alarms"] for each in found.values()),
        "machine": machine(),
    }
    print(f"fewest found among the first five kinds: {short(min(goals))} (must {MUST})")
    print(figures["machine"])
    keep(figures, args.json)


def needed(name: str) -> bool:
    """Whether a figure is the share found among one of the first five kinds."""
    return name.startswith("found_") and name != "found_redrawn"


def detection(run: RunFolder) -> dict[str, float]:
    """The share found among each kind, false alarms, and CPU seconds of the search."""
    rows = read_slices_table(run)
    images, _ = read_slices(run, rows)
    whose = rows["participant_id"].to_numpy()
    known = in_split(rows, "training")
    network = load_network(run.vqvae)
    began = time.process_time()
    search = CopySearch(images[known], list(whose[known]))
    seconds = time.process_time() - began
    planted = planted_copies(
        images[known],
        reconstruct=lambda x: through(network, x, 0),
        redraw=lambda x: through(network, x, REDRAWN),
    )
    held_out = search.match(through(network, images[~known].astype(np.float32) / 255, 0))
    halvings = halved_thresholds(held_out.ratio, list(whose[~known]))
    began = time.process_time()
    shares = {
        f"found_{kind}": found_share(search.match(copies).ratio, halvings)
        for kind, copies in planted.items()
    }
    return shares | {
        "false_alarms": float(np.mean([h.false_alarms for h in halvings])),
        "cpu_seconds_per_thousand": (time.process_time() - began) / known.sum() / 6 * 1000,
        "cpu_seconds_index": seconds,
        "training_slices": int(known.sum()),
        "held_out_participants": len(set(whose[~known])),
    }


def through(network: Any, images: np.ndarray, redrawn: float) -> np.ndarray:
    """Images (N, W, H) in [0, 1] as the VQ-VAE returns them, a share of the codes drawn again."""
    rng = torch.Generator().manual_seed(0)
    results = []
    for start in range(0, len(images), BATCH):
        with torch.no_grad():
            codes = network.index_quantize(torch.from_numpy(images[start : start + BATCH])[:, None])
            others = codes.flatten()[torch.randint(codes.numel(), codes.shape, generator=rng)]
            swapped = torch.rand(codes.shape, generator=rng) < redrawn
            decoded = network.decode_samples(torch.where(swapped, others, codes))
        results.append(decoded.clamp(0, 1)[:, 0].numpy())
    return np.concatenate(results)


def table(found: dict[str, dict[str, float]]) -> str:
    """One row per figure, one column per run."""
    names = next(iter(found.values()))
    rows = [[name, *(short(each[name]) for each in found.values())] for name in names]
    return aligned([["", *found], *rows])


if __name__ == "__main__":
    main()
