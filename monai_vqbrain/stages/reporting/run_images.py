"""The images of a run that an evaluation compares."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.progress import progress
from monai_vqbrain.runs.codes import read_codes
from monai_vqbrain.runs.conditions import CATEGORIES, NUMBERS, position_column
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.geometry import slice_positions
from monai_vqbrain.runs.records import slicing_options
from monai_vqbrain.runs.sample_sets import current_sets, read_sample
from monai_vqbrain.runs.stacks import open_stack, to_uint8
from monai_vqbrain.runs.tables import in_split
from monai_vqbrain.runs.views import PLAIN_VIEW
from monai_vqbrain.stages.reporting.image_sets import Comparison, Decode, ImageSet, TissuePriors
from monai_vqbrain.stages.reporting.stored_images import StoredImages, store
from monai_vqbrain.tables import read_table
from monai_vqbrain.team import spread
from monai_vqbrain.transforms.template import template_tissues

BATCH = 64  # slices that are decoded at a time


def run_comparison(
    run: RunFolder, decode: Decode, name: str, work: Path | None = None
) -> Comparison:
    """A run's real slices, as its VQ-VAE returns them, and one of its sets of samples.

    Raw slices contain detail that decoded images lack, which alone would distinguish them.

    Args:
        run: the run folder, with samples.
        decode: the VQ-VAE's decoder.
        name: of the set of samples.
        work: the folder whose disk takes the decoded slices; by default that of temporary files.
    """
    codes, rows, _ = read_codes(run)
    position, options = position_column(run), slicing_options(run)
    about = rows.assign(position=rows[position]).reset_index(drop=True)
    real = ImageSet(decode_slices(codes, decode, work), about)
    held_out = in_split(about, "validation") | in_split(about, "test")
    return Comparison(
        training=real.take(in_split(about, "training")),
        held_out=real.take(held_out),
        synthetic=sample_images(run, name),
        spacing=float(options["spacing"]) if "spacing" in options else None,
        sagittal=set(rows["axis"]) == {"sagittal"},
        priors=_tissue_priors(run, rows) if options.get("space") else None,
    )


def _tissue_priors(run: RunFolder, rows: pd.DataFrame) -> TissuePriors | None:
    """The template's tissues in the slices of an aligned run; None for several axes."""
    if rows["axis"].nunique() > 1:
        return None
    slices = rows.drop_duplicates("index").sort_values("index")
    stack = open_stack(run.slices / slices["stack"].iloc[0])  # aligned stacks have one grid
    maps = template_tissues(stack.affine, stack.shape)[:, :, slices["index"].to_numpy()]
    return TissuePriors(np.moveaxis(maps, 2, 0), slices["position_mm"].to_numpy(dtype=float))


def decode_slices(codes: np.ndarray, decode: Decode, work: Path | None = None) -> StoredImages:
    """Decode (N, G, w, h) codes in fixed batches: (N, W, H) uint8, on the disk of `work`."""
    batches = [codes[i : i + BATCH] for i in range(0, len(codes), BATCH)]
    decoded = spread(partial(_decoded, decode), batches)
    return store(progress(decoded, "decode slices", len(batches), "batch"), work)


def _decoded(decode: Decode, codes: np.ndarray) -> np.ndarray:
    return to_uint8(decode(codes))


def sample_images(run: RunFolder, name: str) -> ImageSet:
    """The slices of a set of samples; those of volumes are at the run's own positions.

    Args:
        run: the run folder.
        name: of the set of samples.
    """
    files, position = current_sets(run)[name], position_column(run)
    table = read_table(run.sample_set(name) / "samples.tsv")
    if "condition" not in table or len(table) != len(files):
        raise VQBrainError(
            f"{run.sample_set(name)} holds {len(files)} samples, and samples.tsv does not describe "
            "them: sample this set again"
        )
    asked = [parse_condition(text) for text in table["condition"]]
    stacks, about = [], []
    for file, conditions in zip(files, asked, strict=True):
        slices = np.moveaxis(read_sample(file), 2, 0)
        stacks.append(slices)
        known: dict[str, Any] = {n: conditions.get(n) for n in ("age", "sex", "diagnosis")}
        known["participant_id"] = file.name.removesuffix(".nii.gz")
        places = [conditions.get(position)]
        if len(slices) > 1:
            places = slice_positions(run, position).tolist()
        about += [known | {"position": place} for place in places]
    return ImageSet(np.concatenate(stacks), pd.DataFrame(about))


def parse_condition(text: Any) -> dict[str, str]:
    """`diagnosis=MCI, early, age=75` as a dictionary; values may hold commas.

    Args:
        text: one of `condition_texts`.
    """
    names = "|".join((*CATEGORIES, *NUMBERS, *PLAIN_VIEW))
    parts = re.split(rf", (?=(?:{names})=)", str(text))
    return dict(part.split("=", 1) for part in parts if "=" in part)
