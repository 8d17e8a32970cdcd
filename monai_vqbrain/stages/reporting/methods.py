"""Paragraphs and tables of the report on the methods of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from monai_vqbrain.cohorts.splits import SPLITS

MASKS = {
    "zero-background": "the voxels of the skull-stripped input that are not 0",
    "derivative": "the mask that came with the data",
    "template": "the MNI152 template's, brought to each head by twelve parameters unless the head "
    "came in the template's space",
    "pictures": "what is brighter than a picture's background",
}
PARAMETERS = {"rigid": "six", "affine": "twelve"}


def slicing_paragraph(rows: pd.DataFrame, options: Mapping[str, Any], pixel: float | None) -> str:
    """How volumes became slices, as a paragraph for a paper's methods.

    Args:
        rows: the slices that count.
        options: of 2-slices/provenance.json; what is not recorded is not claimed.
        pixel: pixel spacing in mm, from the stacks.
    """
    volumes, participants = rows.drop_duplicates("stack"), rows["participant_id"].nunique()
    size = options.get("size")
    frame = f" of {size[0]} × {size[1]} pixels" if size else ""
    spacing = f" at {pixel:g} mm" if pixel else ""
    origin = (
        f"{_count(len(volumes), 'T1-weighted volume')} of {_count(participants, 'participant')}"
    )
    where = f"centred on {_centre(options)} and sampled linearly, each voxel once"
    cut = [
        f"{origin} were brought to right-anterior-superior axes" + _alignment(options),
        f"{_axes(rows)} slices{frame}{spacing} were {where}",
        f"There were {_positions(rows, options)}",
    ]
    if set(volumes["mask_source"]) == {"pictures"}:
        cut = [
            f"The slices came as pictures, without a place in space, of {origin}",
            f"Each was shrunk until it fitted a frame{frame} and padded",
        ]
    sentences = [
        *cut,
        f"The brain mask was {_masks(rows)}, closed and with its holes filled",
        _scaling(options),
        f"Only slices of which the brain fills at least 5 % counted: {len(rows):,} slices",
    ]
    return ". ".join(sentences) + "."


def split_paragraph(options: Mapping[str, Any], given: bool = False) -> str:
    """Why the participants are divided as they are; `given` where the source had splits."""
    seed = options.get("seed", 0)
    if given:
        return (
            "The splits are those that the data came with; where they have no validation split, "
            "it was taken from training participants, dealt in the order of diagnosis, sex, decade "
            f"of age and a hash of seed {seed} and their identifier. Training slices set the "
            "weights, validation slices chose the model to keep, and test slices were used for the "
            "figures of this report only."
        )
    return (
        "People, not slices, were divided, with all their sessions: slices of one brain on both "
        "sides of a split would make every figure look better than it is. Participants stand in "
        "the order of diagnosis at their first visit, sex and decade of age, and within these of a "
        f"hash of seed {seed} and their identifier; along this order they were dealt to training, "
        "validation and test at 70/15/15 per cent, so that each group is shared out alike. "
        "Training slices set the weights, validation slices chose the model to keep, and test "
        "slices were used for the figures of this report only. To share the split, share the rule, "
        "the seed and the order in which people were added."
    )


def split_table(rows: pd.DataFrame) -> list[dict[str, str]]:
    """The split table: one row per property, one column per split and one for all."""
    parts = {s: rows[rows["split"] == s] for s in SPLITS} | {"all": rows}
    # first() skips missing values: the first known value of each participant
    participants = {
        s: part.groupby("participant_id", as_index=False).first() for s, part in parts.items()
    }
    table: list[dict[str, str]] = [
        _row("participants", {s: str(len(p)) for s, p in participants.items()}),
        _row("sessions", {s: str(_sessions(p)) for s, p in parts.items()}),
        _row("slices", {s: f"{len(p):,}" for s, p in parts.items()}),
        _row("age in years, mean (range)", {s: _ages(p["age"]) for s, p in participants.items()}),
    ]
    for column in ("sex", "diagnosis"):
        for value in sorted(participants["all"][column].dropna().unique(), key=str):
            named = {s: str(int((p[column] == value).sum())) for s, p in participants.items()}
            table.append(_row(f"{column}: {value}", named))
        if participants["all"][column].isna().any():
            unknown = {s: str(int(p[column].isna().sum())) for s, p in participants.items()}
            table.append(_row(f"{column}: not known", unknown))
    return table


def _row(name: str, values: Mapping[str, str]) -> dict[str, str]:
    return {"name": name, **values}


def _sessions(part: pd.DataFrame) -> int:
    return len(part.drop_duplicates(["participant_id", "session_id"]))


def _ages(ages: pd.Series) -> str:
    known = ages.dropna().astype(float)
    if known.empty:
        return "–"
    return f"{known.mean():.1f} ({known.min():.1f} to {known.max():.1f})"


def _alignment(options: Mapping[str, Any]) -> str:
    align, space = options.get("align", "none"), options.get("space", "")
    if align in PARAMETERS:
        return (
            f" and aligned to the MNI152 template ({space}) by {PARAMETERS[align]} parameters, "
            "which maximise the correlation of the images, flattened by a coarse N4, within 10 mm "
            "of the template's brain (SimpleITK, L-BFGS-B, blocks of 4 and 2 mm)"
        )
    if space:
        return f"; they came in the space of the template {space}"
    return " without registration to a template"


def _centre(options: Mapping[str, Any]) -> str:
    return "the template's brain" if options.get("space") else "the brain"


def _axes(rows: pd.DataFrame) -> str:
    return " and ".join(sorted(rows["axis"].unique())).capitalize()


def _positions(rows: pd.DataFrame, options: Mapping[str, Any]) -> str:
    volumes = rows.groupby("stack")["position_mm"]
    most = int(volumes.size().max())
    steps = volumes.apply(lambda p: p.sort_values().diff().median()).dropna()
    apart = f", {steps.median():.3g} mm apart" if len(steps) else ""
    if options.get("space"):
        first, last = rows["position_mm"].min(), rows["position_mm"].max()
        return f"up to {most} a volume{apart}, at {first:g} to {last:g} mm of the template's space"
    low, high = rows["position_rel"].min(), rows["position_rel"].max()
    return (
        f"up to {most} a volume{apart}, between {100 * low:.0f} % and {100 * high:.0f} % of the "
        "brain's extent along that axis"
    )


def _masks(rows: pd.DataFrame) -> str:
    sources = rows.drop_duplicates("stack")["mask_source"].value_counts()
    names = [MASKS.get(str(s), str(s).replace("_", " ")) for s in sources.index]
    if len(names) == 1:
        return names[0]
    return "; ".join(f"{n} ({_count(c, 'volume')})" for n, c in zip(names, sources, strict=True))


def _scaling(options: Mapping[str, Any]) -> str:
    percentile = options.get("percentile", 99.5)
    bias = "after N4 bias-field correction" if options.get("bias") else "without bias correction"
    return (
        f"Intensities were divided, {bias}, by the {percentile:g}th percentile of each volume's "
        "voxels inside the brain, clipped to [0, 1] and stored in 8 bits; where more than 1 % of "
        "them were negative, their 0.5th percentile was brought to 0 first"
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")
