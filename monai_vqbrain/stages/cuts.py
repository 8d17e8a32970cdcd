"""Scans cut once: what has been cut already, of the same image and in the same way, is kept."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from monai_vqbrain.cohorts import Problem, Scan
from monai_vqbrain.files import writing
from monai_vqbrain.provenance import Described, describe
from monai_vqbrain.stages.findings import Notes
from monai_vqbrain.stages.normalise import Normalisation
from monai_vqbrain.stages.stacks import Cut, cut_scan, mask_of
from monai_vqbrain.transforms import ExtractSlices


@dataclass(frozen=True)
class Cutting:
    """Cuts scans into a folder, unless they lie there, or in the folder of before.

    Args:
        extract: how to cut.
        how: what is done to a volume before.
        work: the slices' folder that is being made; an interrupted run may have left some.
        before: the finished slices' folder of before, if there is one.
        volumes: where what was made and found of volumes lies.
    """

    extract: ExtractSlices
    how: Normalisation
    work: Path
    before: Path
    volumes: Path

    def __call__(self, scan: Scan, digest: str, volume_digest: str) -> Cut:
        """What became of one scan.

        Args:
            scan: the scan.
            digest: of all that decides its slices: images and options.
            volume_digest: of all that decides what is done to the volume before.
        """
        cut = kept(scan, digest, self.work) or self._taken_over(scan, digest)
        if cut is None:
            notes = Notes(self.volumes, scan.name, volume_digest)
            cut = cut_scan(scan, self.extract, self.how, self.work, notes)
            if cut.slices:
                keep(cut, digest, self.work)
        return cut

    def done(self, scan: Scan, digest: str) -> bool:
        """Whether a scan need not be cut any more."""
        return any(kept(scan, digest, folder) for folder in (self.work, self.before))

    def _taken_over(self, scan: Scan, digest: str) -> Cut | None:
        cut = kept(scan, digest, self.before)
        if cut is not None:
            for path in files_of(cut):
                (self.work / path).parent.mkdir(parents=True, exist_ok=True)
                with writing(self.work / path) as temporary:
                    shutil.copyfile(self.before / path, temporary)
        return cut


def inputs_of(scans: Iterable[Scan]) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of all that slices are cut from, by the names in the source.

    Several files of one scan count as one; a file that cannot be read is left out.
    """
    scans = list(scans)
    files = {scan.source: scan.path for scan in scans if not scan.files}
    files |= {f"{s.source} (mask)": s.mask_path for s in scans if s.mask_path is not None}
    found = describe({n: p for n, p in files.items() if p.is_file() and os.access(p, os.R_OK)})
    return found | {scan.source: _together(scan.files) for scan in scans if scan.files}


def _together(files: Iterable[Path]) -> dict[str, Any]:
    digest, size = sha256(), 0
    for path in files:
        content = path.read_bytes() if os.access(path, os.R_OK) else b""
        digest.update(content)
        size += len(content)
    return {"bytes": size, "sha256": digest.hexdigest()}


def digests_of(scans: Iterable[Scan], inputs: Described, how: Mapping[str, Any]) -> list[str]:
    """Of each scan a hash of all that decides its slices: images, options, this package."""
    digests: list[str] = []
    for scan in scans:
        images = [inputs.get(name) for name in (scan.source, f"{scan.source} (mask)")]
        said = json.dumps([images, scan.space, how, version("monai-vqbrain")], sort_keys=True)
        digests.append(sha256(said.encode()).hexdigest())
    return digests


def keep(cut: Cut, digest: str, folder: Path) -> None:
    """Note beside the stack in `folder` what became of a scan that has slices."""
    problems = [[problem.path, problem.problem, problem.advice] for problem in cut.problems]
    note = {
        "digest": digest,
        "slices": list(cut.slices),
        "problems": problems,
        "measures": cut.measures,
    }
    with writing(folder / _note(cut.scan)) as path:
        path.write_text(json.dumps(note) + "\n")


def kept(scan: Scan, digest: str, folder: Path) -> Cut | None:
    """What `keep` has noted of a scan; None if nothing, or of other images or options."""
    path = folder / _note(scan)
    note = json.loads(path.read_text()) if path.is_file() else {}
    if note.get("digest") != digest:
        return None
    problems = tuple(Problem(*words) for words in note["problems"])
    return Cut(scan, tuple(note["slices"]), problems, note["measures"])


def files_of(cut: Cut) -> list[Path]:
    """The stack, its mask and the note of a cut with slices, as seen from the slices' folder."""
    stack = Path(cut.slices[0]["stack"])
    return [stack, mask_of(stack), _note(cut.scan)]


def remove_others(cuts: Iterable[Cut], folder: Path) -> None:
    """Take away what an interrupted run left of scans that are not there any more."""
    ours = {folder / path for cut in cuts if cut.slices for path in files_of(cut)}
    for path in (folder / "stacks").glob("*"):
        if path not in ours:
            path.unlink()


def _note(scan: Scan) -> Path:
    return Path("stacks") / f"{scan.name}.json"
