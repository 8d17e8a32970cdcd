"""The files of a scan as they were when `prepare` was planned."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from monai_vqbrain.cohorts import Scan
from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.provenance import Described
from monai_vqbrain.runs.freshness import scan_inputs

FileStat = tuple[int, int, int] | None  # size, time of change (ns), inode; None for a missing file


@dataclass(frozen=True)
class SourceState:
    """The files of a scan at one moment.

    Args:
        stats: of each file, from `file_stats`, taken before the files were hashed.
        content: size and hash of the image and its mask, by name, from `scan_inputs`.
    """

    stats: tuple[FileStat, ...] = ()
    content: Described = field(default_factory=dict)

    def holds(self, scan: Scan, by_content: bool) -> bool:
        """Whether the files of the scan are still the same.

        Args:
            scan: the scan.
            by_content: read them, even if size, time and inode are the same.
        """
        if file_stats(scan) == self.stats and not by_content:
            return True
        try:
            return scan_inputs([scan]) == self.content
        except VQBrainError:
            return False


def file_stats(scan: Scan) -> tuple[FileStat, ...]:
    """Size, time of change and inode of each file of a scan, its mask included."""
    mask = () if scan.mask_path is None else (scan.mask_path,)
    return tuple(_stat(path) for path in (*(scan.files or (scan.path,)), *mask))


def _stat(path: Path) -> FileStat:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino
