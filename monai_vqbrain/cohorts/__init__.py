"""Participants, scans and splits of a source, and a built-in simulated cohort."""

from __future__ import annotations

from monai_vqbrain.cohorts.cohort import Cohort, Participant, Problem, Scan
from monai_vqbrain.cohorts.phantom import make_phantom
from monai_vqbrain.cohorts.read import LAYOUTS, read_cohort
from monai_vqbrain.cohorts.splits import SPLITS, assign_splits, check_splits

__all__ = [
    "LAYOUTS",
    "SPLITS",
    "Cohort",
    "Participant",
    "Problem",
    "Scan",
    "assign_splits",
    "check_splits",
    "make_phantom",
    "read_cohort",
]
