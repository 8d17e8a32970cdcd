"""Codes to train priors on: the slices of a race, encoded by a VQ-VAE that is trained once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import racers
import torch
from monai.utils import set_determinism
from race import Slices, load, score, train

from monai_vqbrain import metrics
from monai_vqbrain.files import writing
from monai_vqbrain.options import json_or_text
from monai_vqbrain.runs.overrides import check_overrides
from monai_vqbrain.runs.views import MAX_VIEWS, slice_views
from monai_vqbrain.transforms import ViewSliced

SPLITS = ("training", "validation", "test")


@dataclass(frozen=True)
class Codes:
    """Code grids (N, h, w) of one split, and whose they are."""

    grids: torch.Tensor
    participants: list[str]


@dataclass(frozen=True)
class Cohort:
    """The codes of all splits, and the VQ-VAE that they come from.

    Args:
        codes: by split, and "views": the training slices in all views that `encode` leaves.
        vectors: what each code stands for, (K, D).
        vqvae: its SSIM in the brain and codes in use, on the participants to score.
    """

    codes: Mapping[str, Codes]
    vectors: torch.Tensor
    vqvae: Mapping[str, float]

    @property
    def num_codes(self) -> int:
        """K, the size of the codebook."""
        return len(self.vectors)

    @property
    def grid(self) -> tuple[int, ...]:
        """(h, w)."""
        return tuple(self.codes["training"].grids.shape[1:])

    def unigram(self, split: str) -> float:
        """Bits per code of each position's own histogram of training codes.

        It is smoothed as suits validation participants best.
        """
        parts = (self.codes[name].grids.numpy() for name in ("training", "validation", split))
        training, validation, held_out = parts
        unigram = metrics.Unigram.fit(training, self.num_codes)
        bits = unigram.bits(held_out, concentrations=unigram.choose(validation))
        return metrics.over_participants(
            bits / training[0].size, self.codes[split].participants
        ).mean


def encode(run: Path, work: Path, seconds: float, split: str, variant: str = "") -> Cohort:
    """Encode all slices of a run with the shipped VQ-VAE, trained for this many CPU-seconds.

    Its weights are kept in `work`, under a name made of all that decides them.

    Args:
        run: with prepared slices.
        work: a folder.
        seconds: to train for.
        split: the participants to score it on.
        variant: what the VQ-VAE has other than the shipped recipe at 8 x 8 pixels per code, as of
            `vqbrain train vqvae --set`, several parted by spaces.

    Raises:
        UsageError: if the configuration has no such id.
    """
    slices = {name: load(run, name) for name in SPLITS}
    set_determinism(0)
    pairs = [pair.split("=", 1) for pair in variant.split()]
    values = {name: json_or_text(text) for name, text in pairs}
    changes = check_overrides("vqvae", "train", values)
    racer = racers.ours({"factor": 8}, changes)
    network = racer.network if racer.averaged is None else racer.averaged
    path = work / f"vqvae-{seconds:g}s-{fingerprint(slices['training'], variant)}.pt"
    if path.is_file():
        network.load_state_dict(torch.load(path, weights_only=True))
    else:
        print(f"training the VQ-VAE {variant}: {seconds:g} CPU-s", flush=True)
        train(racer, slices["training"], seconds)
        with writing(path) as temporary:
            torch.save(network.state_dict(), temporary)
    found = score(network, slices[split])
    codes = {
        n: Codes(encoded(network, part.images), part.participants) for n, part in slices.items()
    }
    codes["views"] = views(network, slices["training"])
    kept = {key: found[key] for key in ("ssim_brain", "codes_used")}
    return Cohort(codes, code_vectors(network), kept)


def views(vqvae: Any, slices: Slices) -> Codes:
    """The codes of slices in the views of `vqbrain encode`, view after view."""
    view = ViewSliced("image")
    every = slice_views(MAX_VIEWS)
    grids = [encoded(vqvae, torch.stack([view({"image": image, **about})["image"]
             for image in slices.images])) for about in every]  # fmt: skip
    return Codes(torch.cat(grids), slices.participants * len(every))


@torch.inference_mode()
def code_vectors(vqvae: Any) -> torch.Tensor:
    """What the codes of a VQ-VAE with one group stand for: (K, D)."""
    vectors: torch.Tensor = vqvae.quantizer.embed(torch.arange(vqvae.num_embeddings)[None])
    return vectors[0].T


@torch.inference_mode()
def encoded(vqvae: Any, images: torch.Tensor) -> torch.Tensor:
    """The codes (N, h, w) of images (N, 1, W, H)."""
    return torch.cat([vqvae.index_quantize(part) for part in images.split(16)])


def fingerprint(slices: Slices, variant: str) -> str:
    """A short hash of the slices, the recipe, and what is changed in it."""
    digest = hashlib.sha256(f"{racers.fingerprint(None)} {variant}".encode())
    digest.update(slices.images.numpy().tobytes())
    return digest.hexdigest()[:12]
