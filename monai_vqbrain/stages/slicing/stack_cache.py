"""Stacks made once: a stack of the same image, made in the same way, is kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from monai_vqbrain.cohorts import Problem, Scan
from monai_vqbrain.files import unfinished, writing
from monai_vqbrain.provenance import Described
from monai_vqbrain.runs.stacks import mask_path
from monai_vqbrain.stages.slicing.normalisation import Normalisation
from monai_vqbrain.stages.slicing.normalisation_cache import NormalisationCache
from monai_vqbrain.stages.slicing.scan_slices import SlicedScan, slice_scan
from monai_vqbrain.transforms import ExtractSlices


class ScanState(Enum):
    """Whether the stack of a scan is there already, or why it has to be made."""

    KEPT = "kept"
    NEW = "new"
    CHANGED = "changed: its image or the options"


@dataclass(frozen=True)
class StackCache:
    """Slices scans into a folder, unless their stacks lie there or in the finished folder.

    Args:
        extract: how to slice.
        how: what is done to a volume before.
        work: the slices' folder that is being made; an interrupted run may have left some.
        finished: the finished slices' folder of an earlier run, if there is one.
        volumes: the run's folder of registration maps and bias fields.
    """

    extract: ExtractSlices
    how: Normalisation
    work: Path
    finished: Path
    volumes: Path

    def __call__(self, scan: Scan, digest: str, volume_digest: str) -> SlicedScan:
        """What became of one scan.

        Args:
            scan: the scan.
            digest: of all that decides its slices: images and options.
            volume_digest: of all that decides what is done to the volume before.
        """
        cut = read_record(scan, digest, self.work) or self._taken_over(scan, digest)
        if cut is None:
            notes = NormalisationCache(self.volumes, scan.name, volume_digest)
            cut = slice_scan(scan, self.extract, self.how, self.work, notes)
            if cut.slices:
                write_record(cut, digest, self.work)
        return cut

    def _taken_over(self, scan: Scan, digest: str) -> SlicedScan | None:
        cut = read_record(scan, digest, self.finished)
        if cut is not None:
            for path in files_of_scan(cut):
                (self.work / path).parent.mkdir(parents=True, exist_ok=True)
                with writing(self.work / path) as temporary:
                    shutil.copyfile(self.finished / path, temporary)
        return cut


def scan_state(scan: Scan, digest: str, folder: Path) -> ScanState:
    """The state of a scan in a run.

    Args:
        scan: the scan.
        digest: of all that decides its slices.
        folder: the run's `2-slices`; an interrupted run left stacks in its partial folder.
    """
    folders = (folder, unfinished(folder))
    if any(read_record(scan, digest, where) for where in folders):
        return ScanState.KEPT
    known = any((where / _record_path(scan)).is_file() for where in folders)
    return ScanState.CHANGED if known else ScanState.NEW


def scan_digests(scans: Iterable[Scan], inputs: Described, how: Mapping[str, Any]) -> list[str]:
    """Of each scan a hash of all that decides its slices: images, options, this package."""
    digests: list[str] = []
    for scan in scans:
        images = [inputs.get(name) for name in (scan.source, f"{scan.source} (mask)")]
        said = json.dumps([images, scan.space, how, version("monai-vqbrain")], sort_keys=True)
        digests.append(sha256(said.encode()).hexdigest())
    return digests


def write_record(cut: SlicedScan, digest: str, folder: Path) -> None:
    """Note beside the stack in `folder` what became of a scan that has slices."""
    problems = [[problem.path, problem.problem, problem.advice] for problem in cut.problems]
    note = {
        "digest": digest,
        "slices": list(cut.slices),
        "problems": problems,
        "measures": cut.measures,
    }
    with writing(folder / _record_path(cut.scan)) as path:
        path.write_text(json.dumps(note) + "\n")


def read_record(scan: Scan, digest: str, folder: Path) -> SlicedScan | None:
    """What `keep` has noted of a scan; None if nothing, or of other images or options."""
    path = folder / _record_path(scan)
    note = json.loads(path.read_text()) if path.is_file() else {}
    if note.get("digest") != digest:
        return None
    problems = tuple(Problem(*words) for words in note["problems"])
    return SlicedScan(scan, tuple(note["slices"]), problems, note["measures"])


def files_of_scan(cut: SlicedScan) -> list[Path]:
    """The stack, its mask and the note of a cut with slices, as seen from the slices' folder."""
    stack = Path(cut.slices[0]["stack"])
    return [stack, mask_path(stack), _record_path(cut.scan)]


def remove_stale(cuts: Iterable[SlicedScan], folder: Path) -> None:
    """Take away what an interrupted run left of scans that are not there any more."""
    ours = {folder / path for cut in cuts if cut.slices for path in files_of_scan(cut)}
    for path in (folder / "stacks").glob("*"):
        if path not in ours:
            path.unlink()


def _record_path(scan: Scan) -> Path:
    return Path("stacks") / f"{scan.name}.json"
