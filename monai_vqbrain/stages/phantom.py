"""The built-in simulated cohort as the source of a run."""

from __future__ import annotations

from monai_vqbrain.cohorts import make_phantom
from monai_vqbrain.stages.prepare import prepare
from monai_vqbrain.stages.prepare_options import PrepareOptions
from monai_vqbrain.stages.run import RunFolder

PARTICIPANTS = 60
SLICES = PrepareOptions(size=(64, 64), spacing=3.0)


def prepare_phantom(run: RunFolder, participants: int = PARTICIPANTS) -> None:
    """Make and prepare the built-in cohort in a run folder: `R/0-phantom`, `R/2-slices`."""
    source = make_phantom(run.path / "0-phantom", participants=participants)
    prepare(source, run.path, SLICES)
