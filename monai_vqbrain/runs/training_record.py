"""The record of a training in its folder, and publication of the folder."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Engine
from torch import nn

from monai_vqbrain.documents import read_json
from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.files import writing
from monai_vqbrain.provenance import Described
from monai_vqbrain.runs.stage_folder import finish_stage


class TrainingRecord:
    """Writes `config.json` when a training starts, and publishes the folder when it has completed.

    Pass both methods to an EngineCallbacks that is attached last.

    Args:
        folder: the stage's final folder.
        work: the partial folder, which the training fills.
        network: its class and settings go into config.json, from which later stages rebuild it.
        made_from: size and hash of what the training depends on, by name.
        options: the options of the training, JSON values.
        files: name -> content, JSON values, of further files that belong to the network.
        about: further entries of both, on which the result does not depend: `start_from`,
            and `training`, settings that the methods paragraph of the report names.
    """

    def __init__(
        self,
        folder: Path | str,
        work: Path | str,
        network: nn.Module,
        made_from: Described,
        options: Mapping[str, Any],
        files: Mapping[str, Any] | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.work = Path(work)
        self.network = network
        self.made_from = {name: dict(entry) for name, entry in made_from.items()}
        self.options = dict(options)
        self.files = dict(files or {})
        self.about = dict(about or {})

    def begin(self, engine: Engine) -> None:
        """Write `config.json` when a trainer starts.

        Raises:
            VQBrainError: if the resumed training had other inputs, settings, overrides or seed.
        """
        self._began = time.monotonic()
        settings = {"_target_": type(self.network).__name__, **self.network.settings}  # type: ignore[dict-item]
        told = {**self.options, **self.about}
        record = {"network_def": settings, **told, "made_from": self.made_from}
        path = self.work / "config.json"
        if engine.state.epoch and path.is_file():  # resumed
            _check_same(read_json(path, {}), json.loads(json.dumps(record)))
        for name, content in {"config.json": record, **self.files}.items():
            with writing(self.work / name) as temporary:
                temporary.write_text(json.dumps(content, indent=2) + "\n")

    def publish(self, engine: Engine) -> None:
        """Write `provenance.json` and publish the folder when a trainer has completed.

        Raises:
            VQBrainError: if no epoch was validated, so that there are no weights.
        """
        if not (self.work / "model.pt").is_file():
            raise VQBrainError(
                f"{self.work.name} has no weights to keep, because no epoch was validated: "
                "train longer, or set val_interval to 1"
            )
        finish_stage(
            self.folder,
            self.made_from,
            self.options,
            seconds=time.monotonic() - self._began,
            device=str(engine.state.device),
            epochs=engine.state.epoch,
            iterations=engine.state.iteration,
            **self.about,
        )


def _check_same(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    names = {"made_from": "what it is trained on", "overrides": "what was set (overrides)"}
    for name in ("network_def", "seed", "made_from", "overrides"):
        if earlier.get(name) != now.get(name):
            what = names.get(name, name)
            raise VQBrainError(
                f"{what} has changed since the interrupted training began: train without resuming"
            )
