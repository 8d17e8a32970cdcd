"""Paragraphs and tables of the report on the methods of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from monai_vqbrain.cohorts.splits import SPLITS

MASKS = {
    "zero-background": "the non-zero voxels of the skull-stripped input",
    "derivative": "the brain mask supplied with the data",
    "deepbet": "the brain extracted from the whole head by deepbet [@deepbet]",
    "template": "the brain mask of the MNI152 template, mapped to each volume with a "
    "12-degree-of-freedom affine transform unless the volume was in the template's space",
    "pictures": "the pixels brighter than the background of the image",
}
TRANSFORMS = {
    "rigid": "6-degree-of-freedom rigid-body transform",
    "affine": "12-degree-of-freedom affine transform",
}

Versions = Mapping[str, str]


def slicing_paragraph(
    rows: pd.DataFrame, options: Mapping[str, Any], pixel: float | None, versions: Versions
) -> str:
    """The image processing, as a paragraph for the methods section of a paper.

    Args:
        rows: the slices that are used.
        options: of 2-slices/provenance.json; what is not recorded is not claimed.
        pixel: pixel spacing in mm, from the stacks.
        versions: package -> version.

    Returns:
        Text with citations, `[@key]`.
    """
    pictures = set(rows["mask_source"]) == {"pictures"}
    sentences = [
        *(_from_pictures(rows, options) if pictures else _from_volumes(rows, options, versions)),
        *([] if pictures else [_extraction(rows, options, pixel)]),
        f"Brain masks were defined as {_masks(rows)}; they were closed and their holes filled",
        _scaling(options, versions),
        *_exclusions(rows, options),
    ]
    return ". ".join(sentences) + "."


def split_paragraph(
    options: Mapping[str, Any], participants: Mapping[str, int], given: bool = False
) -> str:
    """The splits, as a paragraph for the methods section of a paper.

    Args:
        options: of 2-slices/provenance.json.
        participants: number of participants in each split.
        given: whether the source has splits.
    """
    seed = options.get("seed", 0)
    counts = f"{participants['training']}, {participants['validation']} and {participants['test']}"
    order = (
        f"diagnosis at the first visit, sex and decade of age, and within these by a hash of seed "
        f"{seed} and the participant's identifier"
    )
    use = (
        "Networks were fitted to the training set and selected on the validation set; the test "
        "set was used for evaluation only"
    )
    if given:
        return (
            "The splits supplied with the data were used; if they had no validation set, it was "
            f"taken from the training participants, ordered by {order}. The training, validation "
            f"and test sets had {counts} participants. {use}."
        )
    return (
        "Participants, not slices, were divided into training, validation and test sets "
        f"({counts} participants, aiming at 70, 15 and 15 %), each with all of their sessions, so "
        "that no participant contributed to more than one set. The sets were stratified: "
        f"participants were ordered by {order}, and assigned to the sets in this order. {use}."
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


def _from_pictures(rows: pd.DataFrame, options: Mapping[str, Any]) -> list[str]:
    images = _of_participants(rows, rows["stack"].nunique(), "image")
    size = options.get("size")
    frame = f" of {size[0]} × {size[1]} pixels" if size else ""
    return [
        f"The data were provided as 2D images without spatial metadata ({images})",
        f"Images were downsampled to fit a frame{frame} and padded with background",
    ]


def _from_volumes(rows: pd.DataFrame, options: Mapping[str, Any], versions: Versions) -> list[str]:
    sessions = rows[["participant_id", "session_id"]].drop_duplicates()
    volumes = _of_participants(rows, len(sessions), "volume")
    reader = software("nibabel", versions.get("nibabel")) + " [@nibabel]"
    converted = []
    if "dcm2niix" in options:
        dcm2niix = software("dcm2niix", options["dcm2niix"])
        converted = [f"DICOM series were converted to NIfTI with {dcm2niix} [@dcm2niix]"]
    return [
        *converted,
        f"T1-weighted volumes were read with {reader} and reoriented to RAS axes ({volumes})",
        _registration(options, versions),
    ]


def _registration(options: Mapping[str, Any], versions: Versions) -> str:
    align, space = options.get("align", "none"), options.get("space", "")
    cited = f"{space} template{' [@mni]' if space.startswith('MNI152NLin2009') else ''}"
    source = ""
    if "nilearn" in options:
        source = f", as distributed with {software('nilearn', options['nilearn'])} [@nilearn],"
    if align in TRANSFORMS:
        return (
            f"Each volume was registered to the {cited}{source} with a {TRANSFORMS[align]} that "
            "maximised the correlation of intensities within 10 mm of the template's brain after "
            f"coarse N4 bias-field correction [@n4] ({_simpleitk(versions)}, "
            "L-BFGS-B optimiser, resolution levels of 4 and 2 mm)"
        )
    if space:
        return (
            f"The volumes were provided in the space of the {cited} and were not registered again"
        )
    return "The volumes were not registered to a template"


def _extraction(rows: pd.DataFrame, options: Mapping[str, Any], pixel: float | None) -> str:
    size = options.get("size")
    frame = f" of {size[0]} × {size[1]} pixels" if size else ""
    spacing = f" with a pixel size of {pixel:g} × {pixel:g} mm" if pixel else ""
    centre = "the template's brain" if options.get("space") else "the brain"
    return (
        f"{_axes(rows)} slices{frame}{spacing}, centred on {centre}, were extracted with linear "
        f"interpolation in a single step: {_positions(rows, options)}"
    )


def _axes(rows: pd.DataFrame) -> str:
    return " and ".join(sorted(rows["axis"].unique())).capitalize()


def _positions(rows: pd.DataFrame, options: Mapping[str, Any]) -> str:
    volumes = rows.groupby("stack")["position_mm"]
    most = int(volumes.size().max())
    steps = volumes.apply(lambda p: p.sort_values().diff().median()).dropna()
    apart = f", {steps.median():.3g} mm apart" if len(steps) else ""
    if options.get("space"):
        first, last = rows["position_mm"].min(), rows["position_mm"].max()
        return f"up to {most} per volume{apart}, from {first:g} to {last:g} mm in template space"
    low, high = rows["position_rel"].min(), rows["position_rel"].max()
    return (
        f"up to {most} per volume{apart}, between {100 * low:.0f} % and {100 * high:.0f} % of the "
        "brain's extent along that axis"
    )


def _masks(rows: pd.DataFrame) -> str:
    sources = rows.drop_duplicates("stack")["mask_source"].value_counts()
    names = [MASKS.get(str(s), str(s).replace("_", " ")) for s in sources.index]
    if len(names) == 1:
        return names[0]
    return "; ".join(f"{n} ({_count(c, 'volume')})" for n, c in zip(names, sources, strict=True))


def _scaling(options: Mapping[str, Any], versions: Versions) -> str:
    percentile = options.get("percentile", 99.5)
    bias = "without bias-field correction"
    if options.get("bias"):
        bias = f"after N4 bias-field correction [@n4] ({_simpleitk(versions)})"
    return (
        f"Intensities were divided, {bias}, by the {percentile:g}th percentile of the voxels "
        "inside the brain, clipped to [0, 1] and stored as 8-bit integers; in volumes with "
        "negative values in more than 1 % of the brain, the 0.5th percentile was mapped to 0 first"
    )


def _exclusions(rows: pd.DataFrame, options: Mapping[str, Any]) -> list[str]:
    listed = len(options.get("exclude") or ())
    entries = f"{listed} {'entry' if listed == 1 else 'entries'}"
    sentence = (
        "Slices in which the brain covered less than 5 % of the frame were excluded, leaving "
        f"{len(rows):,} slices"
    )
    return [f"Scans on an exclusion list ({entries}) were excluded", sentence][not listed :]


def _of_participants(rows: pd.DataFrame, number: int, what: str) -> str:
    return f"{_count(number, what)} of {_count(rows['participant_id'].nunique(), 'participant')}"


def software(name: str, version: str | None) -> str:
    """`nibabel 5.4.2`, without a label such as `+cpu`; the name only if none is recorded."""
    return f"{name} {version.partition('+')[0]}" if version else name


def _simpleitk(versions: Versions) -> str:
    return software("SimpleITK", versions.get("SimpleITK")) + " [@simpleitk]"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")
