"""Race our prior against MONAI's transformer: bits a code on people whom neither has seen.

    python benchmarks/prior.py --data ds002748 --work prior-race --json figures.json

The shipped VQ-VAE with 8 x 8 pixels a code is trained for 600 CPU-seconds and encodes all slices.
On these codes both priors train from random weights, for each budget anew, with the bundle's own
optimiser, swapped codes and batch size, on one thread. Every tenth of the budget, the clock
stopped, validation people are scored, and the weights that did best on them score the test people.
Both know the codes of a slice and nothing else. Bits are means over a person's slices, then over
people. The unigram gives each position its own smoothed histogram of training codes.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import racers
import torch
import torch.nn.functional as F
from monai.bundle import ConfigParser
from monai.networks.nets import DecoderOnlyTransformer
from monai.utils import set_determinism
from race import (
    Slices,
    draw,
    keep_memory,
    load,
    parameters,
    run_with_slices,
    score,
    slices_options,
    train,
)
from standings import aligned, command_line, keep, machine, short
from torch import nn

from monai_vqbrain import metrics
from monai_vqbrain.engines import CodeBitsLoss, PriorBatch
from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.files import writing
from monai_vqbrain.networks import PixelCNN
from monai_vqbrain.stages.bundle import bundle_folder

BUDGETS = (70, 300)  # CPU-seconds
VQVAE_SECONDS = 600
CODES = 512
LOOKS = 10  # at validation people, in each budget
GOALS = {  # figure -> words, must, aim
    "bits_below_monai_70s": ("bits below MONAI's transformer, 70 CPU-s", 1.2, 1.4),
    "bits_below_unigram_70s": ("bits below the unigram, 70 CPU-s", 0.9, 1.0),
    "bits_below_monai_300s": ("bits below MONAI's transformer, 300 CPU-s", 0.6, 0.9),
    "bits_below_unigram_300s": ("bits below the unigram, 300 CPU-s", 1.0, 1.2),
}


@dataclass(frozen=True)
class Codes:
    """Code grids (N, h, w) of one split, and whose they are."""

    grids: torch.Tensor
    people: list[str]


class Transformer(nn.Module):
    """MONAI's DecoderOnlyTransformer with the interface of a PixelCNN: logits of whole grids."""

    def __init__(self, grid: Sequence[int], width: int = 128, layers: int = 5) -> None:
        super().__init__()
        self.transformer = DecoderOnlyTransformer(
            num_tokens=CODES + 1, max_seq_len=grid[0] * grid[1], attn_layers_dim=width,
            attn_layers_depth=layers, attn_layers_heads=4, embedding_dropout_rate=0.1,
            use_flash_attention=True,
        )  # fmt: skip

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """(B, h, w) codes -> (B, K, h, w) logits, each from the codes before it."""
        start = torch.full((len(codes), 1), CODES)
        tokens = torch.cat((start, codes.flatten(1)[:, :-1]), dim=1)
        logits = self.transformer(tokens)[..., :CODES]
        return logits.movedim(-1, 1).unflatten(2, codes.shape[1:])


def main(arguments: Sequence[str] | None = None) -> None:
    """Encode, race, print the table."""
    args = parse(arguments)
    torch.set_num_threads(1)
    keep_memory()
    run = run_with_slices(args)
    slices = {split: load(run, split) for split in ("training", "validation", "test")}
    vqvae, found = trained_vqvae(slices, args)
    codes = {name: encoded(vqvae, part) for name, part in slices.items()}
    found["unigram"] = unigram(codes, args.split)
    for budget in BUDGETS:
        for name in ("ours", "monai"):
            results = [raced(name, codes, budget, seed, args) for seed in args.seeds]
            for key in results[0]:
                found[f"{name}_{key}_{budget}s"] = float(np.median([r[key] for r in results]))
    found |= compared(found)
    print(table(found))
    found |= {"machine": machine(), "threads": 1, "seeds": args.seeds, "split": args.split}
    print(found["machine"])
    keep(found, args.json)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = command_line(__doc__ or "")
    add = parser.add_argument
    slices_options(parser, "prior-race")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="SEED")
    add("--split", choices=["validation", "test"], default="test", help="whom to score")
    add("--cpu-seconds", type=float, default=BUDGETS[-1], help="of the longest; scales all")
    args = parser.parse_args(arguments)
    if args.run is None and args.data is None:
        parser.error("give --data DIR or --run RUN")
    if not args.cpu_seconds > 0:
        parser.error("--cpu-seconds must be above 0")
    return args


def trained_vqvae(
    slices: Mapping[str, Slices], args: argparse.Namespace
) -> tuple[nn.Module, dict[str, Any]]:
    """The shipped VQ-VAE at 8 x 8 pixels a code, and how good it is; trained once a work folder."""
    seconds = VQVAE_SECONDS * args.cpu_seconds / BUDGETS[-1]
    path = args.work / f"vqvae-{seconds:g}s-{racers.fingerprint(None)[:12]}.pt"
    racer = racers.build("ours", "16x16", seed=0)
    network = racer.network if racer.averaged is None else racer.averaged
    if path.is_file():
        network.load_state_dict(torch.load(path, weights_only=True))
    else:
        print(f"training the VQ-VAE: {seconds:g} CPU-s", flush=True)
        train(racer, slices["training"], seconds)
        with writing(path) as temporary:
            torch.save(network.state_dict(), temporary)
    found = score(network, slices[args.split])
    return network, {f"vqvae_{key}": found[key] for key in ("ssim_brain", "codes_used")}


@torch.inference_mode()
def encoded(vqvae: Any, slices: Slices) -> Codes:
    """The codes of all slices of a split."""
    grids = torch.cat([vqvae.index_quantize(images) for images in slices.images.split(16)])
    return Codes(grids, slices.people)


def unigram(codes: Mapping[str, Codes], split: str) -> float:
    """Bits a code of each position's own histogram, smoothed as suits validation people best."""
    training, validation, held_out = (
        codes[name].grids.numpy() for name in ("training", "validation", split)
    )
    concentration = metrics.choose_concentration(training, validation, CODES)
    bits = metrics.unigram_bits(training, held_out, CODES, concentration) / training[0].size
    return metrics.over_participants(bits, codes[split].people).mean


def raced(
    name: str, codes: Mapping[str, Codes], budget: int, seed: int, args: argparse.Namespace
) -> dict[str, float]:
    """Train one prior; its bits on the people to score, steps, and parameters."""
    set_determinism(seed)
    grid = codes["training"].grids.shape[1:]
    network = ours(grid) if name == "ours" else Transformer(grid)
    seconds = budget * args.cpu_seconds / BUDGETS[-1]
    best, steps = fit(network, codes, seconds)
    result = {
        "bits": bits_of(best, codes[args.split]),
        "validation_bits": bits_of(best, codes["validation"]),
        "steps": steps,
        "parameters": parameters(network),
    }
    print(f"{name}, {seconds:g} CPU-s, seed {seed}: {json.dumps(result)}", flush=True)
    return result


def ours(grid: Sequence[int]) -> PixelCNN:
    """The bundle's prior, without conditions, at about a million parameters."""
    settings = {k: v for k, v in config()["network_def"].items() if k == "dropout"}
    return PixelCNN(CODES, grid, channels=112, **settings)


def config() -> ConfigParser:
    """The configuration that ships."""
    parser = ConfigParser()
    parser.read_config(str(bundle_folder("pixelcnn") / "configs" / "train.json"))
    return parser


def fit(network: nn.Module, codes: Mapping[str, Codes], seconds: float) -> tuple[nn.Module, int]:
    """Train for so many CPU-seconds; the weights that validation people liked best, and steps."""
    shipped = config()
    settings = {k: v for k, v in shipped["optimizer"].items() if k not in ("_target_", "params")}
    optimizer = torch.optim.AdamW(network.parameters(), **settings)
    prepare_batch = PriorBatch(swapped=shipped["train"]["trainer"]["prepare_batch"]["swapped"])
    grids, loss = codes["training"].grids, CodeBitsLoss()
    draws = draw(len(grids), shipped["batch_size"])
    best, least, spent, steps, looks = copy.deepcopy(network), float("inf"), 0.0, 0, 0
    while spent < seconds:
        began = time.process_time()
        optimizer.param_groups[0]["lr"] = settings["lr"] * max(racers.cosine(spent / seconds), 1e-3)
        network.train()
        inputs, targets, *_ = prepare_batch({"codes": grids[next(draws)]}, torch.device("cpu"))
        optimizer.zero_grad()
        loss(network(inputs), targets).backward()
        optimizer.step()
        spent, steps = spent + time.process_time() - began, steps + 1
        if spent >= seconds * (looks + 1) / LOOKS:
            looks, found = looks + 1, bits_of(network, codes["validation"])
            if found < least:
                best, least = copy.deepcopy(network), found
    return best, steps


@torch.inference_mode()
def bits_of(network: nn.Module, codes: Codes) -> float:
    """Bits a code, a mean over people."""
    network.eval()
    means: list[float] = []
    for grids in codes.grids.split(16):
        nats = F.cross_entropy(network(grids), grids, reduction="none")
        means += (nats.mean((1, 2)) / np.log(2)).tolist()
    return metrics.over_participants(means, codes.people).mean


def compared(found: Mapping[str, float]) -> dict[str, float]:
    """How many bits ours lies below the others."""
    more = {}
    for budget in BUDGETS:
        mine = found[f"ours_bits_{budget}s"]
        more[f"bits_below_monai_{budget}s"] = found[f"monai_bits_{budget}s"] - mine
        more[f"bits_below_unigram_{budget}s"] = found["unigram"] - mine
    return more


def table(found: Mapping[str, float]) -> str:
    """Bits of all, then what was to be reached."""
    rows = [["bits a code", "70 CPU-s", "steps", "300 CPU-s", "steps", "parameters"]]
    for name in ("ours", "monai"):
        cells = [
            f"{found[f'{name}_{key}_{budget}s']:{form}}"
            for budget in BUDGETS
            for key, form in (("bits", ".3f"), ("steps", ".0f"))
        ]
        rows.append([name, *cells, f"{found[f'{name}_parameters_300s']:,.0f}"])
    rows.append(["unigram", short(found["unigram"]), "", short(found["unigram"]), "", ""])
    goals = [["", "found", "must", "aim", ""]]
    for name, (words, must, aim) in GOALS.items():
        value = found[name]
        verdict = "aim met" if value >= aim else "must met" if value >= must else "missed"
        goals.append([words, short(value), short(must), short(aim), verdict])
    facts = (
        f"codes of a VQ-VAE with in-brain SSIM {found['vqvae_ssim_brain']:.3f}, "
        f"{found['vqvae_codes_used']:.0f} of {CODES} codes in use"
    )
    return f"\n{aligned(rows)}\n\n{aligned(goals)}\n{facts}"


if __name__ == "__main__":
    try:
        main()
    except VQBrainError as error:
        raise SystemExit(str(error)) from None
