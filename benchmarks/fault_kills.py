"""Kills at chosen moments: what was finished stays whole; the same command ends as undisturbed."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fault_stages import (
    CALLS,
    RENAMES,
    STAGES,
    Finished,
    Stage,
    content_of,
    damaged_stages,
    differences,
    finished_stages,
    moved,
    splits_of,
)

AT_RENAMES, AT_CALLS = 0.5, 0.75  # shares of the kills at renames; at these and other calls
AGAIN = 0.25  # share of the kills after which the resumed command is killed, too
TRIES = 20  # of a kill that comes too late


@dataclass
class KillFigures:
    """What happened.

    Args:
        kills: by stage.
        identical: the kills after which the same command left the files of an undisturbed run.
        lost: finished stages that were not whole after a kill, and commands that then failed.
        moved: participants whose split changed.
        notes: failures, one line each.
    """

    kills: Counter[str] = field(default_factory=Counter)
    identical: int = 0
    lost: int = 0
    moved: int = 0
    notes: list[str] = field(default_factory=list)


def kill_stages(
    finished: Finished, number: int, seed: int, told: Callable[[KillFigures], None]
) -> KillFigures:
    """Kill stages, and repeat their commands.

    Args:
        finished: the undisturbed runs.
        number: the number of kills.
        seed: of the moments.
        told: called after every kill with the figures so far.
    """
    rng, figures = random.Random(seed), KillFigures()
    for stage in share_out(number):
        if sum(figures.kills.values()) < number:
            _kill(finished, stage, rng, figures)
            told(figures)
    return figures


def share_out(number: int) -> list[Stage]:
    """Which stage each kill is for: by weight, each at least once if the number allows it."""
    due = {stage.name: 0.0 for stage in STAGES}
    order = []
    for _ in range(number):
        for stage in STAGES:
            due[stage.name] += stage.weight
        chosen = max(STAGES, key=lambda stage: due[stage.name])
        due[chosen.name] -= sum(stage.weight for stage in STAGES)
        order.append(chosen)
    return order


def _kill(finished: Finished, stage: Stage, rng: random.Random, figures: KillFigures) -> None:
    """Kill a stage, in some cases its repetition too, and repeat it to the end."""
    run, places = finished.run, []
    finished.ending(stage.name)  # made first
    for _ in range(TRIES):
        finished.start(stage.before)
        splits, whole = splits_of(run), finished_stages(run)
        if where := _killed(finished, stage, rng):
            places.append(where)
            break
    else:
        figures.notes.append(f"{stage.name}: no kill came in time")
        return
    if rng.random() < AGAIN and (where := _killed(finished, stage, rng)):
        places.append(where)
    wrong = [f"lost: {name}" for name in lost_stages(run, whole, finished.work / "look")]
    last = finished.command(stage)
    if last.error:
        wrong.append(f"the same command failed: {last.error.strip().splitlines()[-1]}")
    gone = moved(splits, splits_of(run))
    figures.kills[stage.name] += len(places)
    figures.lost += len(wrong)
    figures.moved += gone
    differ = differences(content_of(run), finished.content(stage.name))
    wrong += [f"differs: {name}" for name in differ]
    figures.identical += 0 if wrong else len(places)
    figures.notes += [f"{stage.name}, killed {' and '.join(places)}: {each}" for each in wrong[:9]]


def _killed(finished: Finished, stage: Stage, rng: random.Random) -> str:
    """Kill a stage at some moment; return where, or nothing if it ended before."""
    reference, how = finished.ending(stage.name), rng.random()
    if how < AT_CALLS:
        names = RENAMES if how < AT_RENAMES else CALLS
        places = [n for n, call in enumerate(reference.moments) if call in names]
        moment = rng.choice(places)
        ending = finished.command(stage, moment=moment)
        where = f"at moment {moment} ({reference.moments[moment]})"
    else:
        after = rng.uniform(0, reference.seconds)
        ending = finished.command(stage, after=after)
        where = f"after {after:.2f} s"
    return where if ending.killed else ""


def lost_stages(run: Path, whole: list[str], look: Path) -> list[str]:
    """The stages that were whole before a kill and are not now, in a copy of the run.

    In a copy, because looking completes what was interrupted, which the next command has to do.
    """
    shutil.rmtree(look, ignore_errors=True)
    shutil.copytree(run, look)
    return damaged_stages(look, whole)
