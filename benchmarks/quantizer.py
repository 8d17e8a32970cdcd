"""Race our quantizer against MONAI's and vector-quantize-pytorch's: one training step, one thread.

    python benchmarks/quantizer.py --json figures.json

A step is forward, loss, backward to the encodings, and the codebook's moving averages, on
(32, D, 32, 32) encodings. All three do the same: decay 0.99, commitment weight 0.25, gradients
straight through. Ours also draws what it would replace dead codes by, as it always does; `rotation`
is ours with the rotation trick. They step alternately; figures are medians of CPU time.
Memory is the growth of the resident peak over the first two steps of a process of its own, in which
ours also initialises its codebook.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import torch
from standings import aligned, command_line, keep, machine

from monai_vqbrain.networks import CodebookQuantizer

Shape = tuple[int, int]  # K, D
Step = Callable[[], None]

SHAPES: tuple[Shape, ...] = ((512, 64), (4096, 8), (4096, 16), (4096, 64))
RACERS = ("ours", "rotation", "monai", "vqpytorch")
SPEED_GOALS = {  # baseline -> shape -> must, aim
    "monai": dict(zip(SHAPES, ((5, 6), (12, 18), (10, 16), (6, 8)), strict=True)),
    "vqpytorch": dict(zip(SHAPES, ((7, 8), (18, 28), (16, 26), (9, 11)), strict=True)),
}
MEMORY_GOALS = {512: (1 / 4, 1 / 4), 4096: (1 / 25, 1 / 35)}  # K -> must, aim
INSTALL = 'pip install -c constraints.txt -e ".[benchmark]"'


def main(arguments: Sequence[str] | None = None) -> None:
    """Race, weigh, print the table."""
    args = parse(arguments)
    torch.set_num_threads(1)
    if args.weigh:
        print(growth(args.weigh, args.shapes[0], args.batch))
        return
    racers = RACERS if find_spec("vector_quantize_pytorch") else RACERS[:-1]
    if racers != RACERS:
        print(f"without vector-quantize-pytorch, which is not installed: {INSTALL}")
    found: dict[str, Any] = {}
    for shape in args.shapes:
        found |= named("ms", race(racers, shape, args), shape)
        weighed = {name: weigh(name, shape, args.batch) for name in racers}
        found |= named("memory_mb", weighed, shape)
        print(progress(racers, shape, found), flush=True)
    found |= ratios(found, args.shapes)
    print(table(found, args.shapes))
    found |= {"machine": machine(), "threads": 1, "rounds": args.rounds, "batch": args.batch}
    print(found["machine"])
    keep(found, args.json)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = command_line(__doc__ or "")
    add = parser.add_argument
    add("--rounds", type=int, default=7, help="laps of each")
    add("--seconds", type=float, default=0.2, help="CPU-seconds of a lap, at least one step")
    add("--shapes", type=shape_of, nargs="+", default=list(SHAPES), metavar="KxD")
    add("--batch", type=int, default=32, help="images of 32x32 encodings in a step")
    add("--weigh", choices=RACERS, help="only print how many MB this one grows by at the shape")
    args = parser.parse_args(arguments)
    if args.rounds < 1 or args.batch < 1 or args.seconds < 0:
        parser.error("--rounds and --batch must be 1 or more, --seconds 0 or more")
    return args


def shape_of(text: str) -> Shape:
    """The K and D of "512x64"."""
    codes, _, dim = text.partition("x")
    return int(codes), int(dim)


def race(racers: Sequence[str], shape: Shape, args: argparse.Namespace) -> dict[str, float]:
    """Median ms per step of each racer; they alternate."""
    steps = {name: step_of(name, shape, args.batch) for name in racers}
    laps: dict[str, list[float]] = {name: [] for name in racers}
    for step in steps.values():
        step()  # warms up; ours initialises its codebook
    for _ in range(args.rounds):
        for name, step in steps.items():
            laps[name].append(lap(step, args.seconds))
    return {name: 1000 * median(times) for name, times in laps.items()}


def lap(step: Step, seconds: float) -> float:
    """CPU-seconds per step, over as many as fill the time."""
    began, count = time.process_time(), 0
    while count == 0 or time.process_time() - began < seconds:
        step()
        count += 1
    return (time.process_time() - began) / count


def step_of(name: str, shape: Shape, batch: int) -> Step:
    """A training step of a racer on encodings and a gradient that are drawn here once."""
    torch.manual_seed(0)
    encodings = torch.randn(batch, shape[1], 32, 32, requires_grad=True)
    gradient, one = torch.randn(batch, shape[1], 32, 32), torch.ones(())
    quantizer = build(name, shape)
    kept = slice(0, 3, 2) if name == "vqpytorch" else slice(2)  # quantised and loss

    def step() -> None:
        torch.autograd.grad(quantizer(encodings)[kept], encodings, [gradient, one])

    return step


def build(name: str, shape: Shape) -> torch.nn.Module:
    """A racer in training mode."""
    codes, dim = shape
    if name == "monai":
        from monai.networks.layers.vector_quantizer import EMAQuantizer

        return EMAQuantizer(2, codes, dim, commitment_cost=0.25, decay=0.99).train()
    if name == "vqpytorch":
        from vector_quantize_pytorch import VectorQuantize

        return VectorQuantize(
            dim, codes, decay=0.99, threshold_ema_dead_code=0, commitment_weight=0.25,
            rotation_trick=False, accept_image_fmap=True,
        ).train()  # fmt: skip
    rotation_trick = name == "rotation"
    return CodebookQuantizer(
        codes, dim, decay=0.99, commitment=0.25, rotation_trick=rotation_trick
    ).train()


def weigh(name: str, shape: Shape, batch: int) -> float | None:
    """The growth of a racer, measured in a new process; None where the system does not tell."""
    command = [sys.executable, __file__, "--weigh", name, "--batch", str(batch)]
    command += ["--shapes", f"{shape[0]}x{shape[1]}"]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(run.stdout.splitlines()[-1])


def growth(name: str, shape: Shape, batch: int) -> str:
    """MB by which two steps raise the peak of resident memory over what was resident before."""
    step = step_of(name, shape, batch)
    one = torch.ones((), requires_grad=True)
    torch.autograd.grad([one * one], one, [one])  # imports what autograd needs, the racers' or not
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins again
        before = resident("VmRSS")
    except OSError:
        return "null"
    step()
    step()
    return f"{resident('VmHWM') - before:.1f}"


def resident(field: str) -> float:
    """A field of this process's memory in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    values = [line.split()[1] for line in lines if line.startswith(f"{field}:")]
    return int(values[0]) / 1024


def named(what: str, values: Mapping[str, float | None], shape: Shape) -> dict[str, float | None]:
    """Values by racer under plain names."""
    return {f"{what}_{name}_{shape[0]}_{shape[1]}": value for name, value in values.items()}


def progress(racers: Sequence[str], shape: Shape, found: Mapping[str, Any]) -> str:
    """One line on a shape that is done: ms per step of each."""
    codes, dim = shape
    times = [f"{name} {short(found[f'ms_{name}_{codes}_{dim}'])}" for name in racers]
    return f"{codes}x{dim}, ms: {', '.join(times)}"


def ratios(found: Mapping[str, Any], shapes: Sequence[Shape]) -> dict[str, float]:
    """How many times faster ours is than each baseline, its relative memory, and with K."""
    more = {}
    for codes, dim in shapes:
        end = f"{codes}_{dim}"
        for peer in SPEED_GOALS:
            if f"ms_{peer}_{end}" not in found:
                continue
            for ours, prefix in (("ours", ""), ("rotation", "rotation_")):
                speedup = found[f"ms_{peer}_{end}"] / found[f"ms_{ours}_{end}"]
                more[f"{prefix}speedup_{peer}_{end}"] = speedup
            if found[f"memory_mb_{peer}_{end}"]:  # None where the system does not tell
                part = found[f"memory_mb_ours_{end}"] / found[f"memory_mb_{peer}_{end}"]
                more[f"memory_ratio_{peer}_{end}"] = part
    few, many = (found.get(f"memory_mb_ours_{codes}_64") for codes in (512, 4096))
    return more | ({"memory_ratio_many_codes": many / few} if few and many else {})


def table(found: Mapping[str, Any], shapes: Sequence[Shape]) -> str:
    """Times and memory of all, then the ratios beside what was to be reached."""
    rows = [["K, D", *(f"{name} {unit}" for unit in ("ms", "MB") for name in RACERS)]]
    goals = [["ours against", "K, D", "ratio", "rotation", "must", "aim", ""]]
    for codes, dim in shapes:
        end, said = f"{codes}_{dim}", f"{codes}, {dim}"
        keys = [f"{what}_{name}_{end}" for what in ("ms", "memory_mb") for name in RACERS]
        rows.append([said, *(short(found.get(key)) for key in keys)])
        for peer, goal in SPEED_GOALS.items():
            names = [f"{prefix}speedup_{peer}_{end}" for prefix in ("", "rotation_")]
            values = [found.get(name) for name in names]
            goals.append([f"{peer}, times as fast", said, *judged(values, goal.get((codes, dim)))])
        ratio = found.get(f"memory_ratio_monai_{end}")
        goals.append(["monai, memory", said, *judged([ratio, None], MEMORY_GOALS.get(codes), -1)])
    ratio = found.get("memory_ratio_many_codes")
    goals.append(["itself at K = 512, memory", "4096, 64", *judged([ratio, None], None)])
    return f"\n{aligned(rows)}\n\n{aligned(goals)}"


def judged(
    values: Sequence[float | None], goal: tuple[float, float] | None, sign: int = 1
) -> list[str]:
    """Cells of a goal's line: values, must, aim and the verdict on the first value."""
    value, (must, aim) = values[0], goal or (None, None)
    verdict = ""
    if value is not None and must is not None and aim is not None:
        reached = [sign * value >= sign * bound for bound in (must, aim)]
        verdict = "aim met" if reached[1] else "must met" if reached[0] else "missed"
    return [*map(short, (*values, must, aim)), verdict]


def short(value: float | None) -> str:
    """A number as text."""
    if value is None:
        return "-"
    return f"{value:.3f}" if value < 1 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


if __name__ == "__main__":
    main()
