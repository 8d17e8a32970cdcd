"""metadata.json of a bundle with the figures of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai_vqbrain.runs.codes import code_shape
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.geometry import slice_frame
from monai_vqbrain.stages.exporting.card import TrainingData

Metadata = dict[str, Any]


def describe_run(
    metadata: Metadata, name: str, run: RunFolder, metrics: Mapping[str, Any], data: TrainingData
) -> Metadata:
    """The metadata of a shipped bundle, changed to those of a run's network.

    Args:
        metadata: of the shipped bundle.
        name: "vqvae" or "pixelcnn".
        run: the run folder.
        metrics: the content of its metrics.json.
        data: what the run does not know of its data.
    """
    describe_shapes = _vqvae_shapes if name == "vqvae" else _prior_shapes
    return metadata | {
        "data_source": f"{data.description} Licence: {data.licence}",
        "eval_metrics": _vqvae_figures(metrics) if name == "vqvae" else _prior_figures(metrics),
        "network_data_format": describe_shapes(metadata["network_data_format"], run),
    }


def _vqvae_figures(metrics: Mapping[str, Any]) -> dict[str, float]:
    test = metrics["fidelity"]["test"]
    return {name: round(test[name]["mean"], 4) for name in ("ssim_brain", "psnr_brain")}


def _prior_figures(metrics: Mapping[str, Any]) -> dict[str, float]:
    found = {"bits_per_code": metrics["prior"]["bits_per_code"]}
    if "detectability" in metrics:
        found["detectability_auc"] = metrics["detectability"]["auc"]
    if "membership" in metrics.get("audit", {}):
        found["membership_auc"] = metrics["audit"]["membership"]["auc"]
    return {name: round(value, 4) for name, value in found.items()}


def _vqvae_shapes(form: Metadata, run: RunFolder) -> Metadata:
    """The format of images: the size of the run's slices."""
    width, height, _ = slice_frame(run)
    size = {"spatial_shape": [width, height]}
    return {
        side: {key: tensor | size for key, tensor in form[side].items()}
        for side in ("inputs", "outputs")
    }


def _prior_shapes(form: Metadata, run: RunFolder) -> Metadata:
    """The format of code grids: their size and the number of codes."""
    codes, *grid = code_shape(run.path)
    image, pred = form["inputs"]["image"], form["outputs"]["pred"]
    last = str(codes - 1)
    return {
        "inputs": {"image": image | {"spatial_shape": grid, "value_range": [0, codes - 1]}},
        "outputs": {
            "pred": pred
            | {
                "num_channels": codes,
                "spatial_shape": grid,
                "channel_def": {"0": "logit of code 0", last: f"logit of code {last}"},
            }
        },
    }
