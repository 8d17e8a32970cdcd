"""Race our cached samplers against the plain loop and MONAI's: CPU-seconds per image, one thread.

    python benchmarks/sampling.py --json figures.json

Ours is the prior as the bundle builds it (conditions and the previous slice included), 272 channels
wide; MONAI's is a DecoderOnlyTransformer of as many parameters within 10 %, whether those for
conditions and the previous slice are counted or not: 196 wide and 10 deep. Weights
are random: they change no time. For the errors the heads are scaled until logits have a standard
deviation of 1, and ours is given conditions and slices before. Beside the error stands that of the
network's own forward, in float32 against float64: a cached sampler cannot be nearer than that, and
both grow with the logits.

At batch 1 everything is run in full. At larger batches the baselines' steps are timed at eight
lengths of what is drawn already, and summed up over all lengths (trapezoids): those figures are
extrapolated, as the table notes. The arithmetic floor is what the multiplications and additions of
a batch would take at the rate of this machine's own large matrix products, measured in the same
run.
"""

from __future__ import annotations

import argparse
import copy
import math
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
import torch
from monai.inferers import VQVAETransformerInferer
from monai.networks.nets import DecoderOnlyTransformer
from monai.utils.ordering import Ordering
from quantizer import resident
from race import keep_memory
from standings import aligned, command_line, keep, machine, short
from torch import nn

from monai_vqbrain.inferers import (
    AncestralSampler,
    CachedLogits,
    PlainSampler,
)
from monai_vqbrain.interop import CachedTransformer, CachedTransformerInferer
from monai_vqbrain.networks import PixelCNN

CODES = 512
OURS = {"channels": 272}
MONAI = {"attn_layers_dim": 196, "attn_layers_depth": 10, "attn_layers_heads": 7}
KNOWN = {"diagnosis": ["AD", "CN"], "sex": ["F", "M"], "age": [55.0, 90.0], "position_rel": [0, 1]}
SPREAD = 1.0  # standard deviation of logits, for the errors
LENGTHS = 8  # at which a baseline's step is timed
BATCH, KEPT_BATCH = 64, 16
GOALS = (  # figure, words, must, aim, whether less is better
    ("speedup_plain_b1", "batch 1, against the plain loop", 200, 245, False),
    ("speedup_monai_b1", "batch 1, against MONAI's sample", 300, 420, False),
    ("speedup_monai_flash_b1", "batch 1, against MONAI's with flash attention", 100, 140, False),
    ("speedup_plain_b64", "batch 64, against the plain loop, extrapolated", 450, 650, False),
    ("speedup_monai_b64", "batch 64, against MONAI's sample, extrapolated", 1000, 1500, False),
    ("floor_ratio_b64", "batch 64, over the arithmetic floor", 1.4, 1.2, True),
    ("max_logit_error", "largest error of a logit in float32", 1e-5, None, True),
    ("kv_speedup_b1", "MONAI's transformer, keys and values kept, batch 1", 50, 60, False),
    ("kv_speedup_b16", "the same, batch 16, extrapolated", 200, 230, False),
    ("kv_max_logit_error", "its largest error of a logit in float32", 1e-5, None, True),
    ("extra_memory_mb_b64", "MB beyond the weights, batch 64", 100, 70, True),
)


class CodesOnly(nn.Module):
    """Stands for a VQ-VAE where images are not wanted: decoding is no part of this race."""

    num_embeddings = CODES

    def decode_samples(self, codes: torch.Tensor) -> torch.Tensor:
        """The codes as they are."""
        return codes


def main(arguments: Sequence[str] | None = None) -> None:
    """Time all participants, print the table."""
    args = parse(arguments)
    torch.set_num_threads(1)
    if args.weigh:
        print(f"{growth(args.grid):.1f}")
        return
    keep_memory()
    torch.manual_seed(0)
    found: dict[str, Any] = {}
    for part in (our_times, monai_times, errors):
        found |= part(args)
    found["extra_memory_mb_b64"] = weigh(args.grid)
    found |= ratios(found)
    print(table(found))
    found |= {"machine": machine(), "threads": 1, "rounds": args.rounds, "grid": list(args.grid)}
    print(found["machine"])
    keep(found, args.json)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = command_line(__doc__ or "")
    add = parser.add_argument
    add("--grid", type=int, nargs=2, default=[32, 32], metavar=("H", "W"))
    add(
        "--rounds",
        type=int,
        default=3,
        help="laps of ours; the baselines' take minutes and run once",
    )
    add("--weigh", action="store_true", help="only print how many MB per batch of 64 needs")
    args = parser.parse_args(arguments)
    if args.rounds < 1 or min(args.grid) < 2:
        parser.error("--rounds must be 1 or more, --grid 2 or more")
    return args


def our_prior(grid: Sequence[int]) -> PixelCNN:
    """The prior as the bundle builds it, at the size of this race."""
    prior = PixelCNN(CODES, grid, **OURS, conditions=KNOWN, neighbour=True)
    return prior.eval()


def their_prior(grid: Sequence[int], flash: bool = False) -> DecoderOnlyTransformer:
    """MONAI's transformer for grids of codes and one token that starts them."""
    return DecoderOnlyTransformer(
        CODES + 1, math.prod(grid), **MONAI, use_flash_attention=flash
    ).eval()  # fmt: skip


def our_times(args: argparse.Namespace) -> dict[str, float]:
    """CPU-seconds of ours, of the plain loop and of the arithmetic alone, an image each."""
    prior, positions = our_prior(args.grid), math.prod(args.grid)
    ask = prior.conditions.row({"age": 75})[None] if prior.conditions else None

    def draw(sampler: AncestralSampler, batch_size: int) -> None:
        sampler(prior, batch_size, torch.Generator().manual_seed(0), ask)

    draw(AncestralSampler(), 1)  # warms up
    one = median(seconds(lambda: draw(AncestralSampler(), 1)) for _ in range(args.rounds))
    say("ours, batch 1", one)
    many = [seconds(lambda: draw(AncestralSampler(), BATCH)) / BATCH for _ in range(args.rounds)]
    rate = product_rate()
    say("ours, batch 64", median(many))
    guided = seconds(lambda: draw(AncestralSampler(guidance=1.5), BATCH)) / BATCH
    say("ours, batch 64, guided", guided)
    plain_one = seconds(lambda: draw(PlainSampler(), 1))
    say("the plain loop, batch 1", plain_one)
    codes = torch.randint(CODES, (BATCH, *args.grid))
    with torch.no_grad():
        forward = min(seconds(lambda: prior(codes, ask)) for _ in range(2))
    say("the plain loop, batch 64, extrapolated", forward * positions / BATCH)
    operations = 2 * multiplications(prior)
    return {
        "our_parameters": size(prior),
        "our_parameters_bare": size(prior) - size(prior.conditions) - size(prior.neighbour),
        "flop_per_position": operations,
        "gflop_per_second": rate / 1e9,
        "seconds_b1": one,
        "seconds_b64": median(many),
        "seconds_guided_b64": guided,
        "seconds_plain_b1": plain_one,
        "seconds_plain_b64": forward * positions / BATCH,
        "seconds_floor": operations * positions / rate,
    }


def monai_times(args: argparse.Namespace) -> dict[str, float]:
    """CPU-seconds per image of MONAI's sampler, and of ours on MONAI's transformer."""
    found: dict[str, float] = {}
    theirs, kept = VQVAETransformerInferer(), CachedTransformerInferer()
    prior = their_prior(args.grid)
    found["monai_parameters"] = size(prior)
    sample(kept, prior, 1, args.grid)  # warms up
    found["seconds_kv_b1"] = seconds(lambda: sample(kept, prior, 1, args.grid))
    found["seconds_kv_b16"] = seconds(lambda: sample(kept, prior, KEPT_BATCH, args.grid))
    found["seconds_kv_b16"] /= KEPT_BATCH
    say("MONAI's transformer, keys and values kept, batch 16", found["seconds_kv_b16"])
    for name, flash in (("monai", False), ("monai_flash", True)):
        network = their_prior(args.grid, flash)
        time_one = seconds(lambda network=network: sample(theirs, network, 1, args.grid))
        found[f"seconds_{name}_b1"] = time_one
        say(f"{name}, batch 1", time_one)
    for batch in (KEPT_BATCH, BATCH):
        found[f"seconds_monai_b{batch}"] = extrapolated(prior, batch, math.prod(args.grid)) / batch
        say(f"monai, batch {batch}, extrapolated", found[f"seconds_monai_b{batch}"])
    return found


def sample(inferer: Any, prior: nn.Module, batch: int, grid: Sequence[int]) -> None:
    """Draw grids of codes with MONAI's interface."""
    ordering = Ordering("raster_scan", 2, (1, *grid))
    start = torch.full((batch, 1), CODES)
    inferer.sample(tuple(grid), start, CodesOnly(), prior, ordering, verbose=False)


@torch.no_grad()
def extrapolated(prior: nn.Module, batch: int, positions: int) -> float:
    """CPU-seconds of all steps of MONAI's loop, from steps timed at a few lengths."""
    lengths = np.unique(np.linspace(1, positions, LENGTHS).round().astype(int))
    times = []
    for length in lengths:
        tokens = torch.randint(CODES, (batch, int(length)))

        def step(tokens: torch.Tensor = tokens) -> None:
            prior(tokens)[:, -1].softmax(-1).multinomial(1)

        times.append(seconds(step))
    every = np.arange(1, positions + 1)
    return float(np.interp(every, lengths, times).sum())


@torch.no_grad()
def errors(args: argparse.Namespace) -> dict[str, float]:
    """How far cached logits lie from those of whole forwards, at most, on random codes."""
    prior, transformer = our_prior(args.grid), their_prior(args.grid)
    codes, before = torch.randint(CODES, (2, 4, *args.grid))
    assert prior.conditions is not None
    ask = prior.conditions.row({"diagnosis": "AD", "age": 75})[None]
    spread(prior.head, prior(codes, ask, before))
    expected, wrong = prior(codes, ask, before), 0.0
    exact = copy.deepcopy(prior).double()(codes, ask, before)
    walk = CachedLogits(prior, 4, ask, before)
    for row in range(args.grid[0]):
        walk.begin_row(row)
        for column in range(args.grid[1]):
            difference = walk.logits(column) - expected[:, :, row, column]
            wrong = max(wrong, float(difference.abs().max()))
            walk.write(column, codes[:, row, column])
    tokens = torch.cat((torch.full((4, 1), CODES), codes.flatten(1)[:, :-1]), dim=1)
    spread(transformer.to_logits, transformer(tokens))
    steps = CachedTransformer(transformer, 4, tokens.shape[1])
    found = torch.stack([steps.logits(token) for token in tokens.unbind(1)], dim=1)
    kept = float((found - transformer(tokens)).abs().max())
    return {
        "max_logit_error": wrong,
        "kv_max_logit_error": kept,
        "largest_logit": float(expected.abs().max()),
        "plain_logit_error": float((expected - exact).abs().max()),
    }


def spread(head: nn.Module, logits: torch.Tensor) -> None:
    """Scale the last layer until its logits' standard deviation is SPREAD."""
    for parameter in head.parameters():
        parameter.mul_(SPREAD / logits.std())


def multiplications(prior: PixelCNN) -> int:
    """Multiplications with weights for one position of one grid; conditions come once per grid."""
    layers = [prior.above, prior.left, prior.join, prior.head]
    for block in prior.blocks:
        layers += [m for m in block.modules() if isinstance(m, nn.Conv2d)]
    return sum(layer.weight.numel() for layer in layers)


def size(network: nn.Module | None) -> int:
    """How many parameters."""
    return 0 if network is None else sum(p.numel() for p in network.parameters())


def product_rate(size: int = 1536) -> float:
    """Operations a second of a large matrix product in float32, the best of a few."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    best = min(seconds(lambda: a @ b) for _ in range(8))
    return 2 * size**3 / best


def weigh(grid: Sequence[int]) -> float:
    """`growth`, measured in a new process."""
    command = [sys.executable, __file__, "--weigh", "--grid", *map(str, grid)]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(run.stdout.splitlines()[-1])


@torch.no_grad()
def growth(grid: Sequence[int]) -> float:
    """MB by which sampling a batch of 64 raises the peak of resident memory, weights apart."""
    prior = our_prior(grid)
    codes = torch.randint(CODES, (1, *grid))
    prior(codes)  # what the libraries load
    with open("/proc/self/clear_refs", "w") as file:  # noqa: PTH123  the peak begins again
        file.write("5")
    before = resident("VmRSS")
    AncestralSampler()(prior, BATCH, torch.Generator().manual_seed(0))
    return resident("VmHWM") - before


def seconds(work: Callable[[], Any]) -> float:
    """CPU-seconds of this process."""
    began = time.process_time()
    work()
    return time.process_time() - began


def say(what: str, time_of_one: float) -> None:
    """A line while it lasts."""
    print(f"{what}: {time_of_one:.3f} CPU-s an image", flush=True)


def ratios(found: Mapping[str, float]) -> dict[str, float]:
    """Every comparison by its plain name."""
    more = {}
    for batch in ("b1", "b64"):
        for peer in ("plain", "monai", "monai_flash"):
            if f"seconds_{peer}_{batch}" in found:
                ratio = found[f"seconds_{peer}_{batch}"] / found[f"seconds_{batch}"]
                more[f"speedup_{peer}_{batch}"] = ratio
    for batch in ("b1", "b16"):
        ratio = found[f"seconds_monai_{batch}"] / found[f"seconds_kv_{batch}"]
        more[f"kv_speedup_{batch}"] = ratio
    return more | {
        "floor_ratio_b64": found["seconds_b64"] / found["seconds_floor"],
        "guidance_cost_b64": found["seconds_guided_b64"] / found["seconds_b64"],
    }


def table(found: Mapping[str, float]) -> str:
    """The ratios beside what was to be reached, and what they rest on."""
    rows = [["", "found", "must", "aim", ""]]
    for name, words, must, aim, less in GOALS:
        value, sign = found[name], -1 if less else 1
        met = [sign * value >= sign * goal for goal in (must, must if aim is None else aim)]
        verdict = "aim met" if met[1] else "must met" if met[0] else "missed"
        cells = [f"{v:.1e}" if "error" in name else short(v) for v in (value, must)]
        rows.append([words, *cells, short(aim), verdict])
    facts = (
        f"parameters: ours {found['our_parameters']:,.0f}, without conditions' and neighbour's "
        f"encoders {found['our_parameters_bare']:,.0f}, MONAI's "
        f"{found['monai_parameters']:,.0f}; ours {found['flop_per_position'] / 1e6:.2f} MFLOP per "
        f"position; largest logit {found['largest_logit']:.0f}, the forward's own error "
        f"{found['plain_logit_error']:.1e}; matrix products "
        f"{found['gflop_per_second']:.0f} GFLOP/s; guidance costs "
        f"{found['guidance_cost_b64']:.2f}x"
    )
    return f"\n{aligned(rows)}\n{facts}"


if __name__ == "__main__":
    main()
