"""The files of a bundle with the network of a run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from monai.data import save_net_with_metadata

from monai_vqbrain.errors import UsageError
from monai_vqbrain.files import writing
from monai_vqbrain.runs.bundles import bundle_folder
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.literals import as_data
from monai_vqbrain.runs.networks import load_network
from monai_vqbrain.runs.packaged import MODELS
from monai_vqbrain.runs.records import network_settings
from monai_vqbrain.stages.exporting.card import TrainingData, model_card, read_evaluation
from monai_vqbrain.stages.exporting.metadata import describe_run
from monai_vqbrain.stages.exporting.models import write_json, write_models

CARD = "model-card.md"
OF_DATA = ("num_codes", "grid", "conditions", "late_conditions")  # settings that follow the cohort


def write_bundle(run: RunFolder, name: str, folder: Path, data: TrainingData) -> None:
    """Write the bundle of a network of a run; see `export_bundle`.

    Args:
        run: the run folder, evaluated.
        name: "vqvae" or "pixelcnn".
        folder: the folder to write to; it must not exist.
        data: what the run does not know of its data.

    Raises:
        UsageError: if the run has not been evaluated, or has no prior.
        VQBrainError: if a stage of the run is not as its command made it.
    """
    is_prior = name == "pixelcnn"
    if is_prior and not run.prior.exists():
        raise UsageError(f"{run.path} has no prior: first run: {run.command('train prior')}")
    metrics = read_evaluation(run)
    shipped = bundle_folder(name)
    shutil.copytree(shipped, folder, ignore=shutil.ignore_patterns(MODELS, CARD), symlinks=False)
    write_models(run, name, folder / MODELS)
    if is_prior:
        write_models(run, "vqvae", folder / MODELS / "vqvae")
    card = model_card(run, f"vqbrain_{name}", data, is_prior)
    with writing(folder / "docs" / CARD) as path:
        path.write_text(card, encoding="utf-8")
    path = folder / "configs" / "metadata.json"
    metadata = describe_run(json.loads(path.read_text(encoding="utf-8")), name, run, metrics, data)
    write_json(metadata, path)
    _set_training(folder / "configs" / "train.json", run, is_prior)
    _write_script(folder, metadata)
    for link in ("train.json", "metadata.json"):  # copies of what were links in a checkout
        (folder / link).unlink(missing_ok=True)


def _set_training(path: Path, run: RunFolder, is_prior: bool) -> None:
    """Let a training's configuration build the run's network, whatever the current folder is."""
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    settings = network_settings(run.prior if is_prior else run.vqvae)
    if is_prior:
        config["settings_of_weights"] = as_data({n: settings[n] for n in OF_DATA})
        config |= {name: settings[name] for name in ("neighbour", "plan")}
        fixed = {n: v for n, v in settings.items() if n not in (*OF_DATA, "neighbour", "plan")}
        config["network_def"] |= fixed
    else:
        config["network_def"] = settings
    write_json(config, path)


def _write_script(folder: Path, metadata: dict[str, Any]) -> None:
    """Write the network as TorchScript, with the metadata in the file."""
    script = torch.jit.script(load_network(folder / MODELS))
    with writing(folder / MODELS / "model.ts") as path:
        save_net_with_metadata(script, str(path), meta_values=metadata, append_timestamp=False)
