"""The plan of `prepare`: what will be made of which scan, decided before anything is made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from monai_vqbrain.cohorts import Cohort, Scan, assign_splits, read_cohort
from monai_vqbrain.errors import UsageError
from monai_vqbrain.provenance import Described, read_provenance, what_changed
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.freshness import scan_inputs
from monai_vqbrain.runs.slices import participants_digest, read_splits
from monai_vqbrain.stages.slicing.inspection import (
    Inspection,
    inspect_first,
    inspect_scans,
    is_whole_head_cohort,
)
from monai_vqbrain.stages.slicing.normalisation import common_space
from monai_vqbrain.stages.slicing.options import PrepareOptions
from monai_vqbrain.stages.slicing.stack_cache import ScanState, scan_digests, scan_state
from monai_vqbrain.transforms.registration import KINDS

PARTICIPANT_OPTIONS = ("seed", "columns", "layout", "exclude", "align_asked", "participants")
"""Options that decide no slice."""
VOLUME_OPTIONS = ("align", "bias")
"""Options that decide what is done to a volume before it is sliced."""


@dataclass(frozen=True)
class PlannedScan:
    """What will become of one scan.

    Args:
        scan: the scan.
        digest: of all that decides its slices: images and options.
        volume_digest: of all that decides its registration and bias field.
        state: whether its stack is there already, or why it has to be made.
    """

    scan: Scan
    digest: str = ""
    volume_digest: str = ""
    state: ScanState = ScanState.NEW


@dataclass(frozen=True)
class SlicingPlan:
    """All that `prepare` will do with a source.

    Args:
        cohort: who was scanned.
        options: those asked for, with `align` decided.
        align_asked: the alignment that was asked for.
        align_reason: why `auto` became what it is; empty if it was not asked for.
        space: the template space of the slices; empty for each scanner's own.
        scans: what will become of each scan.
        inputs: size and hash of each image; empty for a plan without a run folder.
        record: the options as provenance keeps them.
        reason: why `prepare` has to run; None if its result is up to date.
        splits: participant -> split.
        previous_splits: the splits that are kept from an earlier run.
        inspections: what was seen of the scans that were inspected.
    """

    cohort: Cohort
    options: PrepareOptions
    align_asked: str
    align_reason: str
    space: str
    scans: tuple[PlannedScan, ...]
    inputs: Described
    record: Mapping[str, Any]
    reason: str | None
    splits: Mapping[str, str]
    previous_splits: Mapping[str, str]
    inspections: tuple[Inspection, ...] = ()

    @property
    def states(self) -> Counter[ScanState]:
        """How many scans are kept, new, changed."""
        return Counter(planned.state for planned in self.scans)


def make_plan(
    source: Path,
    options: PrepareOptions,
    run: RunFolder | None = None,
    inspect_all: bool = False,
) -> SlicingPlan:
    """Plan `prepare`; nothing is written.

    Args:
        source: the folder with the images.
        options: what is asked for.
        run: the run folder, to see what is there already; None reads no image as a whole.
        inspect_all: inspect all scans, not only those that decide about the alignment.

    Raises:
        UsageError: the source is not one, or an option does not fit it.
    """
    cohort = read_cohort(source, options.layout, options.columns).without(options.exclude)
    _check_pictures(cohort, options)
    inputs = scan_inputs(cohort.scans) if run else {}
    before = (read_provenance(run.slices) or {}).get("options", {}) if run else {}
    inspections = inspect_scans(cohort.scans) if inspect_all else []
    if not _up_to_date(cohort, options, inputs, before, run):
        inspections = inspections or _needed_inspections(cohort, options, before)
    align, why = _decide_alignment(options.align, before, inspections)
    decided = replace(options, align=align)
    record = _record(cohort, decided, options.align)
    previous = _previous_splits(run, cohort, options.seed) if run else {}
    people = cohort.people()
    return SlicingPlan(
        cohort=cohort,
        options=decided,
        align_asked=options.align,
        align_reason=why,
        space=record["space"],
        scans=tuple(_plan_scans(cohort, inputs, record, run)),
        inputs=inputs,
        record=record,
        reason=what_changed(run.slices, inputs, record) if run else "not made yet",
        splits=assign_splits(people, options.seed, previous, cohort.given_splits()),
        previous_splits=previous,
        inspections=tuple(inspections),
    )


def _up_to_date(
    cohort: Cohort,
    options: PrepareOptions,
    inputs: Described,
    before: Mapping[str, Any],
    run: RunFolder | None,
) -> bool:
    """Whether the result of an earlier run is what `auto` would give with its decision."""
    if run is None or options.align != "auto" or before.get("align_asked") != "auto":
        return False
    record = _record(cohort, replace(options, align=before["align"]), "auto")
    return what_changed(run.slices, inputs, record) is None


def _needed_inspections(
    cohort: Cohort, options: PrepareOptions, before: Mapping[str, Any]
) -> list[Inspection]:
    decided = before.get("align_asked") == "auto" and before["align"] != "none"
    return [] if options.align != "auto" or decided else inspect_first(cohort.scans)


def _decide_alignment(
    asked: str, before: Mapping[str, Any], inspections: Sequence[Inspection]
) -> tuple[str, str]:
    """What `auto` means, and why; once it has become an alignment, it stays that."""
    if asked != "auto":
        return asked, ""
    if before.get("align_asked") == "auto" and (before["align"] != "none" or not inspections):
        return str(before["align"]), "as in the earlier run"
    seen = [one for one in inspections if one.counts]
    heads = sum(one.whole_head for one in seen)
    if is_whole_head_cohort(seen):
        return "affine", f"{heads} of {len(seen)} inspected volumes are whole heads"
    return "none", f"{heads} of {len(seen)} inspected volumes are whole heads"


def _record(cohort: Cohort, options: PrepareOptions, align_asked: str) -> dict[str, Any]:
    """The options as provenance keeps them."""
    return options.record() | {
        "participants": participants_digest(cohort),
        "align_asked": align_asked,
        "space": common_space(options.align, cohort.scans),
    }


def _plan_scans(
    cohort: Cohort, inputs: Described, record: Mapping[str, Any], run: RunFolder | None
) -> list[PlannedScan]:
    if run is None:
        return [PlannedScan(scan) for scan in cohort.scans]
    how = {name: value for name, value in record.items() if name not in PARTICIPANT_OPTIONS}
    digests = scan_digests(cohort.scans, inputs, how)
    volume_how = {name: how[name] for name in VOLUME_OPTIONS}
    volume_digests = scan_digests(cohort.scans, inputs, volume_how)
    return [
        PlannedScan(scan, digest, volume_digest, scan_state(scan, digest, run.slices))
        for scan, digest, volume_digest in zip(cohort.scans, digests, volume_digests, strict=True)
    ]


def _previous_splits(run: RunFolder, cohort: Cohort, seed: int) -> dict[str, str]:
    """The stored splits of the cohort's participants; another seed deals all of them again."""
    record = read_provenance(run.slices)
    if record is None or record["options"].get("seed") != seed:
        return {}
    here = {person.participant_id for person in cohort.people()}
    stored = read_splits(run.slices / "participants.tsv")
    return {name: split for name, split in stored.items() if name in here}


def _check_pictures(cohort: Cohort, options: PrepareOptions) -> None:
    """Pictures are slices already: nothing can be said of how to cut them."""
    if not any(scan.form == "pictures" for scan in cohort.scans):
        return
    placed = options.axis != "axial" or options.positions is not None or options.count is not None
    if placed or options.align in KINDS or options.bias:
        raise UsageError(
            f"{cohort.layout} is made of axial slices as they come: leave out --axis, --positions, "
            "--count, --align and --bias"
        )
