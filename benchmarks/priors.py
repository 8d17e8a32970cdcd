"""Racers for bits per code: our prior as the bundle ships it, and MONAI's transformer."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from coded import Codes, Cohort
from monai.bundle import ConfigParser
from monai.networks.nets import DecoderOnlyTransformer
from monai.utils import set_determinism
from race import draw
from racers import SCHEDULES, cosine
from torch import nn

from monai_vqbrain import metrics
from monai_vqbrain.engines import CodeBitsLoss, PriorBatch
from monai_vqbrain.inferers import MixedPrecisionInferer
from monai_vqbrain.runs.bundles import bundle_folder

LOOKS = 10  # at validation participants, in each budget
WIDTH = 128  # of ours: about a million parameters


@dataclass(frozen=True)
class PriorRacer:
    """A prior with random weights, and all that trains it.

    Args:
        network: codes (B, h, w) to logits (B, K, h, w).
        optimizer: its rates are the highest that it will have.
        prepare_batch: of a drawn batch, gives inputs and targets.
        inferer: of (inputs, network), gives logits.
        batch_size: slices per step.
        views: train on shifted slices too.
        rate: the part of the budget that is spent, [0, 1], to the factor of the learning rates.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    prepare_batch: PriorBatch
    inferer: Callable[..., torch.Tensor]
    batch_size: int
    views: bool
    rate: Callable[[float], float] = cosine


@dataclass(frozen=True)
class Settings:
    """How MONAI's transformer is set up and trained; the defaults are the best on validation.

    Args:
        lr: of AdamW, the highest.
        batch_size: slices per step.
        dropout: of its embedding and blocks.
        swapped: the share of a batch's input codes that are replaced, as in our recipe.
        decay: of weights.
        bfloat16: autocast where the CPU computes in it.
        views: train on shifted slices too.
        schedule: a key of SCHEDULES.
    """

    lr: float = 0.004
    batch_size: int = 8
    dropout: float = 0.0
    swapped: float = 0.15
    decay: float = 0.01
    bfloat16: bool = True
    views: bool = True
    schedule: str = "cosine"


USUAL = Settings(lr=0.0005, swapped=0, decay=0, bfloat16=False, views=False, schedule="constant")


class Transformer(nn.Module):
    """MONAI's DecoderOnlyTransformer with the interface of a PixelCNN: logits of whole grids."""

    def __init__(self, grid: Sequence[int], num_codes: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.num_codes = num_codes
        self.transformer = DecoderOnlyTransformer(
            num_codes + 1, math.prod(grid), attn_layers_dim=128, attn_layers_depth=5,
            attn_layers_heads=4, embedding_dropout_rate=dropout, use_flash_attention=True,
        )  # fmt: skip
        for block in self.transformer.blocks:
            block.mlp.drop1.p = block.mlp.drop2.p = dropout

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """(B, h, w) codes -> (B, K, h, w) logits, each from the codes before it."""
        start = torch.full((len(codes), 1), self.num_codes)
        tokens = torch.cat((start, codes.flatten(1)[:, :-1]), dim=1)
        logits = self.transformer(tokens)[..., : self.num_codes]
        return logits.movedim(-1, 1).unflatten(2, codes.shape[1:])


def ours(cohort: Cohort, seed: int, overrides: Mapping[str, Any] | None = None) -> PriorRacer:
    """Our prior without conditions or the previous slice, from the shipped train.json.

    Args:
        cohort: whose codes it will learn.
        seed: of its weights, and of all that is drawn later.
        overrides: values by the configuration's ids.
    """
    set_determinism(seed)
    parser = ConfigParser()
    parser.read_config(str(bundle_folder("pixelcnn") / "configs" / "train.json"))
    known = {"device": "$torch.device('cpu')", "code_shape": [cohort.num_codes, *cohort.grid]}
    parser.update(known | {"conditions": None, "neighbour": False})
    parser["network_def"]["channels"] = WIDTH
    parser.update(dict(overrides or {}))
    get = parser.get_parsed_content
    network = get("network")
    network.set_code_features(cohort.vectors)
    return PriorRacer(
        network=network,
        optimizer=get("optimizer"),
        prepare_batch=get("train#trainer#prepare_batch"),
        inferer=get("train#inferer"),
        batch_size=get("batch_size"),
        views=get("views"),
    )


def monai(cohort: Cohort, seed: int, settings: Settings = Settings()) -> PriorRacer:
    """MONAI's transformer, 5 blocks deep and 128 wide.

    Args:
        cohort: whose codes it will learn.
        seed: of its weights, and of all that is drawn later.
        settings: how it is trained.
    """
    set_determinism(seed)
    network = Transformer(cohort.grid, cohort.num_codes, settings.dropout)
    return PriorRacer(
        network=network,
        optimizer=torch.optim.AdamW(
            network.parameters(), settings.lr, (0.9, 0.95), weight_decay=settings.decay, fused=True
        ),
        prepare_batch=PriorBatch(swapped=settings.swapped),
        inferer=MixedPrecisionInferer("auto" if settings.bfloat16 else False),
        batch_size=settings.batch_size,
        views=settings.views,
        rate=SCHEDULES[settings.schedule],
    )


def fit(racer: PriorRacer, cohort: Cohort, seconds: float) -> tuple[nn.Module, int]:
    """Train for this many CPU-seconds; the weights with the best validation score, and steps."""
    rates = [group["lr"] for group in racer.optimizer.param_groups]
    names = ["training", "views"] if racer.views else ["training"]
    grids, loss = torch.cat([cohort.codes[name].grids for name in names]), CodeBitsLoss()
    draws = draw(len(grids), racer.batch_size)
    best, least, spent, steps, looks = racer.network, float("inf"), 0.0, 0, 0
    while spent < seconds:
        began = time.process_time()
        for group, rate in zip(racer.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * max(racer.rate(spent / seconds), 1e-3)
        racer.network.train()
        batch = {"codes": grids[next(draws)]}
        inputs, targets, *_ = racer.prepare_batch(batch, torch.device("cpu"))
        racer.optimizer.zero_grad()
        loss(racer.inferer(inputs, racer.network), targets).backward()
        racer.optimizer.step()
        spent, steps = spent + time.process_time() - began, steps + 1
        if spent >= seconds * (looks + 1) / LOOKS:
            looks, found = looks + 1, bits_of(racer.network, cohort.codes["validation"])
            if found < least:
                best, least = copy.deepcopy(racer.network), found
    return best, steps


@torch.inference_mode()
def bits_of(network: nn.Module, codes: Codes) -> float:
    """Bits per code in float32, a mean over a participant's slices, then over participants."""
    network.eval()
    parts = [bits_by_slice(network, grids) for grids in codes.grids.split(16)]
    means = (torch.cat(parts) / math.prod(codes.grids.shape[1:])).tolist()
    return metrics.over_participants(means, codes.participants).mean


@torch.inference_mode()
def bits_by_slice(network: nn.Module, grids: torch.Tensor) -> torch.Tensor:
    """Bits of each whole slice, (B,), of a network in evaluation mode."""
    nats = F.cross_entropy(network(grids), grids, reduction="none")
    return nats.sum((1, 2)) / math.log(2)
