"""The training budget: when training ends, and the learning-rate schedule until then."""

from __future__ import annotations

import math
import time
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events

from monai_vqbrain.progress import SHOW_EVERY, Bar


class TrainingBudget:
    """Ends training after a number of minutes or epochs, with a cosine learning-rate schedule.

    Minutes are wall-clock time, validation included, and are carried over when training is resumed.
    Without minutes, the trainer's `max_epochs` is the budget. The epoch in which time runs out is
    shortened and completed as usual, so that the last weights are validated and saved. With several
    ranks, the clock of rank 0 decides for all.

    Args:
        optimizer: its learning rates are set; the present ones are the maximum.
        minutes: the budget, or None for the trainer's `max_epochs`.
        warmup: share of the budget during which the rate rises linearly from 0.
        restart: share of the budget after which the schedule starts again; None for never.
        what: the progress bar's label; None for no bar.

    Raises:
        ValueError: if minutes is not positive, warmup not in [0, 1) or restart not in (0, 1).
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        minutes: float | None = None,
        warmup: float = 0.02,
        what: str | None = "training",
        restart: float | None = None,
    ) -> None:
        if minutes is not None and not minutes > 0:
            raise ValueError(f"minutes must be positive, got {minutes}")
        if not 0 <= warmup < 1:
            raise ValueError(f"warmup must lie in [0, 1), got {warmup}")
        if restart is not None and not 0 < restart < 1:
            raise ValueError(f"restart must lie in (0, 1), got {restart}")
        self.restart = restart
        self.optimizer = optimizer
        self.minutes = minutes
        self.warmup = warmup
        self.what = what
        self.seconds = 0.0  # spent before this process
        self.skipped = 0.0  # share of the budget that was given up
        self.restarted = False  # whether the part after the restart has started
        self._started = 0.0
        self._rates = [group["lr"] for group in optimizer.param_groups]
        self._bar: Bar | None = None
        self._shown = 0.0  # time of the last update of the bar

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer, after the handler that resumes."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_STARTED, self._set_rate)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._end_in_time)
        engine.add_event_handler(Events.COMPLETED, self._close)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._fail)

    def spent(self) -> float:
        """Seconds of training so far, in all processes."""
        return self.seconds + (time.monotonic() - self._started if self._started else 0.0)

    def fraction(self, engine: Engine) -> float:
        """Share of the budget that is spent, in [0, 1]; with minutes, call it on all ranks."""
        if self.minutes is not None:
            seconds: Any = idist.broadcast(self.spent())
            return min(1.0, self.skipped + seconds / (60 * self.minutes))
        total = (engine.state.max_epochs or 1) * (engine.state.epoch_length or 1)
        return min(1.0, self.skipped + engine.state.iteration / total)

    def skip_to_restart(self, engine: Engine) -> None:
        """Give up what is left of the budget before the restart, if there is one."""
        self.skipped += max(0.0, (self.restart or 0.0) - self.fraction(engine))

    def begin_restart(self, engine: Engine) -> bool:
        """Whether the part after the restart begins now; True once."""
        begins = self.restart is not None and not self.restarted
        self.restarted |= begins and self.fraction(engine) >= (self.restart or 0.0)
        return begins and self.restarted

    def state_dict(self) -> dict[str, Any]:
        """What is spent and given up, and whether the schedule has started again."""
        return {"seconds": self.spent(), "skipped": self.skipped, "restarted": self.restarted}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.seconds, self.skipped = state["seconds"], state["skipped"]
        self.restarted = state["restarted"]

    def _start(self, engine: Engine) -> None:
        self._started = time.monotonic()
        if self.what and idist.get_rank() == 0:
            steps = engine.state.iteration  # of a training that is resumed
            self._bar = Bar(desc=self.what, unit="step", initial=steps, smoothing=0, miniters=1)

    def _set_rate(self, engine: Engine) -> None:
        done = self.fraction(engine)
        if self.restart is not None:
            first = done < self.restart
            done = done / self.restart if first else (done - self.restart) / (1 - self.restart)
        if done < self.warmup:
            factor = done / self.warmup
        else:
            factor = 0.5 * (1 + math.cos(math.pi * (done - self.warmup) / (1 - self.warmup)))
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * max(factor, 1e-3)

    def _end_in_time(self, engine: Engine) -> None:
        done = self.fraction(engine)
        if self._bar is not None and (done >= 1 or time.monotonic() - self._shown >= SHOW_EVERY):
            self._show(self._bar, engine, done)
        if done >= 1 and (self.minutes is not None or self.skipped):
            engine.state.max_epochs = engine.state.epoch
            engine.terminate_epoch()

    def _show(self, bar: Bar, engine: Engine, done: float) -> None:
        """Update the bar; the number of steps in a budget of minutes is an estimate."""
        steps = engine.state.iteration
        loss = float(engine.state.output["loss"].detach())  # waits for a GPU
        bar.set_postfix_str(f"loss={loss:.4f}", refresh=False)
        bar.total = round(steps / done) if done else None
        bar.update(steps - bar.n)
        self._shown = time.monotonic()

    def _close(self, engine: Engine) -> None:
        if self._bar is not None:
            self._bar.close()

    def _fail(self, engine: Engine, error: BaseException) -> None:
        self._close(engine)
        raise error  # ignite drops an exception that a handler does not raise again
