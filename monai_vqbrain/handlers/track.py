"""Tracking of a training in MLflow."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from ignite.engine import Engine, Events
from monai.engines import Evaluator
from monai.handlers import MLFlowHandler
from monai.utils import path_to_sqlite_uri

from monai_vqbrain.errors import ComponentError
from monai_vqbrain.handlers.metrics_table import loss_values


class MLflowRun(MLFlowHandler):
    """MONAI's MLFlowHandler for a training and its validation, both in one new MLflow run.

    Losses and learning rate are logged every `every` iterations, validation metrics every epoch,
    `options` once. Items of the data set are not logged, so no participant ids are. MLflow's usage
    statistics are switched off, unless MLFLOW_DISABLE_TELEMETRY is set.

    Args:
        uri: a tracking server's address, or a local path, which becomes an SQLite database.
        validator: the evaluator with the validation metrics.
        options: names and values to log as parameters.
        every: number of iterations between two logs of the losses.
        experiment: the experiment's name.

    Raises:
        ValueError: if MLflow is not installed.
    """

    def __init__(
        self,
        uri: str,
        validator: Evaluator,
        options: Mapping[str, Any] | None = None,
        every: int = 50,
        experiment: str = "monai_vqbrain",
    ) -> None:
        if find_spec("mlflow") is None:
            raise ComponentError("MLflow is not installed: pip install 'monai-vqbrain[track]'")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read by MLflow at every call
        self.validator = validator
        super().__init__(
            tracking_uri=uri if "://" in uri else path_to_sqlite_uri(uri),
            iteration_log=lambda _, iteration: iteration % every == 0,
            output_transform=loss_values,
            experiment_name=experiment,
            # unique, because MONAI's handler continues any unfinished run of the same name
            run_name=f"{time.strftime('%Y-%m-%d %H:%M:%S')} {os.getpid()}",
            experiment_param=dict(options or {}),
            close_on_complete=True,
        )

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer and its validator."""
        super().attach(engine)
        self.validator.add_event_handler(Events.EPOCH_COMPLETED, self.epoch_completed)
