"""Which participant of a run an image shows, as far as the run can tell."""

from __future__ import annotations

from pathlib import Path

from monai_vqbrain.cohorts.names import stem
from monai_vqbrain.provenance import read_provenance
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.tables import read_slices_table


class RunParticipants:
    """The participants of a run, to recognise their images.

    Args:
        run: the run folder, prepared.
    """

    def __init__(self, run: RunFolder) -> None:
        rows = read_slices_table(run)
        self.splits: dict[str, str] = dict(zip(rows["participant_id"], rows["split"], strict=True))
        people = dict(zip(rows["source"], rows["participant_id"], strict=True))
        files = (read_provenance(run.slices) or {"made_from": {}})["made_from"]
        self._by_hash = {entry["sha256"]: people[s] for s, entry in files.items() if s in people}

    def find(self, path: Path, sha256: str) -> str | None:
        """The participant whose scan this very file is, else whose id its name or folders hold."""
        if sha256 in self._by_hash:
            return self._by_hash[sha256]
        folders = set(path.resolve().parent.parts)
        name = f"_{stem(path)}_".replace(".", "_")  # so that slice pictures, sub-02.png, count too
        named = [who for who in self.splits if who in folders or f"_{who}_" in name]
        return max(named, key=len, default=None)
