"""The stages of a tiny run for the fault study, run in children that may be killed, and compared.

A child is forked from a process that has imported everything already, so that it starts at once. It
announces every change of a name on disk (a rename, a removal, a flush), before and after it, which
are the moments at which a kill can do most harm.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from monai_vqbrain.cohorts import make_phantom
from monai_vqbrain.contents import content_sha256
from monai_vqbrain.files import partial
from monai_vqbrain.provenance import damage
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.splits import read_splits
from monai_vqbrain.stages.encode import encode
from monai_vqbrain.stages.evaluate import evaluate
from monai_vqbrain.stages.prepare import prepare_slices
from monai_vqbrain.stages.report import report
from monai_vqbrain.stages.sample import SampleOptions, draw_samples
from monai_vqbrain.stages.slicing.options import PrepareOptions
from monai_vqbrain.stages.train import TrainOptions, train

RENAMES = ("replace", "rename")
CALLS = (*RENAMES, "fsync", "unlink", "rmdir", "mkdir")  # functions of `os` that are moments
UNCOMPARED = ("provenance.json", "log.txt", "checkpoint.pt", "report.html")  # times are in them
PARTICIPANTS, ALIGNED = 9, 3
SLICES: dict[str, Any] = {"size": (32, 32), "spacing": 6.0, "count": 4, "align": "none"}
VQVAE = {
    "slices_per_epoch": 32, "batch_size": 8, "network_def#width": 8, "network_def#num_codes": 16,
    "network_def#blocks": [1, 1],
}  # fmt: skip
PRIOR = {"slices_per_epoch": 32, "network_def#channels": 8, "network_def#layers": 1}
SIZES = {"vqvae": VQVAE, "prior": PRIOR}


@dataclass(frozen=True)
class Stage:
    """One command on a run.

    Args:
        name: its name in the study.
        before: the stage whose finished run it begins with; empty for no run.
        folder: the folder of the run that it makes.
        run: the command, from source and run folder.
        weight: its share of the kills.
    """

    name: str
    before: str
    folder: str
    run: Callable[[Path, Path], Any]
    weight: float


def _prepare(**changes: Any) -> Callable[[Path, Path], Any]:
    return lambda source, run: prepare_slices(source, run, PrepareOptions(**(SLICES | changes)))


def _train(network: str, seed: int = 0) -> Callable[[Path, Path], Any]:
    def command(_: Path, run: Path) -> None:
        folder = RunFolder(run).vqvae if network == "vqvae" else RunFolder(run).prior
        resume = (partial(folder) / "checkpoint.pt").is_file()
        train(run, network, TrainOptions(None, 2, resume, "cpu", seed, overrides=SIZES[network]))

    return command


def _sample(seed: int = 0) -> Callable[[Path, Path], Any]:
    return lambda _, run: draw_samples(run, SampleOptions(number=5, seed=seed), "cpu")


LAST = tuple(f"sub-phantom{number:02d}" for number in range(ALIGNED + 1, PARTICIPANTS + 1))
STAGES = (
    Stage("prepare", "", "2-slices", _prepare(), 4),
    Stage("train vqvae", "prepare", "3-vqvae", _train("vqvae"), 4),
    Stage("encode", "train vqvae", "4-codes", lambda _, run: encode(run, device="cpu"), 3),
    Stage("train prior", "encode", "5-prior", _train("prior"), 4),
    Stage("sample", "train prior", "6-samples/default", _sample(), 3),
    Stage("evaluate", "sample", "7-report", lambda _, run: evaluate(run, device="cpu"), 0.5),
    Stage("report", "evaluate", "7-report", lambda _, run: report(run), 2),
    Stage("prepare other slices", "evaluate", "2-slices", _prepare(count=3), 3),
    Stage("prepare other splits", "evaluate", "2-slices", _prepare(seed=1), 3),
    Stage("prepare in 2 processes", "", "2-slices", _prepare(jobs=2), 0.5),
    Stage("prepare aligned", "", "2-slices", _prepare(align="affine", exclude=LAST), 0.5),
    Stage("train vqvae again", "evaluate", "3-vqvae", _train("vqvae", 1), 3),
    Stage(
        "encode again", "train vqvae again", "4-codes", lambda _, run: encode(run, device="cpu"), 2
    ),
    Stage("train prior again", "evaluate", "5-prior", _train("prior", 1), 3),
    Stage("sample again", "evaluate", "6-samples/default", _sample(1), 3),
    Stage(
        "evaluate again",
        "sample again",
        "7-report",
        lambda _, run: evaluate(run, device="cpu"),
        0.5,
    ),
)


@dataclass
class Ending:
    """How a child ended.

    Args:
        killed: by SIGKILL.
        answer: what it returned; None if it did not.
        error: its traceback; empty if it returned.
        moments: the names of the calls that it announced, each twice.
        seconds: its duration.
    """

    killed: bool = False
    answer: Any = None
    error: str = ""
    moments: list[str] = field(default_factory=list)
    seconds: float = 0.0


def in_child(
    action: Callable[[], Any],
    log: Path,
    moment: int | None = None,
    after: float | None = None,
) -> Ending:
    """Run a function in a forked child.

    Args:
        action: the function; its result goes through JSON.
        log: a file for what it prints.
        moment: kill the child at this moment, counted from 0.
        after: kill it after this many seconds.
    """
    began = time.monotonic()
    answer, pipe = os.pipe()
    process = os.fork()
    if not process:
        os.close(answer)
        _be_child(action, log, pipe, moment)
    os.close(pipe)
    if after is not None:
        time.sleep(after)
        os.kill(process, signal.SIGKILL)
    with os.fdopen(answer, "rb") as file:
        told = file.read()
    status = os.waitpid(process, 0)[1]
    ending = Ending(**json.loads(told)) if told else Ending(error="it said nothing")
    ending.killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    ending.seconds = time.monotonic() - began
    return ending


def _be_child(action: Callable[[], Any], log: Path, pipe: int, moment: int | None) -> None:
    """Run the function, tell its end through the pipe, and end the process."""
    told = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(told, 1)
    os.dup2(told, 2)
    torch.set_num_threads(1)
    moments: list[str] = []
    _announce(moments, moment)
    answer, error = None, ""
    try:
        answer = action()
    except BaseException:  # noqa: BLE001  (told to the parent)
        error = traceback.format_exc()
        print(error, file=sys.stderr, flush=True)
    record = {"answer": answer, "error": error, "moments": moments}
    with os.fdopen(pipe, "wb") as file:
        file.write(json.dumps(record, default=str).encode())
    os._exit(0)


def _announce(moments: list[str], last: int | None) -> None:
    """Note the moments of this process; it is killed at the last."""
    here = os.getpid()

    def happen(name: str) -> None:
        if os.getpid() == here:
            moments.append(name)
            if len(moments) - 1 == last:
                os.kill(here, signal.SIGKILL)

    def watched(name: str) -> Callable[..., Any]:
        original = getattr(os, name)

        def call(*args: Any, **options: Any) -> Any:
            happen(name)
            result = original(*args, **options)
            happen(name)
            return result

        return call

    for name in CALLS:
        setattr(os, name, watched(name))


class Finished:
    """The runs that undisturbed stages leave, made when they are first asked for.

    Args:
        work: where they go.
    """

    def __init__(self, work: Path) -> None:
        self.work = work
        self.log = work / "log.txt"
        self.source = work / "source"
        self.run = work / "run"  # always this path: commands and settings may record it
        self._ending: dict[str, Ending] = {}
        self._content: dict[str, dict[str, str]] = {}

    def make_source(self) -> None:
        """Make the cohort that all runs are made of."""
        done = in_child(
            lambda: str(
                make_phantom(self.source, PARTICIPANTS, resolution_mm=6, second_sessions=0)
            ),
            self.log,
        )
        _must_succeed(done, "the cohort")

    def of(self, name: str) -> Path:
        """The run after a stage; empty for no stage."""
        folder = self.work / "finished" / (name or "nothing").replace(" ", "-")
        if not name:
            folder.mkdir(parents=True, exist_ok=True)
        elif not folder.is_dir():
            stage = next(stage for stage in STAGES if stage.name == name)
            self.start(stage.before)
            self._ending[name] = self.command(stage)
            _must_succeed(self._ending[name], name)
            self.run.rename(folder)
        return folder

    def start(self, name: str) -> None:
        """Put a copy of the run after a stage in the place of the run."""
        finished = self.of(name)
        shutil.rmtree(self.run, ignore_errors=True)
        shutil.copytree(finished, self.run)

    def command(
        self, stage: Stage, moment: int | None = None, after: float | None = None
    ) -> Ending:
        """Run a stage on the run."""
        return in_child(lambda: stage.run(self.source, self.run) and None, self.log, moment, after)

    def ending(self, name: str) -> Ending:
        """How an undisturbed stage ended."""
        self.of(name)
        return self._ending[name]

    def content(self, name: str) -> dict[str, str]:
        """The content of the run after a stage."""
        if name not in self._content:
            self._content[name] = content_of(self.of(name))
        return self._content[name]


def _must_succeed(ending: Ending, what: str) -> None:
    if ending.error or ending.killed:
        raise RuntimeError(f"{what} failed undisturbed:\n{ending.error}")


def content_of(run: Path) -> dict[str, str]:
    """Path -> hash of the content of every file of a run; durations and dates are left out.

    Empty and hidden folders count, too: nothing may be left of what was interrupted.
    """
    found = {}
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run).as_posix()
        if path.is_dir():
            found[name] = "folder"
        elif not _is_uncompared(path.name):
            found[name] = _hash(path)
    return found


def _is_uncompared(name: str) -> bool:
    return name in UNCOMPARED or name.endswith(".lock") or name.startswith("events.out.tfevents.")


def _hash(path: Path) -> str:
    if path.name == "metrics.tsv":
        table = pd.read_csv(path, sep="\t", dtype=str)
        return table.drop(columns="seconds").to_csv(sep="\t", index=False)
    return content_sha256(path)


def differences(found: dict[str, str], wanted: dict[str, str]) -> list[str]:
    """The names of files that differ or lack in one of two runs."""
    return sorted(name for name in found.keys() | wanted.keys()
                  if found.get(name) != wanted.get(name))  # fmt: skip


def splits_of(run: Path) -> dict[str, str]:
    """Participant -> split, by all tables of a run that report it."""
    folder = RunFolder(run)
    splits = {}
    for path in (folder.slices / "participants.tsv", folder.slices / "slices.tsv"):
        splits |= {f"{path.name} {name}": split for name, split in read_splits(path).items()}
    if folder.splits.is_file():
        table = pd.read_csv(folder.splits, sep="\t", dtype=str)
        splits |= {f"{row.participant_id} {row.seed}": row.split for row in table.itertuples()}
    return splits


def moved(before: dict[str, str], after: dict[str, str]) -> int:
    """The number of participants whose split is another one than before."""
    return sum(after.get(name, split) != split for name, split in before.items())


def damaged_stages(run: Path, names: Sequence[str]) -> list[str]:
    """Those finished stages of a run that are not as they were made."""
    return [f"{name}: {wrong}" for name in names if (wrong := damage(run / name)) is not None]


def finished_stages(run: Path) -> list[str]:
    """The folders of a run with finished stages."""
    return sorted(p.parent.relative_to(run).as_posix() for p in run.rglob("provenance.json"))
