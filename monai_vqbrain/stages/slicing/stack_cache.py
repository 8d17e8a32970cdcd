"""Stacks of unchanged images and options are kept instead of made again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from hashlib import sha256
from pathlib import Path
from typing import Any

from monai_vqbrain.cohorts import Problem, Scan
from monai_vqbrain.contents import content_sha256, is_sealed, seal
from monai_vqbrain.documents import read_json
from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.files import unfinished, writing
from monai_vqbrain.provenance import Described
from monai_vqbrain.runs.freshness import input_names
from monai_vqbrain.runs.slicing_code import slicing_code
from monai_vqbrain.runs.stacks import mask_path
from monai_vqbrain.runs.tables import is_inside
from monai_vqbrain.stages.slicing.dicom import conversion_files, forget_conversion
from monai_vqbrain.stages.slicing.normalisation import Normalisation
from monai_vqbrain.stages.slicing.normalisation_cache import NormalisationCache
from monai_vqbrain.stages.slicing.scan_slices import SlicedScan, slice_scan
from monai_vqbrain.stages.slicing.source_state import SourceState
from monai_vqbrain.transforms import ExtractSlices

RECORD = {
    "digest": str,
    "slices": [{"stack": str, "brain_fraction": float, "index": int}],
    "problems": [[str]],
    "measures": {str: float},
    "files": {str: str},
    "volumes": {str: str},
}
MOVED = ("disappeared or changed while it was being prepared", "run the same command again")


class ScanState(Enum):
    """Whether the stack of a scan exists already, or why it has to be made."""

    KEPT = "kept"
    NEW = "new"
    CHANGED = "changed: its image, its stack, its registration or the options"


@dataclass(frozen=True, eq=False)  # dask needs a hash, which a mapping has not
class StackCache:
    """Slices scans into a folder, unless their stacks exist there or in the finished folder.

    Args:
        extract: extracts the slices.
        normalisation: the normalisation of a volume before it is sliced.
        work: the slices' folder in progress; an interrupted run may have left stacks in it.
        finished: the finished slices' folder of an earlier run; it need not exist.
        volumes: the run's folder of registrations and bias fields.
        code: the code that makes the slices, of `slicing_code`; workers must have the same.
    """

    extract: ExtractSlices
    normalisation: Normalisation
    work: Path
    finished: Path
    volumes: Path
    code: Mapping[str, str]

    def __call__(
        self, scan: Scan, digest: str, volume_digest: str, planned: SourceState
    ) -> SlicedScan:
        """Return the result for one scan, from a stored stack or by slicing it.

        Args:
            scan: the scan.
            digest: hash of all that its slices depend on: images and options.
            volume_digest: hash of all that its normalisation depends on.
            planned: its files when they were hashed; if they are others now, nothing is kept.

        Raises:
            VQBrainError: if this process has other code than the one that planned.
        """
        self._check_code()
        sliced = read_record(scan, digest, self.work, self.volumes)
        if sliced is None:  # a record belongs to its stack, which is now replaced
            (self.work / _record_path(scan)).unlink(missing_ok=True)
            sliced = self._copy_finished(scan, digest)
        if sliced is not None:
            return sliced
        cache = NormalisationCache(self.volumes, scan.name, volume_digest)
        sliced = slice_scan(scan, self.extract, self.normalisation, self.work, cache)
        if not planned.holds(scan, by_content=not sliced.slices):
            cache.forget()
            forget_conversion(scan, self.volumes)
            return SlicedScan(scan, problems=(Problem(scan.source, *MOVED),), unavailable=True)
        if sliced.slices:
            made = [*cache.files(), *conversion_files(scan, self.volumes)]
            write_record(sliced, digest, self.work, made)
        was_readable = scan.source in planned.content
        return replace(sliced, unavailable=sliced.unavailable and was_readable)

    def _check_code(self) -> None:
        here = slicing_code(name for name in self.code if name != "code")
        for name, wanted in self.code.items():
            if here.get(name) != wanted:
                raise VQBrainError(
                    f"a worker has {name} {here.get(name)} instead of {wanted}: install the same "
                    "versions of monai-vqbrain and its requirements on all workers"
                )

    def _copy_finished(self, scan: Scan, digest: str) -> SlicedScan | None:
        sliced = read_record(scan, digest, self.finished, self.volumes)
        if sliced is not None:
            for path in files_of_scan(sliced):
                (self.work / path).parent.mkdir(parents=True, exist_ok=True)
                with writing(self.work / path) as temporary:
                    shutil.copyfile(self.finished / path, temporary)
        return sliced


def scan_state(scan: Scan, digest: str, folder: Path, volumes: Path) -> ScanState:
    """The state of a scan in a run.

    Args:
        scan: the scan.
        digest: hash of all that its slices depend on.
        folder: the run's `2-slices`; stacks of an interrupted run are in its partial folder.
        volumes: the run's `1-volumes`.
    """
    folders = (folder, unfinished(folder))
    if any(read_record(scan, digest, candidate, volumes) for candidate in folders):
        return ScanState.KEPT
    known = any((candidate / _record_path(scan)).is_file() for candidate in folders)
    return ScanState.CHANGED if known else ScanState.NEW


def scan_digests(scans: Iterable[Scan], inputs: Described, options: Mapping[str, Any]) -> list[str]:
    """One hash per scan of its images and the options, which include the code that makes slices.

    Args:
        scans: the scans.
        inputs: size and hash of each image, by name in the source.
        options: the options to include.
    """
    digests: list[str] = []
    for scan in scans:
        images = [inputs.get(name) for name in input_names(scan)]
        content = [images, scan.space, options]
        digests.append(sha256(json.dumps(content, sort_keys=True).encode()).hexdigest())
    return digests


def write_record(
    sliced: SlicedScan, digest: str, folder: Path, volumes: Iterable[Path] = ()
) -> None:
    """Write the result for a scan that has slices beside its stack, as JSON.

    Args:
        sliced: the result.
        digest: hash of all that its slices depend on.
        folder: the slices' folder.
        volumes: the files that were made of the scan in the run's folder of volumes.
    """
    problems = [[problem.path, problem.problem, problem.advice] for problem in sliced.problems]
    record = {
        "digest": digest,
        "slices": list(sliced.slices),
        "problems": problems,
        "measures": sliced.measures,
        "files": {p.as_posix(): content_sha256(folder / p) for p in _stack_files(sliced.slices)},
        "volumes": {path.name: content_sha256(path) for path in volumes},
    }
    with writing(folder / _record_path(sliced.scan)) as path:
        path.write_text(json.dumps(seal(record)) + "\n")


def read_record(scan: Scan, digest: str, folder: Path, volumes: Path) -> SlicedScan | None:
    """Read what `write_record` wrote; None if there is nothing for these images and options.

    A damaged record counts as none, and so does one whose stack, mask, registration, bias field or
    converted volume has changed: the scan is then sliced again, which makes these again.

    Args:
        scan: the scan.
        digest: hash of all that its slices depend on.
        folder: the slices' folder.
        volumes: the run's folder of volumes.
    """
    try:
        record = read_json(folder / _record_path(scan), RECORD)
    except (FileNotFoundError, VQBrainError):
        return None
    if not is_sealed(record) or record["digest"] != digest:
        return None
    stacks = {row["stack"] for row in record["slices"]}
    named = all(map(is_inside, [*stacks, *record["files"]]))
    if len(stacks) != 1 or not named or any(Path(n).name != n for n in record["volumes"]):
        return None
    files = {folder / name: found for name, found in record["files"].items()}
    files |= {volumes / name: found for name, found in record["volumes"].items()}
    if not all(path.is_file() and content_sha256(path) == files[path] for path in files):
        return None
    problems = tuple(Problem(*words) for words in record["problems"])
    return SlicedScan(scan, tuple(record["slices"]), problems, record["measures"])


def files_of_scan(sliced: SlicedScan) -> list[Path]:
    """Stack, mask and record of a scan that has slices, relative to the slices' folder."""
    return [*_stack_files(sliced.slices), _record_path(sliced.scan)]


def _stack_files(slices: Sequence[Mapping[str, Any]]) -> list[Path]:
    stack = Path(slices[0]["stack"])
    return [stack, mask_path(stack)]


def remove_stale(sliced: Iterable[SlicedScan], folder: Path) -> None:
    """Remove files that an interrupted run left of scans that no longer exist."""
    current = {folder / path for one in sliced if one.slices for path in files_of_scan(one)}
    for path in (folder / "stacks").glob("*"):
        if path not in current:
            path.unlink()


def _record_path(scan: Scan) -> Path:
    return Path("stacks") / f"{scan.name}.json"
