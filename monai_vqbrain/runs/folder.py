"""The run folder: its stage folders, and the columns that describe and identify a slice."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from monai_vqbrain.errors import UsageError, VQBrainError
from monai_vqbrain.provenance import NOT_MADE, damage

SLICE_COLUMNS = (
    "participant_id", "session_id", "axis", "index", "position_mm", "position_rel",
    "brain_fraction", "split", "diagnosis", "age", "sex", "mask_source", "source", "stack",
)  # fmt: skip
DEFAULT_RUN = "./vqbrain-run"  # of the bundles
MIN_BRAIN_FRACTION = 0.05  # of a slice's frame; slices below are neither trained on nor scored


class RunFolder:
    """The folders of a run, in pipeline order, and the table of all participants' splits.

    Args:
        path: the run folder; it need not exist.

    Raises:
        UsageError: if it is a file, or below one.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        existing = next(filter(os.path.exists, (self.path, *self.path.parents)), self.path)
        if existing.is_file():
            raise UsageError(f"{existing} is a file: name a folder for the run")
        self.splits = self.path / "splits.tsv"
        self.volumes = self.path / "1-volumes"
        self.slices = self.path / "2-slices"
        self.vqvae = self.path / "3-vqvae"
        self.codes = self.path / "4-codes"
        self.prior = self.path / "5-prior"
        self.samples = self.path / "6-samples"
        self.report = self.path / "7-report"

    def sample_set(self, name: str) -> Path:
        """The folder of one named set of samples, `R/6-samples/NAME`."""
        return self.samples / name

    def command(self, words: str) -> str:
        """A vqbrain command on this run, quoted for a shell: "encode" -> vqbrain encode RUN."""
        return f"vqbrain {words} {shlex.quote(str(self.path))}"

    def need(self, folder: Path, command: str) -> None:
        """Refuse to use a stage's folder that is not as its command made it.

        Args:
            folder: the folder.
            command: the command that makes it, such as "encode".

        Raises:
            UsageError: if it is not finished.
            VQBrainError: if a file of it is missing or has changed.
        """
        wrong = damage(folder)
        if wrong == NOT_MADE:
            raise UsageError(
                f"{folder.name} is not in {self.path}: first run: {self.command(command)}"
            )
        if wrong is not None:
            raise VQBrainError(
                f"{folder.name} is not as it was made: {wrong}: run {self.command(command)}"
            )
