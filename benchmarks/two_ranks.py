"""Compare two ranks, each with half of every batch, with one rank that has it whole.

    python benchmarks/two_ranks.py --json figures.json

Both bundles are trained on the CPU, by train.json in this process and with multi_gpu_train.json in
two that torchrun starts: in float64 over 21 steps, of which every seventh has a batch of 5, and in
float32 over one epoch. In float64 the codebook forgets fast, so that codes die and are redrawn.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigWorkflow
from standings import command_line, keep, machine
from torch import nn

from monai_vqbrain.ranks import gather_rows, this_rank
from monai_vqbrain.runs.bundles import bundle_folder
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.phantom import slice_phantom
from monai_vqbrain.runs.process_group import leave_group
from monai_vqbrain.stages.encode import encode
from monai_vqbrain.stages.train import train_vqvae

BUNDLES = {"vqvae": "3-vqvae", "pixelcnn": "5-prior"}
INPUTS = {"vqvae": ("2-slices",), "pixelcnn": ("2-slices", "3-vqvae", "4-codes")}
FORGETFUL = 0.8  # decay of the codebook: codes then die within some steps
SETTINGS: dict[str, dict[str, Any]] = {
    "vqvae": {"network_def#width": 8, "network_def#num_codes": 64, "network_def#blocks": [1, 1]},
    "pixelcnn": {"network_def#channels": 8, "network_def#layers": 1},
}
EPOCHS: dict[str, dict[str, Any]] = {
    "float64": {"max_epochs": 3, "slices_per_epoch": 53},  # 6 batches of 8, one of 5
    "float32": {"max_epochs": 1, "slices_per_epoch": 160},
}
NETWORKS = {
    "vqvae": "@network_def",
    "pixelcnn": "plans.fit_plan(networks.set_code_features(@network_def, @run_dir), @run_dir)",
}
PARTS = ("train", "validate")
STEPS = "steps.pt"
CAST = {"_target_": "CastToTyped", "keys": "image", "dtype": "$torch.float64"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Train on one rank and on two, print the differences."""
    args = parse(arguments)
    if args.train is not None:
        train_all(args.train)
        return
    with tempfile.TemporaryDirectory() as folder:
        found = differences(args.run or simulated_run(Path(folder) / "run"), Path(folder))
    print(table(found))
    keep(found | {"machine": machine()}, args.json)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = command_line(__doc__ or "")
    add = parser.add_argument
    add("--run", type=Path, help="a run with codes, left as it is; by default a simulated cohort")
    add("--train", type=Path, help=argparse.SUPPRESS)  # what each rank is started with
    return parser.parse_args(arguments)


def simulated_run(path: Path) -> Path:
    """A run of 24 simulated participants, enough for a plan, with codes of a tiny VQ-VAE."""
    slice_phantom(RunFolder(path), participants=24)
    train_vqvae(path, epochs=1, overrides={"slices_per_epoch": 320, **SETTINGS["vqvae"]})
    encode(path)
    return path


def differences(run: Path, folder: Path) -> dict[str, float]:
    """Train both bundles in both precisions, on one rank and on two, and compare.

    Args:
        run: a run folder with codes, which is not changed.
        folder: where to train.

    Returns:
        For each bundle, in float64: the largest difference of a step's loss, of a weight and of a
        validation metric; of the VQ-VAE also of its codebook and counts, how many codes differ, and
        how many were redrawn. In float32: the relative difference of the epoch's mean loss.
        `two_rank_loss_difference` is the larger one of both bundles' losses.
    """
    for ranks in (1, 2):
        link_inputs(run, folder / str(ranks))
    train_all(folder / "1")
    start_two(folder / "2")
    found: dict[str, float] = {}
    for bundle in BUNDLES:
        one, two = (read(folder / str(ranks), bundle, "float64") for ranks in (1, 2))
        found |= {f"{bundle}_{name}": value for name, value in compare(one, two).items()}
        one, two = (read(folder / str(ranks), bundle, "float32") for ranks in (1, 2))
        loss, other = (float(result["metrics"]["loss"].iloc[0]) for result in (one, two))
        found[f"{bundle}_float32_loss_ratio_difference"] = abs(other / loss - 1)
    found["two_rank_loss_difference"] = max(found[f"{b}_loss_difference"] for b in BUNDLES)
    return found


def compare(one: Mapping[str, Any], two: Mapping[str, Any]) -> dict[str, float]:
    """The largest differences between two trainings in float64."""
    losses, others = (torch.tensor(result["losses"], dtype=torch.float64) for result in (one, two))
    network, other = one["network"], two["network"]
    state = {name: furthest(value, other[name]) for name, value in network.items()}
    metrics = (result["metrics"].drop(columns="seconds").to_numpy(float) for result in (one, two))
    found = {
        "steps": len(losses),
        "loss_difference": furthest(losses, others),
        "weight_difference": max(state.values()),
        "metric_difference": furthest(*(torch.from_numpy(table) for table in metrics)),
    }
    if one["codes"]:
        pairs = zip(one["codes"], two["codes"], strict=True)
        found["codes_differing"] = sum(int((a != b).sum()) for a, b in pairs)
        found |= {f"{n}_difference": state[f"quantizer.{n}"] for n in ("codebook", "counts")}
        found |= {"redrawn": one["redrawn"], "redrawn_on_two": two["redrawn"]}
    return found


def furthest(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference between two tensors; infinite if they have NaN at other places."""
    apart = (one.double() - other.double()).abs()
    apart = apart.masked_fill(one.isnan() & other.isnan(), 0).nan_to_num(nan=torch.inf)
    return float(apart.max()) if apart.numel() else 0.0


def link_inputs(run: Path, folder: Path) -> None:
    """Make a run folder for each training, with links to what it needs of a run."""
    for bundle, names in INPUTS.items():
        for precision in EPOCHS:
            own = folder / bundle / precision
            own.mkdir(parents=True)
            for name in names:
                (own / name).symlink_to((run / name).resolve())


def start_two(folder: Path) -> None:
    """Train everything in a folder, by torchrun with two ranks.

    Raises:
        RuntimeError: if it fails, with the end of what it wrote.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc_per_node=2", __file__, "--train", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"two ranks failed: {done.stderr[-5000:]}")


def train_all(folder: Path) -> None:
    """What each rank does: train both bundles in both precisions."""
    torch.set_num_threads(1)
    for bundle in BUNDLES:
        for precision in EPOCHS:
            train(bundle, precision, folder / bundle / precision)
    leave_group()


def train(bundle: str, precision: str, run: Path) -> None:
    """Train a bundle in a run folder; `steps.pt` keeps what its steps gave."""
    configs = bundle_folder(bundle) / "configs"
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    files = ["train.json", "multi_gpu_train.json"] if several else ["train.json"]
    with tempfile.TemporaryDirectory() as folder:
        laid_over = Path(folder) / "overlay.json"
        laid_over.write_text(json.dumps(overlay(bundle, precision, run)))
        workflow = ConfigWorkflow(
            config_file=[*(str(configs / name) for name in files), str(laid_over)],
            meta_file=str(configs / "metadata.json"),
            logging_file=False,
            workflow_type="train",
            run_id="training",
        )
    workflow.initialize()
    workflow.run()  # without `finalize`: further trainings follow in the same process group


def overlay(bundle: str, precision: str, run: Path) -> dict[str, Any]:
    """The configuration of a training that keeps what its steps give, and is in that precision."""
    settings: dict[str, Any] = SETTINGS[bundle] | EPOCHS[precision] | {"run_dir": str(run)}
    settings |= {"batch_size": 8, "validation_slices": 31, "minutes": None, "amp": False}
    settings |= {
        "+imports": ["$import two_ranks"],
        "steps": {"_target_": "two_ranks.Steps", "network": "@network", "path": str(run / STEPS)},
        "+handlers": ["@steps"],
    }
    if precision == "float64":
        settings["network"] = f"$two_ranks.in_float64({NETWORKS[bundle]}).to(@device)"
        if bundle == "vqvae":
            settings |= {f"+{part}#preprocessing#transforms": [CAST] for part in PARTS}
    return settings


def in_float64(network: nn.Module) -> nn.Module:
    """The network in float64, but for a plan, as the run's volumes are; a codebook forgets fast."""
    network.double()
    for name, part in network.named_children():
        if name == "quantizer":
            part.decay = FORGETFUL
        elif name == "plan":
            part.float()
    return network


class Steps:
    """Keeps the loss of each step and the codes of its batch, those of all ranks, in a file.

    Args:
        network: the network in training.
        path: the file.
    """

    def __init__(self, network: nn.Module, path: str) -> None:
        self.path = path
        self.losses: list[float] = []
        self.codes: list[torch.Tensor] = []
        self.quantizer = getattr(network, "quantizer", None)
        if self.quantizer is not None:
            self.quantizer.register_forward_hook(self._keep_codes)

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer, last."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._keep_loss)
        engine.add_event_handler(Events.COMPLETED, self._save)

    def _keep_codes(self, quantizer: Any, inputs: Any, output: tuple[torch.Tensor, ...]) -> None:
        if quantizer.training:
            self.codes.append(gather_rows(output[2]))

    def _keep_loss(self, engine: Engine) -> None:
        loss = engine.state.output["loss"].detach()
        self.losses.append(float(gather_rows(loss[None]).mean()))

    def _save(self, engine: Engine) -> None:
        if this_rank() == 0:
            redrawn = int(getattr(self.quantizer, "redrawn", 0))
            kept = {"losses": self.losses, "codes": self.codes, "redrawn": redrawn}
            torch.save(kept, self.path)


def read(folder: Path, bundle: str, precision: str) -> dict[str, Any]:
    """What a training has kept: losses, codes, redrawn, network (its last weights), metrics."""
    run = folder / bundle / precision
    kept: dict[str, Any] = torch.load(run / STEPS, weights_only=True)
    checkpoint = torch.load(run / BUNDLES[bundle] / "checkpoint.pt", weights_only=True)
    metrics = pd.read_csv(run / BUNDLES[bundle] / "metrics.tsv", sep="\t")
    return kept | {"network": checkpoint["network"], "metrics": metrics}


def table(found: Mapping[str, float]) -> str:
    """One line per figure."""
    width = max(len(name) for name in found)
    return "\n".join(f"{name:{width}}  {value:.3g}" for name, value in found.items())


if __name__ == "__main__":
    main()
