"""Ending a training on a signal, such as that of a cluster which preempts a job."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events

from monai_vqbrain.errors import StoppedError

SIGNALS = ("SIGTERM", "SIGHUP", "SIGUSR1")  # the last is what SLURM's users often ask for

logger = logging.getLogger(__name__)


class StopOnSignal:
    """Ends a training on SIGTERM, SIGHUP or SIGUSR1, after the epoch and its checkpoint.

    The epoch is finished so that a resumed training repeats an uninterrupted one. A second signal
    has the effect that it had before the training. Signals that the process ignores, as SIGHUP
    under nohup, stay ignored. With several ranks, a signal to one of them ends all. Attach last, so
    that checkpoint and metrics are written.

    Raises:
        StoppedError: after the epoch in which a signal came, unless the training is complete then.
    """

    def __init__(self) -> None:
        self._signal = 0
        self._announced = False
        self._previous: dict[int, Any] = {}

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        engine.add_event_handler(Events.STARTED, self._listen)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._announce)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._stop)
        engine.add_event_handler(Events.COMPLETED, self._end)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._fail)

    def _listen(self, engine: Engine) -> None:
        self._signal, self._announced = 0, False
        if threading.current_thread() is not threading.main_thread():
            return  # only the main thread may
        for number in (getattr(signal, name) for name in SIGNALS if hasattr(signal, name)):
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._previous[number] = signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signal = number
        self._restore()

    def _announce(self, engine: Engine) -> None:
        if self._signal and not self._announced:
            self._announced = True
            logger.warning(
                "%s: training stops after this epoch, when its checkpoint is saved; a second "
                "signal stops it at once",
                signal.Signals(self._signal).name,
            )

    def _stop(self, engine: Engine) -> None:
        number: Any = idist.all_reduce(self._signal, "MAX")
        epoch, complete = engine.state.epoch, engine.state.epoch == engine.state.max_epochs
        if not number or complete or engine.should_terminate:
            return
        raise StoppedError(
            f"stopped by {signal.Signals(int(number)).name} after epoch {epoch}, whose checkpoint "
            "is saved: resume the training to continue"
        )

    def _end(self, engine: Engine) -> None:
        self._restore()

    def _fail(self, engine: Engine, error: BaseException) -> None:
        self._restore()
        raise error  # ignite drops an exception that a handler does not raise again

    def _restore(self) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, signal.SIG_DFL if previous is None else previous)
        self._previous = {}
