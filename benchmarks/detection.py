"""Does each fault of a set of images move the figure that should move, and leave the others?

    python benchmarks/detection.py --run RUN --json detection.json

The run has slices, a trained VQ-VAE and codes. Slices of its test participants, as the VQ-VAE
returns them, stand for samples without a fault: they are compared with slices of validation
participants, and so are the same slices with one fault at a time. A figure has moved where its
95 % interval no longer holds its value without a fault. Planted copies are searched for as in
copies.py.

The JSON file holds `copies_found` and `false_alarms`, one object per fault (`should_move`, `moved`,
`found`, and `figures` with their intervals) and the figures without a fault (`none`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from copies import detection, needed
from standings import aligned, command_line, keep, machine, short

from monai_vqbrain.metrics import faults
from monai_vqbrain.metrics.detectability import detectability
from monai_vqbrain.runs.codes import read_codes
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.geometry import sample_size
from monai_vqbrain.runs.networks import load_network
from monai_vqbrain.runs.tables import in_split
from monai_vqbrain.stages.reporting import ruler
from monai_vqbrain.stages.reporting.decoding import decoder
from monai_vqbrain.stages.reporting.image_sets import Comparison, ImageSet

SOUND = "none"
FIGURES = (
    "coverage", "copies", "contrast", "intensity", "asymmetry", "mirrored", "kid", "kid_texture",
    "auc",
)  # fmt: skip
# the figure by which each fault is to be known
SHOULD_MOVE = {
    "mode_collapse": "coverage",
    "copies": "copies",
    "blur": "kid_texture",
    "wrong_contrast": "intensity",
    "missing_parts": "asymmetry",
    "flips": "mirrored",
}

Spread = Mapping[str, float]  # value, low, high


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the sound set and each faulty one, and print the table."""
    parser = command_line(__doc__ or "")
    parser.add_argument("--run", type=Path, required=True)
    args = parser.parse_args(arguments)
    run = RunFolder(args.run)
    planted = detection(run)
    sets = without_fault(run)
    found = {
        fault: figures(replace(sets, synthetic=replace(sets.synthetic, images=images)))
        for fault, images in faulty(sets).items()
    }
    print(table(found))
    result = results(found, planted)
    print(f"known by their figure: {result['faults_found']} of {len(SHOULD_MOVE)}")
    print(f"copies found {result['copies_found']:.3f}, false alarms {result['false_alarms']:.3f}")
    print(machine())
    keep(result | {"machine": machine()}, args.json)


def results(
    found: Mapping[str, Mapping[str, Spread]], planted: Mapping[str, float]
) -> dict[str, Any]:
    """What the JSON file holds, of the figures of each fault and the shares of planted copies."""
    faults_ = {
        fault: {
            "should_move": figure,
            "moved": moved(found, fault),
            "found": figure in moved(found, fault),
            "figures": dict(found[fault]),
        }
        for fault, figure in SHOULD_MOVE.items()
    }
    return {
        "copies_found": min(share for kind, share in planted.items() if needed(kind)),
        "false_alarms": planted["false_alarms"],
        "faults_found": sum(row["found"] for row in faults_.values()),
        SOUND: {"figures": dict(found[SOUND])},
        **faults_,
    }


def without_fault(run: RunFolder) -> Comparison:
    """Training, validation and test slices as the VQ-VAE returns them; the last as the samples."""
    codes, rows, _ = read_codes(run)
    decode = decoder(load_network(run.vqvae), sample_size(run.path))
    decoded = [decode(codes[start : start + 64]) for start in range(0, len(codes), 64)]
    images = np.rint(255 * np.concatenate(decoded).clip(0, 1)).astype(np.uint8)
    about = rows.assign(position=rows["position_rel"]).reset_index(drop=True)
    every = ImageSet(images, about)
    training, held_out, samples = (
        every.take(in_split(about, split)) for split in ("training", "validation", "test")
    )
    return Comparison(training, held_out, samples)


def faulty(sets: Comparison) -> dict[str, np.ndarray]:
    """The slices without a fault, and with each."""
    sound, places = sets.synthetic.images, sets.synthetic.positions
    pairs = (places, sets.training.positions)
    made: dict[str, Callable[[], np.ndarray]] = {
        SOUND: lambda: sound,
        "mode_collapse": lambda: faults.mode_collapse(sound, 16, positions=places),
        "copies": lambda: faults.copies(sound, sets.training.images, 0.5, positions=pairs),
        "blur": lambda: faults.blur(sound),
        "wrong_contrast": lambda: faults.wrong_contrast(sound),
        "missing_parts": lambda: faults.missing_parts(sound),
        "flips": lambda: faults.flips(sound),
    }
    return {name: make() for name, make in made.items()}


def figures(sets: Comparison) -> dict[str, Spread]:
    """What is looked at, each with its interval."""
    equal = ruler.equal_sets(sets, seed=0)
    distribution = ruler.measure_distribution(equal, ruler.SPACES, reference=sets.training)
    anatomy = ruler.measure_anatomy_of(sets)
    copies, _ = ruler.measure_copies(sets)
    detected = detectability(  # without its control, which is of real slices alone
        sets.training.images, sets.held_out.images, sets.held_out.participants,
        sets.synthetic.images,
    )  # fmt: skip
    return {
        "coverage": spread(distribution["coverage_interval"]["random"]),
        "copies": spread(copies, "share"),
        "contrast": spread(anatomy["contrast"], "difference", "difference_"),
        "intensity": spread(anatomy["intensity_mean"], "difference", "difference_"),
        "asymmetry": spread(anatomy["asymmetry"], "difference", "difference_"),
        "mirrored": spread(anatomy, "mirrored_share", "mirrored_"),
        "kid": spread(distribution["kid"]["random"]),
        "kid_texture": spread(distribution["kid"]["texture"]),
        "auc": spread(detected.auc.as_json()),
    }


def spread(found: Mapping[str, Any], value: str = "value", prefix: str = "") -> Spread:
    """A figure and its interval, of which a missing end is the value itself."""
    middle = found[value]
    ends = {end: found.get(f"{prefix}{end}") for end in ("low", "high")}
    return {"value": middle} | {k: middle if v is None else v for k, v in ends.items()}


def moved(found: Mapping[str, Mapping[str, Spread]], fault: str) -> list[str]:
    """The figures whose interval does not hold their value without a fault."""
    sound, each = found[SOUND], found[fault]
    return [
        name
        for name in FIGURES
        if not each[name]["low"] <= sound[name]["value"] <= each[name]["high"]
    ]


def table(found: Mapping[str, Mapping[str, Spread]]) -> str:
    """One row per fault; a star beside each figure that moved."""
    rows = [["fault", *FIGURES]]
    for fault, each in found.items():
        stars = moved(found, fault)
        rows.append([fault, *(short(each[n]["value"]) + "*" * (n in stars) for n in FIGURES)])
    return aligned(rows)


if __name__ == "__main__":
    main()
