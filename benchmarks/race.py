"""One run of the race: slices in memory, the training loop that all share, and the score."""

from __future__ import annotations

import argparse
import ctypes
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Events
from monai.transforms import Compose
from racers import Racer

from monai_vqbrain import metrics
from monai_vqbrain.runs.folder import MIN_BRAIN_FRACTION, RunFolder
from monai_vqbrain.runs.stacks import read_slices
from monai_vqbrain.runs.tables import in_split, read_slices_table
from monai_vqbrain.stages.prepare import prepare_slices
from monai_vqbrain.stages.slicing.options import PrepareOptions
from monai_vqbrain.tables import read_table

SCORES = ("ssim_brain", "ssim_whole", "psnr_brain", "psnr_whole")


@dataclass(frozen=True)
class Slices:
    """The slices of one split that hold enough brain.

    Args:
        images: (N, 1, W, H) float32 in [0, 1].
        masks: (N, 1, W, H) bool, the brain as stored by prepare.
        index: (N,) of each slice within its volume.
        participants: the N participants that the slices belong to.
    """

    images: torch.Tensor
    masks: torch.Tensor
    index: np.ndarray
    participants: list[str]


def slices_options(parser: argparse.ArgumentParser, kept: str) -> None:
    """Add --data, --run and --work to a benchmark's command line.

    Args:
        parser: of the command line.
        kept: name of the work folder by default.
    """
    parser.add_argument("--data", type=Path, help="ds002748, to prepare slices from")
    parser.add_argument("--run", type=Path, help="instead: a run with 128x128 slices")
    parser.add_argument("--work", type=Path, default=Path(kept), help="where it keeps what it made")


def run_with_slices(args: argparse.Namespace) -> Path:
    """The run that was given, or one prepared now in the work folder."""
    if args.run is not None:
        return Path(args.run)
    prepare_slices(args.data, args.work / "slices-128", PrepareOptions())
    return Path(args.work / "slices-128")


def load(run: Path, split: str) -> Slices:
    """The slices of a split of a prepared run, thin ones left out."""
    table = read_slices_table(RunFolder(run))
    rows = table[in_split(table, split)]
    images, masks = read_slices(RunFolder(run), rows)
    return Slices(
        torch.from_numpy(images)[:, None].float() / 255,
        torch.from_numpy(masks)[:, None],
        rows["index"].to_numpy(),
        [str(participant) for participant in rows["participant_id"]],
    )


def described(run: Path, training: Slices, held_out: Slices) -> str:
    """One line on the slices of a run: how many, whose, and how many were left out."""
    table = read_table(RunFolder(run).slices / "slices.tsv")
    thin = int((table["brain_fraction"] < MIN_BRAIN_FRACTION).sum())
    return (
        f"{run}: {len(training.images)} slices of {len({*training.participants})} participants to "
        "train on, "
        f"{len(held_out.images)} of {len({*held_out.participants})} others to score; "
        f"{thin} slices with under {MIN_BRAIN_FRACTION:.0%} brain left out"
    )


def keep_memory() -> None:
    """Have the C library keep the memory that tensors free, where it is glibc.

    By default it gives large blocks back, and a batch of 16 then spends a fifth of its time on page
    faults: on the baseline's side, whose setting that is.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(-4, 0)  # M_MMAP_MAX: no block is a mapping of its own
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def train(racer: Racer, slices: Slices, seconds: float) -> dict[str, float]:
    """Train for this many CPU-seconds of this process, counted from the first batch.

    Args:
        racer: its network ends with the weights of the last step.
        slices: to train on.
        seconds: the budget, at whose end the schedule ends.

    Returns:
        Steps, the CPU-seconds that they took, and slices per second.
    """
    racer.network.train()
    rates = [group["lr"] for group in racer.optimizer.param_groups]
    draws = draw(len(slices.images), racer.batch_size)
    drawn, steps, began = 0, 0, time.process_time()
    while (spent := time.process_time() - began) < seconds:
        factor = max(racer.rate(spent / seconds), 1e-3)
        for group, rate in zip(racer.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        images = batch(slices, next(draws), racer.transform)
        step(racer, images)
        drawn, steps = drawn + len(images), steps + 1
    racer.engine.fire_event(Events.EPOCH_COMPLETED)
    return {"steps": steps, "cpu_seconds": spent, "slices_per_second": drawn / spent}


def step(racer: Racer, images: torch.Tensor) -> None:
    """One step of the optimiser on a batch (B, 1, W, H)."""
    racer.optimizer.zero_grad()
    racer.loss(racer.inferer(images, racer.network), images).backward()
    racer.optimizer.step()
    racer.engine.state.iteration += 1
    racer.engine.fire_event(Events.ITERATION_COMPLETED)


def batch(slices: Slices, rows: torch.Tensor, transform: Compose | None) -> torch.Tensor:
    """The images of a batch (B, 1, W, H), each transformed if there is a transform."""
    if transform is None:
        return slices.images[rows]
    items = [{"image": slices.images[row], "mask": slices.masks[row]} for row in rows]
    return torch.stack([torch.as_tensor(transform(item)["image"]) for item in items])


def draw(slices: int, batch_size: int) -> Iterator[torch.Tensor]:
    """Batches of indices without end: shuffled again each epoch, what is left over is dropped."""
    while True:
        whole = torch.randperm(slices).split(batch_size)
        yield from whole[: max(1, slices // batch_size)]


@torch.no_grad()
def score(network: Any, slices: Slices) -> dict[str, float]:
    """Scores of a network's reconstructions, codes in use, and its size.

    Args:
        network: is left in evaluation mode.
        slices: of participants that it was not trained on.
    """
    network.eval()
    codes, predictions = [], []
    for images in slices.images.split(16):
        codes.append(network.index_quantize(images))
        predictions.append(network.decode_samples(codes[-1]).float())
    return fidelity(torch.cat(predictions), slices) | {
        "codes_used": len(torch.cat(codes).unique()),
        "parameters": parameters(network),
    }


def parameters(network: Any) -> int:
    """What a network's size is compared by: its weights, and its codebook wherever it is kept."""
    codebooks = [b for name, b in network.named_buffers() if name.endswith("codebook")]
    return sum(t.numel() for t in [*network.parameters(), *codebooks])


def fidelity(predictions: torch.Tensor, slices: Slices) -> dict[str, float]:
    """Each score's mean over a participant's slices, then over participants.

    Args:
        predictions: (N, 1, W, H), clipped to [0, 1] by the metrics.
        slices: the originals.

    Returns:
        SSIM and PSNR (dB), each inside the brain and of the whole image.
    """
    values: dict[str, list[float]] = {name: [] for name in SCORES}
    parts = zip(*(t.split(64) for t in (predictions, slices.images, slices.masks)), strict=True)
    for prediction, image, mask in parts:
        everywhere = torch.ones_like(mask)
        found = (
            metrics.ssim_brain(prediction, image, mask),
            metrics.ssim_whole(prediction, image),
            metrics.psnr_brain(prediction, image, mask),
            metrics.psnr_brain(prediction, image, everywhere),
        )
        for name, part in zip(SCORES, found, strict=True):
            values[name] += part.tolist()
    return {n: metrics.over_participants(v, slices.participants).mean for n, v in values.items()}


def trivial(training: Slices, held_out: Slices, factor: int) -> dict[str, dict[str, float]]:
    """The scores of the predictors that need no network.

    Args:
        training: what they may know.
        held_out: what they predict.
        factor: pixels along each side of a code, for pooling.
    """
    known, wanted = training.images[:, 0].numpy(), held_out.images[:, 0].numpy()
    predictions = {
        "black": metrics.black(wanted),
        "position_mean": metrics.position_mean(held_out.index, known, training.index),
        "nearest": known[metrics.nearest(wanted, known)[0]],
        "pooling": metrics.pooling(wanted, factor),
    }
    return {n: fidelity(torch.from_numpy(p)[:, None], held_out) for n, p in predictions.items()}
