"""The built-in simulated cohort as the slices of a run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from monai_vqbrain.cohorts import Scan, make_phantom, read_cohort
from monai_vqbrain.files import building
from monai_vqbrain.progress import progress
from monai_vqbrain.provenance import write_provenance
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.freshness import scan_inputs
from monai_vqbrain.runs.slices import participants_digest, write_problems, write_slice_tables
from monai_vqbrain.runs.slicing_code import PACKAGES, extraction, slicing_code
from monai_vqbrain.runs.stacks import write_scan_stack
from monai_vqbrain.transforms import ExtractSlices
from monai_vqbrain.transforms.brain_extraction import brain_methods, is_installed
from monai_vqbrain.transforms.brain_slices import brain_slices

PARTICIPANTS = 60
SIZE, SPACING = (64, 64), 3.0  # pixels, mm
OPTIONS: dict[str, Any] = {  # those of `prepare`, as in its provenance
    "layout": "auto", "axis": "axial", "size": SIZE, "spacing": SPACING, "positions": None,
    "count": None, "align": "none", "bias": False, "columns": {}, "seed": 0, "exclude": [],
    "align_asked": "auto", "space": "", "affine": "auto", "brain_asked": "auto",
}  # fmt: skip


def slice_phantom(run: RunFolder, participants: int = PARTICIPANTS) -> None:
    """Make the built-in cohort and its slices in a run folder: `R/0-phantom`, `R/2-slices`.

    The stacks and tables equal those of `prepare` on `R/0-phantom` with `OPTIONS`; the simulated
    brains need neither registration nor quality control.

    Args:
        run: the run folder.
        participants: number of participants to simulate.
    """
    began = time.monotonic()
    source = make_phantom(run.path / "0-phantom", participants=participants)
    cohort = read_cohort(source, "auto")
    extract = ExtractSlices(size=SIZE, spacing=SPACING)
    with building(run.slices) as work:
        scans = progress(cohort.scans, "slicing volumes", unit="volume")
        sliced = [(scan, _slice_scan(scan, extract, work)) for scan in scans]
        rows = write_slice_tables(cohort, sliced, OPTIONS["seed"], run, work)
        write_problems(cohort.problems, work / "problems.tsv")
        brain = brain_methods("auto", is_installed())
        facts = {"participants": participants_digest(cohort), "brain": list(brain)}
        options = OPTIONS | facts | slicing_code((*PACKAGES, *extraction(brain)))
        counts = {"volumes": len(sliced), "slices": len(rows)}
        about = {"layout": cohort.layout, "simulated": True, "given_splits": False, "notes": []}
        about["mask_sources"] = {"zero-background": len(sliced)}
        seconds = time.monotonic() - began
        write_provenance(work, scan_inputs(cohort.scans), options, seconds, **counts, **about)


def _slice_scan(scan: Scan, extract: ExtractSlices, folder: Path) -> tuple[dict[str, Any], ...]:
    """Write the stack of a simulated scan, whose background is 0; one row per slice."""
    image: Any = nib.Nifti1Image.from_filename(scan.path)
    array = np.asanyarray(image.dataobj.get_unscaled())
    stack = brain_slices(array, np.asarray(image.affine), array != 0, extract)
    return write_scan_stack(stack, scan.name, "zero-background", folder)
