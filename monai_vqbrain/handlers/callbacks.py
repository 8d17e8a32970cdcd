"""Callbacks for the start and the completion of an engine."""

from __future__ import annotations

from collections.abc import Callable

import ignite.distributed as idist
from ignite.engine import Engine, Events


class EngineCallbacks:
    """Calls one function when an engine starts and another when it has completed, on rank 0 only.

    With it, a configuration adds to an engine what belongs to no component, such as a record of the
    training. Attach it last, so that all other handlers have finished when `completed` is called.

    Args:
        started: called with the engine when it starts.
        completed: called with the engine when it has completed; not after an exception.
    """

    def __init__(
        self, started: Callable[[Engine], None], completed: Callable[[Engine], None]
    ) -> None:
        self.started = started
        self.completed = completed

    def attach(self, engine: Engine) -> None:
        """Attach to an engine."""
        if idist.get_rank() == 0:
            engine.add_event_handler(Events.STARTED, self.started)
            engine.add_event_handler(Events.COMPLETED, self.completed)
