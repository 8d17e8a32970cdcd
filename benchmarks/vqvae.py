"""Race our VQ-VAE against MONAI's: equal bits, equal slices, equal CPU-seconds, one thread.

    python benchmarks/vqvae.py --data ds002748 --work race --jobs 2 --json figures.json

The protocol is in docs/benchmarks.md. Every (race, racer, budget, seed) is a job in a process of
its own; a finished one is kept in the work folder, so that the same command continues where it
stopped.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from itertools import zip_longest
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import race
import standings
import torch
from race import Slices, load, score, train, trivial
from racers import MONAI, build, fingerprint, settings_of
from standings import BUDGETS, LONGEST, RACES, SHORT

from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.files import writing
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.stages.prepare import prepare

PARTS = (*RACES, "budgets")
CONTEXT = multiprocessing.get_context("fork")  # to import MONAI again takes longer than to score

Data = dict[Path, tuple[Slices, Slices]]  # run folder -> slices to train on, slices to score


@dataclass(frozen=True)
class Job:
    """One run; `budget` is the CPU-seconds of a race that is not shortened."""

    race: str
    racer: str
    budget: int
    seed: int


@dataclass(frozen=True)
class Task:
    """A job with all that it needs.

    Args:
        job: which.
        run: the folder with its slices.
        seconds: CPU-seconds.
        path: of its result.
        mark: a hash of what its result rests on.
    """

    job: Job
    run: Path
    seconds: float
    path: Path
    mark: str

    def result(self) -> dict[str, Any] | None:
        """What it found, if it is done and rests on what is there now."""
        found = json.loads(self.path.read_text()) if self.path.is_file() else {}
        return found if found.get("mark") == self.mark else None


def main(arguments: Sequence[str] | None = None) -> None:
    """Prepare, race, print the standings."""
    args = parse(arguments)
    torch.set_num_threads(1)
    jobs = plan(args.races, args.racers, args.seeds)
    runs = {name: slices_of(name, args) for name in dict.fromkeys(job.race for job in jobs)}
    data = {run: (load(run, "training"), load(run, args.split)) for run in {*runs.values()}}
    for run, (training, held_out) in data.items():
        print(race.described(run, training, held_out), flush=True)
    for name, racer in dict.fromkeys((job.race, job.racer) for job in jobs):
        build(racer, name, seed=0)  # what cannot be built fails now, not after hours
    tasks = [task_of(job, runs[job.race], args) for job in jobs]
    run_all(tasks, data, args.jobs)
    results = collected(tasks)
    bars = {name: trivial(*data[run], RACES[name].factor) for name, run in runs.items()}
    found = standings.figures(results, bars) | {
        "machine": standings.machine(),
        "threads": 1,
        "seeds": args.seeds,
        "split": args.split,
        "cpu_seconds": args.cpu_seconds,
    }
    print(standings.table(results, bars, found))
    if args.cpu_seconds != LONGEST:
        print(f"shortened: {LONGEST} CPU-s stand for {args.cpu_seconds:g}; goals are not for these")
    standings.keep(found, args.json)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = standings.command_line(__doc__ or "")
    add = parser.add_argument
    add("--data", type=Path, help="ds002748, to prepare slices from")
    add("--run", type=Path, help="instead: a run with 128x128 slices")
    add("--run-256", type=Path, help="instead: a run with 256x256 slices")
    add("--work", type=Path, default=Path("vqvae-race"), help="where results of jobs are kept")
    add("--races", nargs="+", choices=PARTS, default=list(PARTS), metavar="RACE")
    racers = ["ours", "further", *MONAI]
    add("--racers", nargs="+", choices=racers, default=["ours", "tuned", "further"], metavar="NAME")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="SEED")
    add("--split", choices=["validation", "test"], default="test", help="the split to score")
    add("--cpu-seconds", type=float, default=LONGEST, help="of the longest budget; scales all")
    add("--jobs", type=int, default=1, help="side by side, each on a core of its own")
    args = parser.parse_args(arguments)
    if not args.cpu_seconds > 0 or not 1 <= args.jobs <= len(os.sched_getaffinity(0)):
        parser.error("--cpu-seconds must be above 0, and --jobs from 1 to the number of cores")
    for part in args.races:
        option = "run_256" if part == "256" else "run"
        if getattr(args, option) is None and args.data is None:
            option = option.replace("_", "-")
            parser.error(f"{part} needs slices: give --data DIR or --{option} RUN")
    return args


def plan(parts: Sequence[str], names: Sequence[str], seeds: Sequence[int]) -> list[Job]:
    """The jobs, seed by seed and race by race, ours and the baselines' in turn."""
    jobs: list[Job] = []
    for seed in seeds:
        for name in RACES:
            budgets = sorted(own_budgets(name, parts), reverse=True)
            ours = [Job(name, "ours", b, seed) for b in budgets if "ours" in names]
            peers = [Job(name, n, LONGEST, seed) for n in names if n != "ours" and budgets]
            jobs += [job for pair in zip_longest(ours, peers) for job in pair if job]
    return jobs


def own_budgets(name: str, parts: Sequence[str]) -> set[int]:
    """The budgets of our runs in a race; the baselines run the longest only."""
    if name != "128":
        return {LONGEST} if name in parts else set()
    return {*(BUDGETS if name in parts else ()), *(SHORT if "budgets" in parts else ())}


def slices_of(name: str, args: argparse.Namespace) -> Path:
    """The run folder with a race's slices, prepared now unless it was given."""
    size, spacing = RACES[name].size, RACES[name].spacing
    given: Path | None = args.run_256 if size == 256 else args.run
    if given is not None:
        return given
    run: Path = args.work / f"slices-{size}"
    prepare(args.data, run, size=(size, size), spacing=spacing)
    return run


def task_of(job: Job, run: Path, args: argparse.Namespace) -> Task:
    """Where a job's result is kept, and what it rests on: racer, loop and slices."""
    seconds = job.budget * args.cpu_seconds / LONGEST
    name = f"{job.race}-{job.racer}-{seconds:g}s-seed{job.seed}-{args.split}.json"
    rests_on = [
        f"{fingerprint(settings_of(job.racer))} {RACES[job.race]}".encode(),
        Path(race.__file__).read_bytes(),
        (RunFolder(run).slices / "provenance.json").read_bytes(),
    ]
    return Task(job, run, seconds, args.work / name, sha256(b"".join(rests_on)).hexdigest())


def run_all(tasks: Sequence[Task], data: Data, count: int) -> None:
    """Do what is not done yet, up to `count` tasks side by side.

    Raises:
        VQBrainError: if a job fails.
    """
    waiting = [task for task in tasks if task.result() is None]
    print(f"{len(tasks)} jobs, {len(tasks) - len(waiting)} of them done before", flush=True)
    whole, began = sum(task.seconds for task in waiting), time.monotonic()
    cores: list[int | None] = [None]  # nothing is pinned that runs alone
    if count > 1:
        cores = [*sorted(os.sched_getaffinity(0))[:count]]
    running: dict[Any, tuple[Any, Task, int | None]] = {}
    done = 0.0
    while waiting or running:
        while waiting and cores:
            task, core = waiting.pop(0), cores.pop()
            process = CONTEXT.Process(target=run_one, args=(task, data, core), daemon=True)
            process.start()
            running[process.sentinel] = process, task, core
        for sentinel in wait(list(running)):
            process, task, core = running.pop(sentinel)
            process.join()
            if task.result() is None:
                raise VQBrainError(f"{task.path.stem} stopped: see above; done jobs are kept")
            cores.append(core)
            done += task.seconds
            left = (time.monotonic() - began) * (whole - done) / done
            print(progress(task, left), flush=True)


def run_one(task: Task, data: Data, core: int | None) -> None:
    """Train and score one racer, in a process of its own, and keep the result."""
    if core is not None:
        os.sched_setaffinity(0, {core})
    torch.set_num_threads(1)
    race.keep_memory()
    training, held_out = data[task.run]
    racer = build(task.job.racer, task.job.race, task.job.seed)
    pace = train(racer, training, task.seconds)
    network = racer.network if racer.averaged is None else racer.averaged
    result = pace | score(network, held_out) | {"mark": task.mark}
    with writing(task.path) as path:
        path.write_text(json.dumps(result, indent=1) + "\n")


def collected(tasks: Sequence[Task]) -> dict[tuple[str, str, int], list[dict[str, Any]]]:
    """The results of each race, racer and budget, one for each seed, in the order of the tables."""
    found: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    for task in sorted(tasks, key=lambda t: (list(RACES).index(t.job.race), t.job.budget)):
        key = task.job.race, task.job.racer, task.job.budget
        found.setdefault(key, []).append(task.result() or {})
    return found


def progress(task: Task, left: float) -> str:
    """One line on a job that ended, and the time left for the others in seconds."""
    found = task.result() or {}
    return (
        f"{task.path.stem}: in-brain SSIM {found['ssim_brain']:.4f}, "
        f"{found['psnr_whole']:.2f} dB, {found['codes_used']} codes, {found['steps']} steps; "
        f"{timedelta(seconds=round(left))} left"
    )


if __name__ == "__main__":
    try:
        main()
    except VQBrainError as error:
        raise SystemExit(str(error)) from None
