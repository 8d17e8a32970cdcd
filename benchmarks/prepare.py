"""What it costs to prepare a volume: CPU-seconds and memory; and how well it is aligned.

    python benchmarks/prepare.py --data ds002748 --also ixi-hh --json figures.json

A lap loads a volume with nibabel (decompressed, as stored), prepares it as the command does (read,
cut, scaled, stack, mask and table row written and renamed; the pictures of qc/ apart), and sends
it through MONAI's whole-volume chain for the same slices: LoadImaged, EnsureChannelFirstd,
Orientationd, Spacingd, ScaleIntensityRangePercentilesd, ResizeWithPadOrCropd. All in one process
after the imports, on one thread. Time and peak memory of whole runs are those of new processes.

Alignment is that of `prepare --align affine`, of as many volumes from each of the two cohorts,
beside a careful setting: down to 1 mm instead of 2, all points, and until nothing is gained any
more. Both are judged by the correlation of the volume as it is with the template, within the
template's brain.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import nibabel as nib
import numpy as np
import torch
from bundle import cpu_time
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    LoadImaged,
    Orientationd,
    ResizeWithPadOrCropd,
    ScaleIntensityRangePercentilesd,
    Spacingd,
)
from quantizer import resident
from standings import aligned, command_line, keep, machine, short

from monai_vqbrain.cohorts import Scan, read_cohort
from monai_vqbrain.stages import prepare as stage
from monai_vqbrain.stages.slicing import plan
from monai_vqbrain.stages.slicing.brain import find_brain
from monai_vqbrain.stages.slicing.volume import read_volume
from monai_vqbrain.transforms import LoadSliced
from monai_vqbrain.transforms.registration import (
    STEPS,
    Step,
    correlation,
    register,
)

COUNTS = (12, 48)  # volumes of the whole runs
CAREFUL = tuple(
    Step(mm, kind, factor=1e7, iterations=200)
    for mm, kind in ((4.0, "rigid"), (4.0, "affine"), (2.0, "affine"), (1.0, "affine"))
)
SLICES = (16, 160)  # of two stacks, a slice of which is read
GOALS = (  # figure, words, must, whether less is better
    ("cpu_over_load", "preparing a volume, to loading it", 3.0, True),
    ("speedup_monai", "MONAI's whole-volume chain, to ours", 2.0, False),
    ("memory_growth", "peak memory, 48 volumes to 12", 1.1, True),
    ("slice_growth", "reading a slice, of 160 to of 16", 1.2, True),
    ("align_cpu_seconds", "aligning a volume, CPU-seconds", 5.0, True),
    ("align_ncc_loss", "correlation lost to careful alignment", 0.01, True),
    ("align_ncc_loss_most", "the same, the worst volume", 0.03, True),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table."""
    args = parse(arguments)
    torch.set_num_threads(1)
    if args.alone:
        prepare(args.data, args.alone)
        print(f"{time.process_time():.2f} {resident('VmHWM'):.1f}")
        return
    found: dict[str, Any] = laps(args.data, args.volumes)
    for count in COUNTS:
        found |= whole_run(args.data, count)
    found["memory_growth"] = found[f"peak_mb_{COUNTS[1]}"] / found[f"peak_mb_{COUNTS[0]}"]
    found |= one_slice()
    found |= alignment([args.data, args.also], args.aligned)
    print(table(found))
    found |= {"machine": machine(), "volumes": args.volumes, "threads": 1}
    print(found["machine"])
    keep(found, args.json)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = command_line(__doc__ or "")
    add = parser.add_argument
    add("--data", type=Path, required=True, help="ds002748, or another skull-stripped BIDS dataset")
    add("--also", type=Path, required=True, help="ixi-hh, or another one, to be aligned too")
    add("--aligned", type=int, default=6, help="volumes of each cohort that are aligned")
    add("--volumes", type=int, default=12, help="laps, each with another volume")
    add("--alone", type=int, default=0, help="only prepare this many, and say seconds and peak MB")
    args = parser.parse_args(arguments)
    if args.volumes < 1 or args.aligned < 1 or args.alone < 0:
        parser.error("--volumes and --aligned must be 1 or more")
    return args


def laps(data: Path, volumes: int) -> dict[str, float]:
    """CPU-seconds of loading, of preparing and of MONAI's chain; medians over volumes."""
    paths = [scan.path for scan in read_cohort(data).scans[: volumes + 1]]
    chain = monai_chain()
    prepare(data, 3)  # warms up
    chain({"image": paths[0]})
    whole = seconds(lambda: prepare(data, volumes))
    loads, theirs = [], []
    for path in paths[:volumes]:
        loads.append(seconds(lambda path=path: nib.load(path).dataobj.get_unscaled()))
        theirs.append(seconds(lambda path=path: chain({"image": path})))
    ours = whole / min(volumes, len(paths))
    return {
        "load_cpu_seconds": median(loads),
        "prepare_cpu_seconds": ours,
        "monai_cpu_seconds": median(theirs),
        "cpu_over_load": ours / float(np.mean(loads)),
        "speedup_monai": float(np.mean(theirs)) / ours,
    }


def prepare(data: Path, volumes: int) -> None:
    """Prepare the first volumes of a cohort into a folder that is thrown away."""
    with tempfile.TemporaryDirectory() as folder, only(volumes):
        stage.prepare(data, Path(folder) / "run")


@contextmanager
def only(volumes: int) -> Iterator[None]:
    """Cohorts have this many volumes at most."""
    whole = plan.read_cohort

    def some(*args: Any) -> Any:
        cohort = whole(*args)
        return replace(cohort, scans=cohort.scans[:volumes])

    plan.read_cohort = some
    try:
        yield
    finally:
        plan.read_cohort = whole


def seconds(work: Callable[[], Any]) -> float:
    """CPU-seconds, those spent on the pictures of qc/ left out."""
    with ExitStack() as stack:
        pictures = [stack.enter_context(cpu_time(stage, name))
                    for name in ("write_montage", "write_qc")]  # fmt: skip
        began = time.process_time()
        work()
        return time.process_time() - began - sum(sum(times) for times in pictures)


def monai_chain() -> Compose:
    """The same slices by MONAI's own transforms, each over the whole volume."""
    return Compose([
        LoadImaged("image"),
        EnsureChannelFirstd("image"),
        Orientationd("image", "RAS"),
        Spacingd("image", (1.8, 1.8, 3.6)),
        ScaleIntensityRangePercentilesd("image", 0, 99.5, 0, 1, clip=True),
        ResizeWithPadOrCropd("image", (128, 128, 16)),
    ])  # fmt: skip


def whole_run(data: Path, count: int) -> dict[str, float]:
    """CPU-seconds and peak memory of a new process that prepares this many volumes."""
    command = [sys.executable, __file__, "--data", str(data), "--also", str(data)]
    command += ["--alone", str(count)]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    spent, peak = map(float, run.stdout.split()[-2:])
    return {f"run_cpu_seconds_{count}": spent, f"peak_mb_{count}": peak}


def one_slice() -> dict[str, float]:
    """CPU-milliseconds to read one slice of a short and of a long stack, as training does."""
    spent = []
    with tempfile.TemporaryDirectory() as folder:
        for count in SLICES:
            path = str(Path(folder) / f"{count}.nii")
            values = np.random.default_rng(0).integers(0, 255, (128, 128, count), dtype=np.uint8)
            nib.save(nib.Nifti1Image(values, np.eye(4)), path)
            items = [{"image": path, "label": path, "index": i % count} for i in range(1600)]
            load = LoadSliced()
            load(items[0])
            spent.append(
                1000 / len(items) * seconds(lambda load=load, items=items: [*map(load, items)])
            )
    return {
        **{f"slice_ms_of_{count}": ms for count, ms in zip(SLICES, spent, strict=True)},
        "slice_growth": spent[1] / spent[0],
    }


def alignment(cohorts: Sequence[Path], volumes: int) -> dict[str, float]:
    """CPU-seconds of aligning a volume in memory, and the correlation that care would add."""
    spent: dict[str, list[float]] = {"fast": [], "careful": []}
    worth: dict[str, list[float]] = {"fast": [], "careful": []}
    for scan in [scan for cohort in cohorts for scan in evenly(read_cohort(cohort).scans, volumes)]:
        volume, brain, _ = find_brain(read_volume(scan.path), scan.mask_path)
        for way, steps in (("fast", STEPS["affine"]), ("careful", CAREFUL)):
            if not spent[way]:  # the template is loaded once
                register(volume.array, volume.affine, brain, steps=steps)
            began = time.process_time()
            found = register(volume.array, volume.affine, brain, steps=steps)
            spent[way].append(time.process_time() - began)
            worth[way].append(correlation(volume.array, volume.affine, found.matrix))
    losses = [slow - fast for fast, slow in zip(worth["fast"], worth["careful"], strict=True)]
    return {
        "align_cpu_seconds": median(spent["fast"]),
        "align_cpu_seconds_most": max(spent["fast"]),
        "careful_cpu_seconds": median(spent["careful"]),
        "align_ncc": median(worth["fast"]),
        "careful_ncc": median(worth["careful"]),
        "align_ncc_loss": median(losses),
        "align_ncc_loss_most": max(losses),
    }


def evenly(scans: Sequence[Scan], count: int) -> list[Scan]:
    """This many scans, spread over all."""
    return [scans[round(i)] for i in np.linspace(0, len(scans) - 1, count)]


def table(found: Mapping[str, float]) -> str:
    """What one volume costs, what runs cost, and what was to be reached."""
    one = [["one volume", "CPU-seconds"]]
    one += [[n, f"{found[f'{n}_cpu_seconds']:.3f}"] for n in ("load", "prepare", "monai")]
    runs = [["volumes", "CPU-seconds with imports", "peak MB"]]
    for count in COUNTS:
        spent, peak = found[f"run_cpu_seconds_{count}"], found[f"peak_mb_{count}"]
        runs.append([str(count), f"{spent:.1f}", f"{peak:.0f}"])
    ways = [["one affine alignment", "CPU-seconds", "most", "correlation"]]
    ways.append([
        "as prepare does", short(found["align_cpu_seconds"]),
        short(found["align_cpu_seconds_most"]), f"{found['align_ncc']:.4f}",
    ])  # fmt: skip
    ways.append(["careful", short(found["careful_cpu_seconds"]), "", f"{found['careful_ncc']:.4f}"])
    goals = [["", "found", "must", ""]]
    for name, words, must, less in GOALS:
        met = found[name] <= must if less else found[name] >= must
        goals.append([words, short(found[name]), short(must), "met" if met else "missed"])
    return "".join(f"\n{aligned(rows)}\n" for rows in (one, runs, ways, goals))


if __name__ == "__main__":
    main()
