"""Damaged and exchanged files of a finished run: each has to be noticed, by every command.

A later command has to refuse the run in one line; the damaged stage's own command makes it again,
as it was, or refuses too. Sizes and times of the last change stay as they were where they can.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from fault_stages import STAGES, Finished, Stage, content_of, differences, in_child

from monai_vqbrain.errors import UnexpectedError, VQBrainError

Spoil = Callable[[Path], None]
RUN = "evaluate"  # the stage after which the run is damaged
READERS = {  # the commands that read what a stage has made; `report` reads all
    "2-slices": ("train vqvae", "encode", "train prior", "sample", "evaluate", "report"),
    "3-vqvae": ("encode", "train prior", "sample", "evaluate", "report"),
    "4-codes": ("train prior", "sample", "evaluate", "report"),
    "5-prior": ("sample", "evaluate", "report"),
    "6-samples/default": ("evaluate", "report"),
    "7-report": ("report",),
    "1-volumes": (),
    "": (),
}
OWN = {
    "2-slices": "prepare", "3-vqvae": "train vqvae", "4-codes": "encode",
    "5-prior": "train prior", "6-samples/default": "sample", "7-report": "evaluate",
    "1-volumes": "prepare aligned", "": "prepare",
}  # fmt: skip
FILES = {
    "2-slices": ("datalist.json", "slices.tsv", "participants.tsv", "problems.tsv",
                 "splits.tsv", "qc/qc.tsv",
                 "stacks/*1_ses-01_axial_T1w.nii", "stacks/*2_ses-01_axial_desc-brain_mask.nii",
                 "stacks/*3_ses-01.json"),
    "3-vqvae": ("config.json", "model.pt", "metrics.tsv"),
    "4-codes": ("codes.safetensors", "codes.tsv"),
    "5-prior": ("config.json", "conditions.json", "model.pt", "metrics.tsv"),
    "6-samples/default": ("samples.tsv", "sample-0001.nii.gz"),
    "7-report": ("metrics.json", "fidelity.tsv"),
    "1-volumes": ("*_xfm.txt", "*.json"),
}  # fmt: skip


@dataclass(frozen=True)
class Artefact:
    """One damage.

    Args:
        name: what is damaged, and how.
        stage: the folder that it belongs to.
        spoil: damages a run.
    """

    name: str
    stage: str
    spoil: Spoil


@dataclass
class DamageFigures:
    """What happened: the number of artefacts, those accepted by a command, and raw errors."""

    artefacts: int = 0
    accepted: list[str] = field(default_factory=list)
    raw: list[str] = field(default_factory=list)


def put(path: Path, content: bytes) -> None:
    """Write a file in place, with its time of the last change as before."""
    status = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _found(folder: Path, pattern: str) -> Path:
    return min(folder.glob(pattern))


def _remove(path: Path) -> None:
    path.unlink()


def _truncate(path: Path) -> None:
    content = path.read_bytes()
    put(path, content[: len(content) // 2])


def _empty(path: Path) -> None:
    put(path, b"")


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    put(path, bytes(content))


def _braces(path: Path) -> None:
    put(path, b"{}")


WAYS = {"deleted": _remove, "truncated": _truncate, "emptied": _empty, "one bit flipped": _flip}


def artefacts() -> Iterator[Artefact]:
    """All damages: every way in which a file can be damaged, and exchanges that look whole."""
    for stage, names in FILES.items():
        for name in (*names, *(() if stage == "1-volumes" else ("provenance.json",))):
            ways = WAYS | ({"{}": _braces} if name.endswith(".json") else {})
            for way, spoil in ways.items():
                yield Artefact(f"{stage}/{name} {way}", stage, _at(stage, name, spoil))
    for way, spoil in WAYS.items():
        yield Artefact(f"splits.tsv {way}", "", _at("", "splits.tsv", spoil))
    yield from EXCHANGES


def _at(stage: str, name: str, spoil: Spoil) -> Spoil:
    return lambda run: spoil(_found(run / stage, name))


def _swap_stacks(run: Path) -> None:
    one, other, *_ = sorted((run / "2-slices" / "stacks").glob("*_T1w.nii"))
    contents = one.read_bytes(), other.read_bytes()
    put(one, contents[1])
    put(other, contents[0])


def _swap_registrations(run: Path) -> None:
    one, other, *_ = sorted((run / "1-volumes").glob("*_xfm.txt"))
    contents = one.read_bytes(), other.read_bytes()
    put(one, contents[1])
    put(other, contents[0])


def _make_black(run: Path) -> None:
    for path in (run / "2-slices" / "stacks").glob("*_T1w.nii"):
        image: Any = nib.load(path)
        size = int(np.prod(image.shape))
        put(path, path.read_bytes()[:-size] + bytes(size))


def _test_to_training(run: Path) -> None:
    path = run / "2-slices" / "datalist.json"
    lists = json.loads(path.read_text())
    lists["training"] += lists.pop("test")
    put(path, json.dumps(lists | {"test": []}).encode())


def _other(folder: str, name: str) -> Spoil:
    """Exchange a file for that of a run which was trained with another seed."""

    def spoil(run: Path) -> None:
        other = run.parent / "finished" / f"train-{folder[2:]}-again" / folder / name
        put(run / folder / name, other.read_bytes())

    return spoil


def _reverse_categories(run: Path) -> None:
    path = run / "5-prior" / "config.json"
    config = json.loads(path.read_text())
    for values in config["network_def"]["conditions"].values():
        values.reverse()
    put(path, json.dumps(config, indent=2).encode())


def _edit(name: str, old: bytes, new: bytes) -> Spoil:
    def spoil(run: Path) -> None:
        content = (run / name).read_bytes()
        if old not in content:
            raise ValueError(f"{name} does not hold {old!r}")
        put(run / name, content.replace(old, new, 1))

    return spoil


EXCHANGES = (
    Artefact("stacks of two participants swapped", "2-slices", _swap_stacks),
    Artefact("registrations of two participants swapped", "1-volumes", _swap_registrations),
    Artefact("splits.tsv edited", "", _edit("splits.tsv", b"\ttest\t", b"\ttraining\t")),
    Artefact("all stacks black", "2-slices", _make_black),
    Artefact("test participants moved into training", "2-slices", _test_to_training),
    Artefact("slices.tsv edited", "2-slices", _edit("2-slices/slices.tsv", b"\tM\t", b"\tF\t")),
    Artefact("model.pt of another VQ-VAE", "3-vqvae", _other("3-vqvae", "model.pt")),
    Artefact("config.json of another VQ-VAE", "3-vqvae", _other("3-vqvae", "config.json")),
    Artefact("codes.tsv edited", "4-codes", _edit("4-codes/codes.tsv", b"\tM\t", b"\tF\t")),
    Artefact("model.pt of another prior", "5-prior", _other("5-prior", "model.pt")),
    Artefact("categories reversed in config.json", "5-prior", _reverse_categories),
    Artefact("metrics.json edited", "7-report", _edit("7-report/metrics.json", b"0.", b"1.")),
)  # fmt: skip


def damage_all(
    finished: Finished, told: Callable[[DamageFigures], None], every: int = 1, repairs: bool = True
) -> DamageFigures:
    """Damage a finished run in all ways, one after the other.

    Args:
        finished: the undisturbed runs.
        told: called after every artefact with the figures so far.
        every: take only every this many of the artefacts.
        repairs: also run the damaged stage's own command.
    """
    figures = DamageFigures()
    for name in ("train vqvae again", "train prior again"):
        finished.of(name)
    for artefact in list(artefacts())[::every]:
        before = OWN["1-volumes"] if artefact.stage == "1-volumes" else RUN
        finished.start(before)
        artefact.spoil(finished.run)
        figures.artefacts += 1
        let_read(finished, artefact, figures)
        if repairs and not (artefact.stage == "7-report" and "bit flipped" not in artefact.name):
            repair(finished, artefact, finished.content(before), figures)
        told(figures)
    return figures


def let_read(finished: Finished, artefact: Artefact, figures: DamageFigures) -> None:
    """Let every command that reads the stage read it: each has to refuse."""
    readers = [_stage(name) for name in READERS[artefact.stage]]
    done = in_child(
        lambda: [_verdict(stage, finished) for stage in readers], finished.log
    )  # all in one child: they do nothing but refuse
    if done.error or done.killed:
        figures.raw.append(f"{artefact.name}: {done.error.strip().splitlines()[-1]}")
        return
    for stage, (verdict, words) in zip(readers, done.answer, strict=True):
        if verdict == "accepted":
            figures.accepted.append(f"{artefact.name}: by {stage.name}")
        elif verdict == "raw":
            figures.raw.append(f"{artefact.name}: {stage.name}: {words}")


def repair(
    finished: Finished, artefact: Artefact, wanted: dict[str, str], figures: DamageFigures
) -> None:
    """Let the stage's own command repair it: the run is then as before, or it refuses."""
    stage = _stage(OWN[artefact.stage])
    done = in_child(lambda: _verdict(stage, finished), finished.log)
    verdict, words = done.answer or ("raw", done.error)
    if verdict == "raw":
        figures.raw.append(f"{artefact.name}: {stage.name}: {words}")
    elif verdict == "accepted" and (differ := differences(content_of(finished.run), wanted)):
        figures.accepted.append(f"{artefact.name}: by {stage.name}, which left {differ[:3]}")


def _stage(name: str) -> Stage:
    return next(stage for stage in STAGES if stage.name == name)


def _verdict(stage: Stage, finished: Finished) -> tuple[str, str]:
    try:
        stage.run(finished.source, finished.run)
    except UnexpectedError as error:
        return "raw", str(error)
    except VQBrainError as error:
        return ("raw" if "\n" in str(error) else "refused"), str(error)
    except Exception as error:  # noqa: BLE001  (that is what is looked for)
        return "raw", f"{type(error).__name__}: {error}"
    return "accepted", ""


def clear(finished: Finished) -> None:
    """Remove the damaged run."""
    shutil.rmtree(finished.run, ignore_errors=True)
