"""Functions that all engines share: handlers, the inferer's check, the end of an iteration."""

from __future__ import annotations

from typing import Any

from monai.engines.utils import IterationEvents
from monai.utils import ensure_tuple


def enabled(handlers: Any) -> list[Any]:
    """Handlers without those that are None, to which a config's disabled component resolves.

    Args:
        handlers: one handler, a sequence of them, or None.

    Example:
        >>> enabled(["panel", None]), enabled(None)
        (['panel'], [])
    """
    return [handler for handler in ensure_tuple(handlers) if handler is not None]


def check_inferer(engine: object, inferer: object, *methods: str, example: str) -> None:
    """Refuse an inferer that an engine could not use.

    Args:
        engine: the engine, for the message.
        inferer: the inferer that it was given.
        methods: names of the methods that the engine calls.
        example: name of an inferer that has them.

    Raises:
        ValueError: if the inferer lacks one of these methods.
    """
    missing = [method for method in methods if not hasattr(inferer, method)]
    if missing:
        raise ValueError(
            f"{type(engine).__name__} calls {' and '.join(methods)} of its inferer, and "
            f"{type(inferer).__name__} has no {' and no '.join(missing)}: use {example}, or an "
            "inferer with the same methods"
        )


def completed(engine: Any, output: dict[str, Any]) -> Any:
    """End an iteration as MONAI's engines do, and return its output after the handlers.

    The events run decollation and postprocessing, which replace `engine.state.output`: an iteration
    that returned its own dictionary would undo them.

    Args:
        engine: the engine, in an iteration.
        output: what the iteration computed.
    """
    engine.state.output = output
    engine.fire_event(IterationEvents.FORWARD_COMPLETED)
    engine.fire_event(IterationEvents.MODEL_COMPLETED)
    return engine.state.output
