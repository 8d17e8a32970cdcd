"""Find the participant of a run that an image shows."""

from __future__ import annotations

from pathlib import Path

from monai_vqbrain.cohorts.ids import safe_id
from monai_vqbrain.cohorts.names import stem
from monai_vqbrain.provenance import read_provenance
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.tables import read_slices_table

WARNINGS = {
    "training": "is a training participant of this run: the result is optimistic, and may show "
    "what the networks have kept of this participant",
    "validation": "is a validation participant of this run, and the weights were selected on it: "
    "the result is slightly optimistic",
}


class RunParticipants:
    """The participants of a run, to identify images of them.

    Args:
        run: the run folder, prepared.
    """

    def __init__(self, run: RunFolder) -> None:
        rows = read_slices_table(run)
        self.splits: dict[str, str] = dict(zip(rows["participant_id"], rows["split"], strict=True))
        participants = dict(zip(rows["source"], rows["participant_id"], strict=True))
        files = (read_provenance(run.slices) or {"made_from": {}})["made_from"]
        self._by_hash = {
            entry["sha256"]: participants[source]
            for source, entry in files.items()
            if source in participants
        }

    def scans(self, *splits: str) -> set[str]:
        """The hashes of the scans of all participants in these splits."""
        return {h for h, participant in self._by_hash.items() if self.splits[participant] in splits}

    def find(self, path: Path, sha256: str) -> str | None:
        """The participant whose scan has this hash, else whose id is in the file's name or folders.

        Args:
            path: the image.
            sha256: the hash of its content.

        Returns:
            The participant's id; None if none matches.
        """
        if sha256 in self._by_hash:
            return self._by_hash[sha256]
        folders = {safe_id(part) for part in path.resolve().parent.parts}  # as in the run
        name = f"_{stem(path)}_".replace(".", "_")  # so that slice pictures, sub-02.png, match too
        named = [p for p in self.splits if p in folders or f"_{p}_" in name]
        return max(named, key=len, default=None)

    def warning(self, participant: str | None) -> str | None:
        """The words for an image that belongs to a training or validation participant.

        Args:
            participant: of `find`.

        Returns:
            One line; None for a test participant or an unknown one.
        """
        words = WARNINGS.get(self.splits.get(participant or "", ""))
        return f"{participant} {words}" if words else None
