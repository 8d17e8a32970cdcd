"""Trained networks outside of a run: those in the package, and those of an exported bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from monai_vqbrain.errors import UsageError
from monai_vqbrain.runs.bundles import bundle_folder
from monai_vqbrain.runs.folder import DEFAULT_RUN, RunFolder
from monai_vqbrain.runs.records import network_settings

PACKAGED = ("ds002748",)  # by the data set that they were trained on
MODELS = "models"  # folder of a bundle


class Models(NamedTuple):
    """The folders of both trained networks, each with config.json and model.pt."""

    vqvae: Path
    prior: Path


def find_models(run_dir: Path | str, weights: str | None = None) -> Models:
    """The networks of a run, or of weights outside of one.

    Args:
        run_dir: the run folder.
        weights: a name in `PACKAGED`, or the folder of an exported bundle; None for the run's.

    Raises:
        UsageError: if there are no such weights.
    """
    if weights is None:
        run = RunFolder(run_dir)
        return Models(run.vqvae, run.prior)
    return Models(vqvae_models(weights), prior_models(weights))


def prior_models(weights: str) -> Path:
    """The folder of the prior of some weights; see `find_models`."""
    return _with_weights(_bundle(weights, "pixelcnn") / MODELS, weights)


def vqvae_models(weights: str) -> Path:
    """The folder of the VQ-VAE of some weights; that of an exported prior lies within it."""
    if weights in PACKAGED:
        return _with_weights(_bundle(weights, "vqvae") / MODELS, weights)
    return _with_weights(Path(weights) / MODELS / "vqvae", weights)


def default_weights(run_dir: Path | str, bundle: Path | str) -> str | None:
    """The weights that a bundle of the prior samples from by default: None for the run's.

    They are the bundle's own if `run_dir` is the bundles' default and holds no prior.
    """
    if str(run_dir) != DEFAULT_RUN or RunFolder(run_dir).prior.exists():
        return None
    return PACKAGED[0] if Path(bundle) == bundle_folder("pixelcnn") else str(bundle)


def bundle_settings(bundle: Path | str) -> dict[str, Any]:
    """The settings of the network in a bundle's folder; empty if it holds no weights."""
    folder = Path(bundle) / MODELS
    return network_settings(folder) if (folder / "config.json").is_file() else {}


def find_start(start_from: str, which: str) -> Path:
    """The file of weights that a training starts from.

    Args:
        start_from: a name in `PACKAGED`, a run folder, or a file of weights.
        which: "vqvae" or "prior".

    Raises:
        UsageError: if there is no such file or run, or the run has no such network.
        VQBrainError: if the run's network is not as its training made it.
    """
    if start_from in PACKAGED:
        folder = vqvae_models(start_from) if which == "vqvae" else prior_models(start_from)
        return folder / "model.pt"
    path = Path(start_from)
    if path.is_file():
        return path
    if not path.is_dir():
        raise UsageError(
            f"start_from {start_from}: there is no such file or folder; give {PACKAGED[0]}, a run "
            "folder or a file of weights"
        )
    run = RunFolder(path)
    folder = run.vqvae if which == "vqvae" else run.prior
    run.need(folder, f"train {which}")
    return folder / "model.pt"


def _bundle(weights: str, name: str) -> Path:
    return bundle_folder(name) if weights in PACKAGED else Path(weights)


def _with_weights(folder: Path, weights: str) -> Path:
    if not (folder / "model.pt").is_file():
        raise UsageError(
            f"weights {weights}: {folder / 'model.pt'} is not there; give {PACKAGED[0]}, or the "
            "folder of an exported bundle of the prior"
        )
    return folder
