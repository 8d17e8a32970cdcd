"""A plan of `prepare` as lines of text."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from importlib.util import find_spec

from monai_vqbrain.cohorts import SPLITS, Cohort, Problem
from monai_vqbrain.stages.slicing.brain import LOST
from monai_vqbrain.stages.slicing.inspection import VOLUMES_INSPECTED, is_whole_head_cohort
from monai_vqbrain.stages.slicing.plan import SlicingPlan
from monai_vqbrain.stages.slicing.stack_cache import ScanState
from monai_vqbrain.transforms.simpleitk import MISSING

ALL_PARTICIPANTS = "all"
METHODS = {
    "given": "by their mask files",
    "zero": "by their zero background",
    "deepbet": "extracted by deepbet",
    "template": "by the template's brain mask",
}
MAX_PROBLEMS_SHOWN = 20


def plan_lines(plan: SlicingPlan) -> Iterator[str]:
    """Source, volumes, alignment, slices, splits and problems, in this order."""
    yield from _cohort_lines(plan.cohort)
    yield from _volume_lines(plan)
    yield from _alignment_lines(plan)
    yield from _slice_lines(plan)
    yield from _work_lines(plan)
    yield from _split_lines(plan)
    yield from _problem_lines(_problems(plan))
    yield from (f"note        {note}" for note in plan.cohort.notes)


def _cohort_lines(cohort: Cohort) -> Iterator[str]:
    kind = ", simulated" if cohort.simulated else ""
    participants, sessions = len(cohort.participants()), len({s.session_id for s in cohort.scans})
    yield f"source      {cohort.root} (layout {cohort.layout}{kind})"
    yield f"participants {participants}, volumes {len(cohort.scans)}, session labels {sessions}"
    for role in ("diagnosis", "sex", "age"):
        column = (cohort.columns or {}).get(role)
        known = sum(getattr(scan, role) not in ("", None) for scan in cohort.scans)
        what = f"column {column}" if column else f"no column: select one with --column {role}=NAME"
        yield f"{role:<11} {what}; known for {known} of {len(cohort.scans)} volumes"


def _volume_lines(plan: SlicingPlan) -> Iterator[str]:
    scans = plan.cohort.scans
    geometries = Counter(seen.geometry for seen in plan.inspections if seen.geometry)
    for geometry, count in geometries.most_common(3):
        yield f"volumes     {count} of {geometry}"
    if len(geometries) > 3:
        yield f"volumes     {len(geometries) - 3} other geometries"
    if any(scan.form == "pictures" for scan in scans):
        yield "brain       pixels brighter than the background"
        return
    yield from _brain_lines(plan)
    inspected = min(VOLUMES_INSPECTED, len(scans))
    yield f"            (voxels of the first {inspected} were inspected; prepare reads all)"


def _brain_lines(plan: SlicingPlan) -> Iterator[str]:
    """How the brains are found; for `auto` as in the first volumes."""
    scans, methods = plan.cohort.scans, plan.normalisation.brain
    if len(methods) == 1:
        yield f"brain       all {METHODS[methods[0]]}"
        return
    masks = sum(scan.mask_path is not None for scan in scans)
    in_space = sum(scan.mask_path is None and scan.space != "" for scan in scans)
    heads = is_whole_head_cohort(plan.inspections)
    method = METHODS[methods[-1] if heads else "zero"]
    yield f"brain       {masks} with a mask file, {len(scans) - masks - in_space} {method}"
    if in_space:
        yield f"            {in_space} by their zero background, otherwise {METHODS[methods[-1]]}"
    if heads and methods[-1] == "template":
        yield f"            whole heads {LOST}: pip install 'monai-vqbrain[strip]'"


def _alignment_lines(plan: SlicingPlan) -> Iterator[str]:
    align, reason = plan.options.align, plan.align_reason
    if plan.space and align == "none":
        reason = f"all are in the space {plan.space}"
    yield f"align       {align}" + (f": {reason}" if reason else "")
    if align != "none" and find_spec("SimpleITK") is None:
        yield f"            {MISSING}"
    if plan.options.bias:
        yield "bias        N4 correction"


def _slice_lines(plan: SlicingPlan) -> Iterator[str]:
    options = plan.options
    height, width = options.size
    brain = "the template's brain" if plan.space else "the brain"
    positions = "16 per volume, 3.6 mm apart"
    if options.axis == "axial":
        positions += f", the first 36 mm below the top of {brain}"
    if options.count is not None:
        positions = f"{options.count} per volume, evenly spaced within {brain}"
    if options.positions is not None:
        mm = "MNI152" if plan.space else "the images' own space (comparable if aligned)"
        positions = f"at {options.positions} mm of {mm}"
    yield f"slices      {options.axis}, {height} x {width} at {options.spacing:g} mm, {positions}"


def _work_lines(plan: SlicingPlan) -> Iterator[str]:
    """Which volumes are sliced and which are kept, for a plan with a run folder."""
    if not plan.inputs:
        return
    if plan.reason is None:
        yield "to do       nothing: the slices are up to date"
        return
    to_slice = {state: count for state, count in plan.states.items() if state is not ScanState.KEPT}
    parts = ", ".join(f"{count} {state.value}" for state, count in to_slice.items()) or "no volume"
    yield f"to do       slice {parts}; {plan.states[ScanState.KEPT]} kept ({plan.reason})"


def _split_lines(plan: SlicingPlan) -> Iterator[str]:
    """Participants, sessions (by the diagnosis at the session) and splits of each diagnosis."""
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for participant in plan.cohort.participants():
        for group in (participant.diagnosis or "n/a", ALL_PARTICIPANTS):
            table[group].update(["participants", plan.splits[participant.participant_id]])
    for scan in plan.cohort.scans:
        for group in (scan.diagnosis or "n/a", ALL_PARTICIPANTS):
            table[group].update(["sessions"])
    width = max(len(group) for group in table)
    columns = ("participants", "sessions", *SPLITS)
    yield f"{'diagnosis':<{width + 12}}" + "".join(f"{name:>14}" for name in columns)
    for group in sorted(table, key=lambda name: (name == ALL_PARTICIPANTS, name)):
        numbers = "".join(f"{table[group][name]:>14}" for name in columns)
        yield f"            {group:<{width}}{numbers}"


def _problems(plan: SlicingPlan) -> list[Problem]:
    problems = [seen.problem for seen in plan.inspections if seen.problem is not None]
    return [*problems, *plan.cohort.problems]


def _problem_lines(problems: list[Problem]) -> Iterator[str]:
    if not problems:
        yield "problems    none"
    for problem in problems[:MAX_PROBLEMS_SHOWN]:
        yield f"problem     {problem.path}: {problem.problem}: {problem.advice}"
    if len(problems) > MAX_PROBLEMS_SHOWN:
        yield f"problems    {len(problems) - MAX_PROBLEMS_SHOWN} more"
