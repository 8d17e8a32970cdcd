"""Race the shipped bundle against the bare loop: slices per second in CPU time, one thread.

    python benchmarks/bundle.py --run RUN --json figures.json

Both train the same network on the same slices in batches of the same size, by the same loss,
optimiser and precision, alternately. The bare loop is that of `vqvae.py`: slices in memory, nothing
around a step. The bundle is run as `vqbrain train vqvae` runs it; all that its trainer does counts
(data loader, handlers, TensorBoard, bar, checkpoint, tables), but for the epochs' validation, whose
seconds are listed separately. The first 2,048 slices, which are all slices of the protocol's
participants, are in its cache before the clock runs.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
from race import Slices, load, train
from racers import ours, train_config
from standings import aligned, command_line, keep, machine

from monai_vqbrain.engines import VQVAEEvaluator, VQVAETrainer
from monai_vqbrain.runs.bundles import run_bundle
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.phantom import slice_phantom

MUST, AIM = 0.9, 1.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Take turns, print the table."""
    args = parse(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder) / "run")
        run.path.mkdir()
        if args.run is None:
            slice_phantom(run)
        else:
            run.slices.symlink_to(RunFolder(args.run).slices.resolve())
        laps = race(run, args.rounds, args.cpu_seconds / (2 * args.rounds))
    found = figures(laps) | {"machine": machine(), "threads": 1, "rounds": args.rounds}
    print(table(found))
    keep(found, args.json)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = command_line(__doc__ or "")
    add = parser.add_argument
    add("--run", type=Path, help="a prepared run, left as it is; by default the simulated cohort")
    add("--cpu-seconds", type=float, default=300, help="of all laps together, validation apart")
    add("--rounds", type=int, default=5, help="laps of each")
    args = parser.parse_args(arguments)
    if not args.cpu_seconds > 0 or args.rounds < 1:
        parser.error("--cpu-seconds must be above 0, and --rounds 1 or more")
    return args


def race(run: RunFolder, rounds: int, seconds: float) -> list[dict[str, float]]:
    """Laps of this many CPU-seconds, each of the bare loop and then of the bundle.

    Returns:
        For each round slices per second of both, and ms per batch and slice of parts of the bundle.
    """
    slices = load(run.path, "training")
    bare_lap(slices, seconds)  # warms up
    laps = []
    for number in range(1, rounds + 1):
        bare = bare_lap(slices, seconds)
        laps.append({"bare": bare} | bundle_lap(run, round(bare * seconds)))
        print(f"round {number}: {laps[-1]['bundle'] / bare:.3f}", flush=True)
    return laps


def bare_lap(slices: Slices, seconds: float) -> float:
    """Slices per second of the loop with slices in memory."""
    return train(ours({}), slices, seconds)["slices_per_second"]


def bundle_lap(run: RunFolder, count: int) -> dict[str, float]:
    """Slices per second of a bundle's training of one epoch, and what some of its parts take."""
    ids = {"run_dir": str(run.path), "device": "cpu", "minutes": None, "max_epochs": 1}
    silent = io.StringIO()
    with (
        cpu_time(VQVAETrainer, "run") as trained,
        cpu_time(VQVAEEvaluator, "run") as validated,
        redirect_stdout(silent),
        redirect_stderr(silent),
    ):
        run_bundle("vqvae", "train", ids, {"slices_per_epoch": count})
    return {
        "bundle": count / (sum(trained) - sum(validated)),
        "reading_ms": 1000 * reading_seconds(run, count),
        "validation_seconds": sum(validated),
    }


def reading_seconds(run: RunFolder, count: int) -> float:
    """CPU-seconds per batch that the bundle's data loader needs for this many slices."""
    parser = train_config()
    parser.update({"run_dir": str(run.path), "slices_per_epoch": count})
    loader = parser.get_parsed_content("train#dataloader")
    began = time.process_time()
    batches = sum(1 for _ in loader)
    return (time.process_time() - began) / batches


@contextmanager
def cpu_time(owner: type, method: str) -> Iterator[list[float]]:
    """Measure each call of a method: CPU-seconds of this process, its threads included."""
    original: Callable[..., Any] = getattr(owner, method)
    seconds: list[float] = []

    def timed(*args: Any, **kwargs: Any) -> Any:
        began = time.process_time()
        result = original(*args, **kwargs)
        seconds.append(time.process_time() - began)
        return result

    with patch.object(owner, method, timed):
        yield seconds


def figures(laps: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """The figures by plain names: medians over rounds."""
    batch = train_config().get_parsed_content("batch_size")
    ratios = [lap["bundle"] / lap["bare"] for lap in laps]
    middle = {name: median(lap[name] for lap in laps) for name in laps[0]}
    return {
        "bundle_over_bare": median(ratios),
        "bundle_over_bare_low": min(ratios),
        "bundle_over_bare_high": max(ratios),
        "bundle_slices_per_second": middle["bundle"],
        "bare_slices_per_second": middle["bare"],
        "bundle_step_ms": 1000 * batch / middle["bundle"],
        "bare_step_ms": 1000 * batch / middle["bare"],
        "reading_ms": middle["reading_ms"],
        "validation_seconds": middle["validation_seconds"],
        "batch_size": batch,
    }


def table(found: Mapping[str, Any]) -> str:
    """The figures as text to print."""
    rest = found["bundle_step_ms"] - found["bare_step_ms"] - found["reading_ms"]
    ratio = found["bundle_over_bare"]
    between = f"{found['bundle_over_bare_low']:.3f}-{found['bundle_over_bare_high']:.3f}"
    rows = [
        [f"batch {found['batch_size']}", "slices/s", "ms/step", "ratio", "range", "must", "aim"],
        ["bare loop", f"{found['bare_slices_per_second']:.1f}", f"{found['bare_step_ms']:.2f}"],
        [
            "bundle", f"{found['bundle_slices_per_second']:.1f}", f"{found['bundle_step_ms']:.2f}",
            f"{ratio:.3f}", between, f"{MUST}", f"{AIM}",
        ],
        ["  reading slices", "", f"{found['reading_ms']:.2f}"],
        ["  all else", "", f"{rest:.2f}"],
    ]  # fmt: skip
    whole = [row + [""] * (len(rows[0]) - len(row)) for row in rows]
    validation = f"validation, not counted: {found['validation_seconds']:.2f} CPU-s an epoch"
    return f"\n{aligned(whole)}\n{validation}\n{found['machine']}"


if __name__ == "__main__":
    main()
