"""Who was scanned and where the file is; who goes to which split; a cohort that is made, not taken."""

from __future__ import annotations

from monai_vqbrain.cohorts.cohort import Cohort, Person, Problem, Scan
from monai_vqbrain.cohorts.read import LAYOUTS, read_cohort
from monai_vqbrain.cohorts.splits import SPLITS, assign_splits, check_splits

__all__ = [
    "LAYOUTS",
    "SPLITS",
    "Cohort",
    "Person",
    "Problem",
    "Scan",
    "assign_splits",
    "check_splits",
    "read_cohort",
]
