"""The checks of MONAI's model zoo on a bundle's folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from functools import partial
from pathlib import Path

import torch
from monai.bundle import ConfigParser, verify_metadata, verify_net_in_out
from monai.bundle.properties import InferProperties, TrainProperties
from monai.utils.enums import BundleProperty, BundlePropertyConfig

from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.runs.packaged import MODELS
from monai_vqbrain.weights import read_weights

FILES = (
    "LICENSE", "docs/README.md", "configs/metadata.json", "configs/train.json",
    "configs/inference.json", "models/model.pt",
)  # fmt: skip
REQUIRED = (
    "schema", "version", "monai_version", "pytorch_version", "numpy_version",
    "required_packages_version", "task", "description", "authors", "copyright",
    "network_data_format",
)  # of the zoo's schema  # fmt: skip
CONFIGS = ("train", "inference")


def check_bundle(folder: Path, schema: Path | None = None) -> list[str]:
    """Check a bundle; see `verify_bundle`.

    Args:
        folder: the bundle's folder.
        schema: the zoo's schema of metadata.

    Returns:
        What was checked, one line each.

    Raises:
        VQBrainError: if a check fails.
    """
    folder = folder.absolute()
    schema = None if schema is None else schema.absolute()
    checks: dict[str, Callable[[], object]] = {
        "all files are there": partial(_check_files, folder),
        "the metadata are complete": partial(_check_metadata, folder),
    }
    if schema is not None:
        checks["the metadata follow the schema"] = partial(_check_schema, folder, schema)
    of_configs = {
        "the network has the inputs and outputs of the metadata": _check_shapes,
        "models/model.pt fits the network": _check_weights,
        "no property is missing": _check_properties,
    }
    for config in CONFIGS:
        for words, check_config in of_configs.items():
            checks[f"{config}.json: {words}"] = partial(check_config, folder, config)
    with chdir(folder):  # where the zoo runs them; paths and bundle_root depend on it
        for words, check in checks.items():
            with _named(folder, words):
                check()
    return list(checks)


@contextmanager
def _named(folder: Path, words: str) -> Iterator[None]:
    """Name the check that fails."""
    try:
        yield
    except Exception as error:
        why = " ".join(str(error).split())[:300] or type(error).__name__
        raise VQBrainError(f"{folder.name} fails the check that {words}: {why}") from error


def _check_files(folder: Path) -> None:
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise VQBrainError(f"{', '.join(missing)} is missing")


def _check_metadata(folder: Path) -> None:
    metadata = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
    missing = [name for name in REQUIRED if name not in metadata]
    if missing:
        raise VQBrainError(f"metadata.json has no {', '.join(missing)}")


def _check_schema(folder: Path, schema: Path) -> None:
    verify_metadata(str(folder / "configs" / "metadata.json"), str(schema))


def _check_shapes(folder: Path, config: str) -> None:
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(folder / "configs" / "metadata.json"),
        config_file=str(folder / "configs" / f"{config}.json"),
        device="cpu",
    )


def _check_weights(folder: Path, config: str) -> None:
    parser = ConfigParser()
    parser.read_config(str(folder / "configs" / f"{config}.json"))
    network: torch.nn.Module = parser.get_parsed_content("network_def")
    network.load_state_dict(read_weights(folder / MODELS / "model.pt"))


def _check_properties(folder: Path, config: str) -> None:
    """Whether a configuration has all ids of MONAI's; nothing is built, as there may be no data."""
    parser = ConfigParser()
    parser.read_config(str(folder / "configs" / f"{config}.json"))
    wanted = TrainProperties if config == "train" else InferProperties
    required = (one for one in wanted.values() if one[BundleProperty.REQUIRED])
    ids = [str(one[BundlePropertyConfig.ID]) for one in required]
    missing = [name for name in ids if name not in parser]
    if missing:
        raise VQBrainError(f"missing: {', '.join(missing)}")
