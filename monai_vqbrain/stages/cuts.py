"""Scans cut once: what has been cut already, of the same image and in the same way, is kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from monai_vqbrain.cohorts import Problem, Scan
from monai_vqbrain.files import writing
from monai_vqbrain.stages.stacks import Cut, cut_scan, mask_of
from monai_vqbrain.transforms import ExtractSlices


@dataclass(frozen=True)
class Cutting:
    """Cuts scans into a folder, unless they lie there, or in the folder of before.

    Args:
        extract: how to cut.
        work: the slices' folder that is being made; an interrupted run may have left some.
        before: the finished slices' folder of before, if there is one.
        volumes: where a series of DICOM becomes a volume.
    """

    extract: ExtractSlices
    work: Path
    before: Path
    volumes: Path

    def __call__(self, scan: Scan, digest: str) -> Cut:
        """What became of one scan; `digest` is of all that decides that: images and options."""
        cut = kept(scan, digest, self.work) or self._taken_over(scan, digest)
        if cut is None:
            cut = cut_scan(scan, self.extract, self.work, self.volumes)
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
