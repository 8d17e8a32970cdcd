"""A stage's folder while a bundle fills it: a partial folder, published when complete."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from monai_vqbrain.files import hold, partial, publish, remove_temporaries, using
from monai_vqbrain.locks import unlock
from monai_vqbrain.logs import close_log, open_log
from monai_vqbrain.provenance import Described, write_provenance

logger = logging.getLogger(__name__)
_inputs: dict[Path, ExitStack] = {}  # by stage folder: what keeps its inputs as they are


def use_inputs(folder: Path, *inputs: Path) -> None:
    """Keep the folders that a stage is made from as they are until it is finished or left.

    Args:
        folder: the stage's final folder.
        inputs: the folders.

    Raises:
        VQBrainError: if another process is making one of them.
    """
    stack = _inputs.setdefault(folder.absolute(), ExitStack())
    stack.enter_context(using(inputs))


def open_stage(folder: Path, resume: bool = False) -> Path:
    """Lock a stage's folder and make its partial folder, with a log in it.

    Args:
        folder: the stage's final folder, such as `R/3-vqvae`.
        resume: keep the files of an interrupted run of the stage.

    Returns:
        The partial folder.

    Raises:
        VQBrainError: if another process makes or reads it.
    """
    hold(folder)
    work = partial(folder)
    if work.exists() and not resume:
        logger.info("starting over: the interrupted run in %s is discarded", work.name)
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    remove_temporaries(work.rglob("*"))
    open_log(work)
    return work


def finish_stage(
    folder: Path, made_from: Described, options: Mapping[str, Any], seconds: float, **about: Any
) -> None:
    """Write the provenance of a stage and publish its folder."""
    write_provenance(partial(folder), made_from, options, seconds, **about)
    close_log(partial(folder))
    publish(folder)
    _leave_inputs(folder)


def leave_stage(folder: Path) -> None:
    """Close the log and unlock the folder and its inputs, whether the stage finished or failed."""
    close_log(partial(folder))
    unlock(folder)
    _leave_inputs(folder)


def _leave_inputs(folder: Path) -> None:
    _inputs.pop(folder.absolute(), ExitStack()).close()
