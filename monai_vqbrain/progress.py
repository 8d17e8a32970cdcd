"""The progress bars of all long steps, in tqdm's form.

In a terminal a bar is one line that is overwritten; elsewhere, as in the log file of a job, each
state is a line of its own. Bars of a pipeline also say which of its steps they belong to, and how
much time is left for all of them.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TextIO, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")

SHOW_EVERY = 0.5  # seconds between two states of a bar in a terminal
LOG_EVERY = 30.0  # seconds between two lines in a file, and the least duration to be logged
CURSOR = re.compile(r"\x1b\[A|[\r\n]")  # by which tqdm moves in a terminal


@dataclass(frozen=True)
class PipelineStep:
    """The step of a pipeline that is being done.

    Args:
        number: of this step, from 1.
        count: number of steps.
        expected: estimated duration of this step, s.
        later: estimated duration of all later steps, s.
        began: start of this step on the monotonic clock, s.
    """

    number: int
    count: int
    expected: float
    later: float
    began: float = field(default_factory=time.monotonic)

    def left(self, here: float) -> float:
        """Estimated time left for this step and all later ones, s.

        Args:
            here: time left of what is being done now, s.
        """
        return max(here, self.expected - (time.monotonic() - self.began)) + self.later


_steps: list[PipelineStep] = []  # the last one is being done


@contextmanager
def pipeline_step(step: PipelineStep) -> Iterator[None]:
    """Let all bars of a block show that they belong to a step of a pipeline."""
    _steps.append(step)
    try:
        yield
    finally:
        _steps.pop()


class ProgressLines:
    """A file in which each state of a bar is a line.

    Args:
        file: the file to write to.
    """

    def __init__(self, file: TextIO) -> None:
        self.file = file

    def write(self, text: str) -> None:
        """Write a state as a line; what only moves a cursor is left out."""
        line = CURSOR.sub("", text).rstrip()
        if line:
            self.file.write(line + "\n")

    def flush(self) -> None:
        """Flush the file."""
        self.file.flush()


class Bar(tqdm):
    """tqdm's bar with our settings, and with the step of the pipeline if there is one.

    Args:
        items: the items to iterate over, or None to count by `update`.
        settings: of tqdm; the bar is a line for each state if standard error is no terminal.
    """

    def __init__(self, items: Iterable[Any] | None = None, **settings: Any) -> None:
        if sys.stderr.isatty() or "ipykernel" in sys.modules:  # notebooks overwrite lines, too
            ours: dict[str, Any] = {"dynamic_ncols": True, "mininterval": SHOW_EVERY}
        else:
            lines = ProgressLines(sys.stderr)
            ours = {"file": lines, "mininterval": LOG_EVERY, "delay": LOG_EVERY, "maxinterval": 0}
        super().__init__(items, **ours, **settings)

    def set_description(self, desc: str | None = None, refresh: bool | None = True) -> None:
        """Set the label; ignite does so at every iteration, so it is shown with the next state."""
        super().set_description(desc, refresh=False)

    @property
    def format_dict(self) -> dict[str, Any]:
        """What the line is made of."""
        facts = dict(super().format_dict)
        if _steps:
            step, here = _steps[-1], 0.0
            if facts["total"] and facts["n"] > facts["initial"]:
                per_item = facts["elapsed"] / (facts["n"] - facts["initial"])
                here = (facts["total"] - facts["n"]) * per_item
            left = self.format_interval(step.left(here))
            facts["prefix"] = f"[{step.number}/{step.count}] {facts['prefix']}"
            facts["postfix"] = ", ".join(
                filter(None, (facts["postfix"], f"all steps: {left} left"))
            )
        return facts


def progress(
    items: Iterable[Item], what: str, total: int | None = None, unit: str = "it"
) -> Iterable[Item]:
    """Iterate over `items` with a progress bar on standard error.

    Args:
        items: the items.
        what: the label of the bar.
        total: their number, if `items` has no length.
        unit: one item, such as "volume".
    """
    bar: Iterable[Item] = Bar(items, desc=what, total=total, unit=unit)
    return bar
