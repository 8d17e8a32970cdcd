"""The weights that a training starts from, in place of random ones."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.runs.packaged import find_start
from monai_vqbrain.runs.records import network_settings
from monai_vqbrain.weights import read_weights

logger = logging.getLogger(__name__)

LEAST = 0.5  # share of a network's weights that must fit
SAME_CODES = 0.5  # similarity of two codebooks, see `_similarity`, from which codes mean the same
QUANTIZER = "quantizer."
CODE_TABLES = ("embedding.", "head.", "within.", "likeness.")
OWN_PARTS = ("plan.",)  # fitted to the run's own participants
ENCODERS = "conditions.encoders."
SHAPES = ("num_codes", "grid", "conditions", "late_conditions")  # settings that may differ

State = dict[str, Tensor]


def start_network(network: Any, start_from: str | None, which: str) -> Any:
    """Give a network the weights of another training as far as they fit; return the network.

    A weight fits if the network has one of the same name and shape. One line reports which parts do
    not. Of a VQ-VAE the codebook is taken with its moving averages or not at all: then it is
    initialised from the first batch, as without a start. Of a prior:

    - The tables of the codes are taken if the codes mean the same, that is, if their features are
      similar. The features of the run's own codebook are rotated to those of the start.
    - The parts of a condition follow its name, those of a category its values.
    - What describes participants (late conditions, plan) is not taken: it is the cohort's own.

    Args:
        network: a BrainVQVAE; or a PixelCNN, with its code features set.
        start_from: see `find_start`; None for no start.
        which: "vqvae" or "prior".

    Raises:
        UsageError: if there are no such weights.
        VQBrainError: if the file is damaged, or less than half of the network's weights fit.
    """
    if start_from is None:
        return network
    path = find_start(start_from, which)
    given, settings = _read_state(path), _settings(path)
    if which == "vqvae":
        given = _without_partial_codebook(given, network.state_dict())
    else:
        given = _without_foreign_codes(given, network)
        given = _with_own_conditions(given, settings.get("conditions", {}), network)
    own = network.state_dict()
    taken = {n: w for n, w in given.items() if n in own and w.shape == own[n].shape}
    share = _weights_of(network, taken) / _weights_of(network, own)
    if share < LEAST:
        raise VQBrainError(
            f"start_from {start_from}: only {100 * share:.0f} % of this network's weights fit"
            f"{_differences(network.settings, settings)}: train with the settings of the start, or "
            "without one"
        )
    network.load_state_dict(taken, strict=False)
    left_out = _left_out([name for name in own if name not in taken])
    logger.info("starting from %s: %.0f %% of the weights%s", start_from, 100 * share, left_out)
    return network


def _read_state(path: Path) -> State:
    try:
        state = read_weights(path)
    except ValueError as error:
        raise VQBrainError(f"{path} cannot be read as weights ({error})") from error
    is_state = isinstance(state, dict) and all(isinstance(w, Tensor) for w in state.values())
    if not is_state or not state:
        raise VQBrainError(f"{path} is no state dict: give a model.pt, as a training writes it")
    found: State = state
    return found


def _settings(path: Path) -> dict[str, Any]:
    """The settings of the network, if they lie beside its weights."""
    beside = path.with_name("config.json").is_file()
    return network_settings(path.parent) if beside else {}


def _weights_of(network: nn.Module, state: Mapping[str, Tensor]) -> int:
    """The number of trained weights in a part of a network's state."""
    return sum(w.numel() for name, w in network.named_parameters() if name in state)


def _differences(settings: Mapping[str, Any], start: Mapping[str, Any]) -> str:
    """Settings in which two networks differ, in parentheses."""
    names = [n for n in settings if n in start and n not in SHAPES and settings[n] != start[n]]
    found = ", ".join(f"{name} is {settings[name]}, there {start[name]}" for name in names)
    return f" ({found})" if found else ""


def _left_out(names: Sequence[str]) -> str:
    """The parts of a network that weights belong to, and what to do about the codes' tables."""
    parts = sorted({name.partition(".")[0] for name in names})
    advice = " (the codes are others: start the VQ-VAE from there, too)"
    hint = advice if "embedding" in parts else ""
    return f"; not taken: {', '.join(parts)}{hint}" if parts else ""


def _without_partial_codebook(given: State, own: Mapping[str, Tensor]) -> State:
    names = [name for name in own if name.startswith(QUANTIZER)]
    if all(name in given and given[name].shape == own[name].shape for name in names):
        return given
    return {name: weight for name, weight in given.items() if not name.startswith(QUANTIZER)}


def _without_foreign_codes(given: State, network: Any) -> State:
    """Drop the tables of the codes if they are of other codes; else rotate the own features."""
    theirs = given.get("likeness.features")
    own = None if network.likeness is None else network.likeness.features
    if theirs is None or own is None or own.shape != theirs.shape:
        same = False
    else:
        same = _similarity(own, theirs) >= SAME_CODES
    if not same:
        return {name: w for name, w in given.items() if not name.startswith(CODE_TABLES)}
    assert own is not None
    assert theirs is not None
    own.copy_(own @ _rotation(own, theirs))
    return {name: w for name, w in given.items() if name != "likeness.features"}


def _similarity(one: Tensor, other: Tensor) -> float:
    """Similarity of the code likenesses that two tables of features (K, D) imply, 0 to 1.

    It does not change when either table is rotated.

    Source: Kornblith et al. 2019, arXiv 1905.00414 (linear centred kernel alignment).
    """
    one, other = (table.double() - table.double().mean(0) for table in (one, other))
    norm = (one.T @ one).norm() * (other.T @ other).norm()
    return float((one.T @ other).square().sum() / norm) if norm > 0 else 0.0


def _rotation(one: Tensor, other: Tensor) -> Tensor:
    """The rotation (D, D) that brings the rows of a table (K, D) nearest to those of another."""
    left, _, right = torch.linalg.svd(one.double().T @ other.double())
    return (left @ right).to(one)


def _with_own_conditions(given: State, theirs: Mapping[str, list[Any]], network: Any) -> State:
    """The conditions' parts under the network's own places, without late conditions and plan."""
    found = {
        name: weight
        for name, weight in given.items()
        if not name.startswith((ENCODERS, *OWN_PARTS)) and ".late_condition." not in name
    }
    settings, own = network.settings, network.state_dict()
    for place, (condition, values) in enumerate(settings["conditions"].items()):
        if condition not in theirs or condition in settings["late_conditions"]:
            continue
        there = f"{ENCODERS}{list(theirs).index(condition)}."
        for name in (name for name in given if name.startswith(there)):
            renamed = f"{ENCODERS}{place}.{name.removeprefix(there)}"
            weight = given[name]
            if isinstance(values[0], str) and renamed in own:
                weight = _rows_of_values(weight, own[renamed], theirs[condition], values)
            found[renamed] = weight
    return found


def _rows_of_values(given: Tensor, own: Tensor, theirs: list[Any], values: list[Any]) -> Tensor:
    """A category's table: given rows for values that both have, and for a missing one, else own."""
    if given.shape[1:] != own.shape[1:]:
        return given  # it does not fit
    table = own.clone()
    table[-1] = given[-1]
    for place, value in enumerate(values):
        if value in theirs:
            table[place] = given[theirs.index(value)]
    return table
