"""The plan of `prepare`: what to do with each scan, decided before any work is done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from monai_vqbrain.cohorts import Cohort, Scan, assign_splits, read_cohort
from monai_vqbrain.cohorts.shared_images import with_shared_images
from monai_vqbrain.errors import UsageError
from monai_vqbrain.provenance import NOT_MADE, Described, intact_provenance, what_changed
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.freshness import input_names, scan_inputs
from monai_vqbrain.runs.slices import participants_digest
from monai_vqbrain.runs.slicing_code import (
    CODE,
    CONVERSION,
    PACKAGES,
    REGISTRATION,
    extraction,
    slicing_code,
)
from monai_vqbrain.runs.splits import splits_damage, stored_splits
from monai_vqbrain.stages.slicing.inspection import (
    Inspection,
    inspect_first,
    inspect_scans,
    is_whole_head_cohort,
)
from monai_vqbrain.stages.slicing.normalisation import Normalisation, common_space
from monai_vqbrain.stages.slicing.options import PrepareOptions
from monai_vqbrain.stages.slicing.source_state import FileStat, SourceState, file_stats
from monai_vqbrain.stages.slicing.stack_cache import ScanState, scan_digests, scan_state
from monai_vqbrain.transforms.brain_extraction import brain_methods, is_installed
from monai_vqbrain.transforms.registration import KINDS

PARTICIPANT_OPTIONS = (
    "seed",
    "columns",
    "layout",
    "exclude",
    "align_asked",
    "brain_asked",
    "participants",
)
"""Options that affect no slice."""
VOLUME_OPTIONS = ("align", "bias", "affine", "brain")
"""Options of the normalisation of a volume before it is sliced."""


@dataclass(frozen=True)
class PlannedScan:
    """The plan for one scan.

    Args:
        scan: the scan.
        digest: hash of all that its slices depend on: images and options.
        volume_digest: hash of all that its registration and bias field depend on.
        state: whether its stack exists already, or why it has to be made.
        source: its files when they were hashed.
    """

    scan: Scan
    digest: str = ""
    volume_digest: str = ""
    state: ScanState = ScanState.NEW
    source: SourceState = field(default_factory=SourceState)


@dataclass(frozen=True)
class SlicingPlan:
    """The plan of `prepare` for a source.

    Args:
        cohort: the participants and their scans.
        options: the requested options, with `align` decided.
        align_asked: the requested alignment.
        align_reason: the reason for the decision on `auto`; empty if another value was requested.
        normalisation: what is done with each volume before it is sliced, with `auto` decided.
        space: the template space of the slices; empty for each image's own space.
        scans: the plan for each scan.
        inputs: size and hash of each image; empty for a plan without a run folder.
        record: the options and the code that makes slices, as stored in provenance.
        reason: why `prepare` has to run; None if its result is up to date.
        splits: participant -> split.
        inspections: the results for the scans that were inspected.
    """

    cohort: Cohort
    options: PrepareOptions
    align_asked: str
    align_reason: str
    normalisation: Normalisation
    space: str
    scans: tuple[PlannedScan, ...]
    inputs: Described
    record: Mapping[str, Any]
    reason: str | None
    splits: Mapping[str, str]
    inspections: tuple[Inspection, ...] = ()

    @property
    def states(self) -> Counter[ScanState]:
        """The number of scans in each state."""
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
        options: the requested options.
        run: the run folder, to see which stacks exist; None to hash no image.
        inspect_all: inspect all scans, not only those that decide on the alignment.

    Raises:
        UsageError: if the source is not a cohort, or an option does not apply to it.
    """
    cohort = read_cohort(source, options.layout, options.columns, options.table)
    cohort = cohort.without(options.exclude)
    _check_pictures(cohort, options)
    stats = [file_stats(scan) for scan in cohort.scans] if run else []  # before they are hashed
    inputs = scan_inputs(cohort.scans) if run else {}
    cohort = with_shared_images(cohort, inputs)
    earlier = (intact_provenance(run.slices) or {}) if run else {}
    previous = earlier.get("options", {})
    how = Normalisation("none", options.bias, options.affine, _decide_brain(options.brain, earlier))
    inspections = inspect_scans(cohort.scans, how) if inspect_all else []
    if not _up_to_date(cohort, options, how, inputs, previous, run):
        inspections = inspections or _needed_inspections(cohort, options, how, previous)
    align, reason = _decide_alignment(options.align, previous, inspections)
    decided, how = replace(options, align=align), replace(how, align=align)
    record = _record(cohort, decided, options.align, how)
    scans = _plan_scans(cohort, stats, inputs, record, run)
    stored = stored_splits(run, options.seed) if run else {}
    given = cohort.given_splits()
    splits = assign_splits(cohort.participants(), options.seed, stored, given, cohort.groups)
    return SlicingPlan(
        cohort=cohort,
        options=decided,
        align_asked=options.align,
        align_reason=reason,
        normalisation=how,
        space=record["space"],
        scans=tuple(scans),
        inputs=inputs,
        record=record,
        reason=_why_to_run(scans, inputs, record, run),
        splits=splits,
        inspections=tuple(inspections),
    )


def _up_to_date(
    cohort: Cohort,
    options: PrepareOptions,
    how: Normalisation,
    inputs: Described,
    previous: Mapping[str, Any],
    run: RunFolder | None,
) -> bool:
    """Whether the result of an earlier run with `auto` is up to date."""
    if run is None or options.align != "auto" or previous.get("align_asked") != "auto":
        return False
    record = _record(cohort, replace(options, align=previous["align"]), "auto", how)
    return what_changed(run.slices, inputs, record) is None


def _needed_inspections(
    cohort: Cohort, options: PrepareOptions, how: Normalisation, previous: Mapping[str, Any]
) -> list[Inspection]:
    decided = previous.get("align_asked") == "auto" and previous["align"] != "none"
    return [] if options.align != "auto" or decided else inspect_first(cohort.scans, how)


def _decide_alignment(
    asked: str, previous: Mapping[str, Any], inspections: Sequence[Inspection]
) -> tuple[str, str]:
    """The alignment to use, and why; an earlier decision of `auto` to align is kept."""
    if asked != "auto":
        return asked, ""
    if previous.get("align_asked") == "auto" and (previous["align"] != "none" or not inspections):
        return str(previous["align"]), "as in the earlier run"
    counted = [inspection for inspection in inspections if inspection.counts]
    heads = sum(inspection.whole_head for inspection in counted)
    reason = f"{heads} of {len(counted)} inspected volumes are whole heads"
    return ("affine" if is_whole_head_cohort(counted) else "none"), reason


def _decide_brain(asked: str, earlier: Mapping[str, Any]) -> tuple[str, ...]:
    """How to find brains; an earlier decision of `auto` is kept, unless deepbet can do better now.

    Args:
        asked: the requested way.
        earlier: provenance of an earlier run.
    """
    options, sources = earlier.get("options", {}), earlier.get("mask_sources", {})
    better = is_installed() and "template" in sources
    if asked == "auto" and options.get("brain_asked") == "auto" and not better:
        return tuple(options["brain"])
    return brain_methods(asked, is_installed())


def _record(
    cohort: Cohort, options: PrepareOptions, align_asked: str, how: Normalisation
) -> dict[str, Any]:
    """The options, as stored in provenance, and the code that makes slices with them."""
    facts = {
        "participants": participants_digest(cohort),
        "align_asked": align_asked,
        "brain": list(how.brain),
        "brain_asked": options.brain,
        "space": common_space(options.align, cohort.scans),
    }
    packages = [*PACKAGES, *extraction(how.brain)]
    if options.align != "none" or options.bias:
        packages += REGISTRATION
    if any(scan.form == "dicom" for scan in cohort.scans):
        packages += CONVERSION
    return options.record() | slicing_code(packages) | facts


def _plan_scans(
    cohort: Cohort,
    stats: Sequence[tuple[FileStat, ...]],
    inputs: Described,
    record: Mapping[str, Any],
    run: RunFolder | None,
) -> list[PlannedScan]:
    if run is None:
        return [PlannedScan(scan) for scan in cohort.scans]
    options = {name: value for name, value in record.items() if name not in PARTICIPANT_OPTIONS}
    digests = scan_digests(cohort.scans, inputs, options)
    names = (*VOLUME_OPTIONS, *CODE)
    volume_options = {name: options[name] for name in names if name in options}
    volume_digests = scan_digests(cohort.scans, inputs, volume_options)
    sources = [
        SourceState(then, {n: inputs[n] for n in input_names(scan) if n in inputs})
        for scan, then in zip(cohort.scans, stats, strict=True)
    ]
    states = [
        scan_state(scan, digest, run.slices, run.volumes)
        for scan, digest in zip(cohort.scans, digests, strict=True)
    ]
    parts = zip(cohort.scans, digests, volume_digests, states, sources, strict=True)
    return [PlannedScan(*part) for part in parts]


def _why_to_run(
    scans: Sequence[PlannedScan],
    inputs: Described,
    record: Mapping[str, Any],
    run: RunFolder | None,
) -> str | None:
    """Why `prepare` has to run; None if all that it makes is up to date."""
    if run is None:
        return NOT_MADE
    reason = what_changed(run.slices, inputs, record) or splits_damage(run)
    changed = any(planned.state is ScanState.CHANGED for planned in scans)
    if reason is None and changed:  # stacks and options are as they were
        return f"files in {run.volumes.name} are missing or have changed"
    return reason


def _check_pictures(cohort: Cohort, options: PrepareOptions) -> None:
    """Refuse options of slicing for pictures, which are slices already."""
    if not any(scan.form == "pictures" for scan in cohort.scans):
        return
    sliced = options.axis != "axial" or options.positions is not None or options.count is not None
    if sliced or options.align in KINDS or options.bias:
        raise UsageError(
            f"{cohort.layout} contains ready-made axial slices: leave out --axis, --positions, "
            "--count, --align and --bias"
        )
