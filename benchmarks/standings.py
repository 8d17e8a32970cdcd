"""What is raced, and how it ended: flat figures, and tables beside what was to be reached."""

from __future__ import annotations

import argparse
import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from monai_vqbrain.files import writing

BUDGETS = (120, 300, 600)  # CPU-seconds
SHORT = (60, 80, 100, 120, 160)
LONGEST = 600
MEASURES = (
    "ssim_brain", "ssim_whole", "psnr_brain", "psnr_whole", "codes_used", "parameters",
    "slices_per_second",
)  # fmt: skip
PREFIX = {"ours": "", "tuned": "monai_", "further": "monai_further_"}
PEERS = {"monai_": "", "monai_further_": "_further"}  # prefix -> what stands in a comparison's name

Runs = Sequence[Mapping[str, float]]  # the measures of one run for each seed
Results = Mapping[tuple[str, str, int], Runs]  # by race, racer and budget
Bars = Mapping[str, Mapping[str, Mapping[str, float]]]  # race -> trivial predictor -> scores
Figures = dict[str, Any]


@dataclass(frozen=True)
class Race:
    """Which slices, and networks of which shape.

    Args:
        size: pixels along each side of a slice as prepared.
        spacing: mm.
        factor: pixels along each side of a code.
        ours: what our network has other than its defaults.
        monai: channels of MONAI's, one a halving.
    """

    size: int
    spacing: float
    factor: int
    ours: Mapping[str, Any]
    monai: tuple[int, ...]


RACES = {
    "128": Race(128, 1.8, 4, {}, (32, 64)),
    "16x16": Race(128, 1.8, 8, {"factor": 8}, (32, 64, 128)),
    "256": Race(256, 0.9, 4, {}, (32, 64)),
}


@dataclass(frozen=True)
class Goal:
    """One thing to reach.

    Args:
        words: what it is.
        value: the figure that is judged.
        must: what closes the matter.
        aim: what would be good; None for nothing more.
        peer: the baselines' figure to compare it with, without their prefix.
        less: whether less is better.
    """

    words: str
    value: str
    must: float
    aim: float | None
    peer: str = ""
    less: bool = False


SIXTEEN = "ssim_brain_16x16_600s"
GOALS = (
    Goal("in-brain SSIM, 120 CPU-s", "ssim_brain_120s", 0.84, 0.86, "ssim_brain_600s"),
    Goal("in-brain SSIM, 300 CPU-s", "ssim_brain_300s", 0.875, 0.895, "ssim_brain_600s"),
    Goal("in-brain SSIM, 600 CPU-s", "ssim_brain_600s", 0.885, 0.91, "ssim_brain_600s"),
    Goal("codes used of 512, 600 CPU-s", "codes_used", 400, 500, "codes_used_600s"),
    Goal("budget that reaches MONAI at 600 s", "seconds_to_monai_600s", 120, 80, less=True),
    Goal("PSNR over MONAI's, dB, whole image", "psnr_gain_db", 2.5, 4),
    Goal("parameters, to MONAI's", "parameter_ratio", 0.5, None, less=True),
    Goal("16x16 codes: SSIM, 600 CPU-s", SIXTEEN, 0.64, 0.68, SIXTEEN),
    Goal("256x256: SSIM over MONAI's", "ssim_gain_256", 0.03, 0.06),
    Goal("256x256: SSIM over pooling's", "ssim_over_pooling_256", 0, None),
)


def figures(results: Results, bars: Bars) -> Figures:
    """Every figure by a plain name; medians over seeds, for in-brain SSIM the range as well.

    Names end in the budget, without one for what is judged by itself; figures of baselines begin
    with `monai_` or `monai_further_`, those of other races than 128 name the race.

    Args:
        results: of all runs.
        bars: scores of the trivial predictors.
    """
    found: Figures = {}
    for (race, racer, budget), runs in results.items():
        prefix = PREFIX.get(racer, racer.replace("-", "_") + "_")
        end = ("" if race == "128" else f"_{race}") + f"_{budget}s"
        for measure in MEASURES:
            found[prefix + measure + end] = float(np.median([run[measure] for run in runs]))
        scores = [run["ssim_brain"] for run in runs]
        found |= {
            f"{prefix}ssim_brain{end}_low": min(scores),
            f"{prefix}ssim_brain{end}_high": max(scores),
        }
    for race, predictors in bars.items():
        found |= {f"{name}_{race}": scores["ssim_brain"] for name, scores in predictors.items()}
    found |= compared(found)
    finite = {name: v for name, v in found.items() if v is not None and math.isfinite(v)}
    return dict.fromkeys(found) | finite  # JSON knows no NaN


def compared(found: Figures) -> Figures:
    """The comparisons with the tuned baseline and, by their names, with the further tuned one."""
    more: Figures = {}
    if "codes_used_600s" in found:
        more["codes_used"] = found["codes_used_600s"]
    if {"ssim_brain_256_600s", "pooling_256"} <= found.keys():
        more["ssim_over_pooling_256"] = found["ssim_brain_256_600s"] - found["pooling_256"]
    for peer, said in PEERS.items():
        more |= against(found, peer, said)
    return more


def against(found: Figures, peer: str, said: str) -> Figures:
    """What compares us with one baseline, an entry of PEERS."""
    more: Figures = {}
    if {"ssim_brain_600s", f"{peer}ssim_brain_600s"} <= found.keys():
        gain = found["psnr_whole_600s"] - found[f"{peer}psnr_whole_600s"]
        ratio = found["parameters_600s"] / found[f"{peer}parameters_600s"]
        more |= {f"psnr_gain{said}_db": gain, f"parameter_ratio{said}": ratio}
    if {"ssim_brain_256_600s", f"{peer}ssim_brain_256_600s"} <= found.keys():
        gain = found["ssim_brain_256_600s"] - found[f"{peer}ssim_brain_256_600s"]
        more[f"ssim_gain{said}_256"] = gain
    if {"ssim_brain_60s", f"{peer}ssim_brain_600s"} <= found.keys():
        goal = found[f"{peer}ssim_brain_600s"]
        enough = [b for b in SHORT if found[f"ssim_brain_{b}s"] >= goal]
        more[f"seconds_to_{peer}600s"] = min(enough, default=None)
    return more


def table(results: Results, bars: Bars, found: Figures) -> str:
    """All runs, the trivial predictors, and the goals, as text to print."""
    head = [
        "race", "who", "CPU-s", "SSIM in brain", "range", "whole", "PSNR in brain", "whole",
        "codes", "parameters", "slices/s",
    ]  # fmt: skip
    rows = [head, *(run_row(key, runs) for key, runs in results.items())]
    for race, predictors in bars.items():
        rows += [
            [race, name, "", *score_cells(scores, ""), "", "", ""]
            for name, scores in predictors.items()
        ]
    goals = [["to reach", "ours", "MONAI tuned", "ratio", "further", "ratio", "must", "aim", ""]]
    goals += [goal_row(goal, found) for goal in GOALS if goal.value in found]
    return "\n" + aligned(rows) + "\n\n" + aligned(goals)


def run_row(key: tuple[str, str, int], runs: Runs) -> list[str]:
    """One line of the table of runs: medians over seeds."""
    middle = {name: float(np.median([run[name] for run in runs])) for name in MEASURES}
    ssim = [run["ssim_brain"] for run in runs]
    sizes = [f"{middle[m]:.0f}" for m in ("codes_used", "parameters", "slices_per_second")]
    return [*map(str, key), *score_cells(middle, f"{min(ssim):.3f}-{max(ssim):.3f}"), *sizes]


def score_cells(scores: Mapping[str, float], between: str) -> list[str]:
    """SSIM in the brain, its range, SSIM of the whole image, and both PSNR."""
    inside, whole = f"{scores['ssim_brain']:.3f}", f"{scores['ssim_whole']:.3f}"
    return [inside, between, whole, f"{scores['psnr_brain']:.1f}", f"{scores['psnr_whole']:.1f}"]


def goal_row(goal: Goal, found: Figures) -> list[str]:
    """One row of the table of goals: ours, each baseline and its ratio, must, aim, verdict."""
    value = found[goal.value]
    row = [goal.words, short(value)]
    for peer in PEERS:
        theirs = found.get(peer + goal.peer) if goal.peer else None
        row += [short(theirs), short(value / theirs) if theirs and value is not None else "-"]
    return [*row, short(goal.must), short(goal.aim), verdict(goal, value)]


def verdict(goal: Goal, value: float | None) -> str:
    """Whether a goal's must and aim are met."""
    if value is None:
        return "missed"
    sign = -1 if goal.less else 1
    if goal.aim is not None and sign * value >= sign * goal.aim:
        return "aim met"
    return "must met" if sign * value >= sign * goal.must else "missed"


def short(value: float | None) -> str:
    """A number as text."""
    return "-" if value is None else f"{value:.3f}" if abs(value) < 10 else f"{value:.0f}"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text in columns, the first to the left and the others to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def machine() -> str:
    """The processor's name, the number of its cores, and PyTorch's version."""
    names = Path("/proc/cpuinfo")
    lines = names.read_text().splitlines() if names.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    model = models[0] if models else platform.processor() or platform.machine()
    return f"{model}, {len(models) or '?'} cores, torch {torch.__version__}"


def command_line(doc: str) -> argparse.ArgumentParser:
    """A benchmark's parser, with what all of them take; the first line of `doc` says what it is."""
    parser = argparse.ArgumentParser(description=doc.partition("\n")[0])
    parser.add_argument("--json", type=Path, help="write the figures here")
    return parser


def keep(figures: Figures, path: Path | None) -> None:
    """Write the figures to a JSON file, if one was asked for."""
    if path is not None:
        with writing(path) as temporary:
            temporary.write_text(json.dumps(figures, indent=2) + "\n")
