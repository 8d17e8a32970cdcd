"""`vqbrain check`: what prepare would do with a source, and what is wrong with it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import click

from monai_vqbrain.cohorts import SPLITS, Cohort, Problem, Scan, assign_splits, read_cohort
from monai_vqbrain.progress import progress
from monai_vqbrain.stages.normalise import LOOKED_AT, common_space, mostly_heads
from monai_vqbrain.stages.prepare_options import PrepareOptions
from monai_vqbrain.stages.stacks import not_oriented
from monai_vqbrain.stages.volume import (
    UnusableVolumeError,
    WholeHeadError,
    find_brain,
    is_oriented,
    open_volume,
    read_volume,
)
from monai_vqbrain.transforms.simpleitk import MISSING

EVERYBODY = "everybody"
MOST_LINES = 20  # problems shown


def check(source: Path, options: PrepareOptions) -> None:
    """Print prepare's plan for a source, from tables, headers and the voxels of a few volumes.

    Args:
        source: the folder with the images.
        options: those that prepare would get.

    Raises:
        UsageError: the source is not one.
    """
    cohort = read_cohort(source, options.layout, options.columns).without(options.exclude)
    looks: list[Look] = []
    seen = 0
    for scan in progress(cohort.scans, "reading headers", len(cohort.scans)):
        looks.append(_look(scan, voxels=seen < LOOKED_AT))
        seen += looks[-1].seen
    align = options.align
    if align == "auto":
        align = "affine" if _are_heads(looks) else "none"
    problems = [look.problem for look in looks if look.problem is not None]
    if align == "none":
        problems += [look.unaligned for look in looks if look.unaligned is not None]
    space = common_space(align, cohort.scans)
    lines = [*_people(cohort), *_volumes(cohort, looks), *_place(options, align, space, looks)]
    lines += [*_slices(options, space), *_groups(cohort, options.seed)]
    lines += _problems([*problems, *cohort.problems])
    lines += [f"note        {note}" for note in cohort.notes]
    click.echo("\n".join(lines))


class Look(NamedTuple):
    """What was seen of a scan.

    Args:
        geometry: in words; empty where there is none.
        head: it is a whole head, as what comes from a scanner is.
        seen: its voxels were read, or it is taken for a head.
        problem: what is wrong with it.
        unaligned: what is wrong with it if it is not aligned.
    """

    geometry: str = ""
    head: bool = False
    seen: bool = False
    problem: Problem | None = None
    unaligned: Problem | None = None


def _are_heads(looks: Sequence[Look]) -> bool:
    """Most of the first volumes are whole heads, as prepare will find."""
    return mostly_heads([look.head for look in looks if look.seen])


def _look(scan: Scan, voxels: bool) -> Look:
    """Look at a header, and at the voxels too."""
    if scan.form == "pictures":
        return Look(f"{len(scan.files)} pictures of slices")
    if scan.form == "dicom":
        return Look(f"{len(scan.files)} DICOM files, to be converted", head=True, seen=True)
    try:
        image = open_volume(scan.path)
        if scan.mask_path is not None:
            open_volume(scan.mask_path)
        problem = None if is_oriented(image) else not_oriented(scan)
        voxel = " x ".join(f"{size:.3g}" for size in image.header.get_zooms()[:3])
        look = Look(
            f"{' x '.join(map(str, image.shape[:3]))} voxels of {voxel} mm", problem=problem
        )
        if voxels:
            find_brain(read_volume(scan.path), scan.mask_path, scan.space)
    except WholeHeadError as error:
        unaligned = Problem(scan.source, error.problem, error.advice)
        return look._replace(head=True, seen=True, unaligned=unaligned)
    except UnusableVolumeError as error:
        return Look(problem=Problem(scan.source, error.problem, error.advice))
    return look._replace(seen=voxels)


def _people(cohort: Cohort) -> Iterator[str]:
    kind = ", simulated" if cohort.simulated else ""
    people, sessions = len(cohort.people()), len({s.session_id for s in cohort.scans})
    yield f"source      {cohort.root} (layout {cohort.layout}{kind})"
    yield f"people      {people}, volumes {len(cohort.scans)}, sessions by name {sessions}"
    for role in ("diagnosis", "sex", "age"):
        column = (cohort.columns or {}).get(role)
        known = sum(getattr(scan, role) not in ("", None) for scan in cohort.scans)
        what = f"column {column}" if column else f"no column: name one with --column {role}=NAME"
        yield f"{role:<11} {what}; known for {known} of {len(cohort.scans)} volumes"


def _volumes(cohort: Cohort, looks: Sequence[Look]) -> Iterator[str]:
    geometries = Counter(look.geometry for look in looks if look.geometry)
    for geometry, count in geometries.most_common(3):
        yield f"volumes     {count} of {geometry}"
    if len(geometries) > 3:
        yield f"volumes     {len(geometries) - 3} other geometries"
    if any(scan.form == "pictures" for scan in cohort.scans):
        yield "brain       what is brighter than the pictures' background"
        return
    masks = sum(scan.mask_path is not None for scan in cohort.scans)
    in_space = sum(scan.mask_path is None and scan.space != "" for scan in cohort.scans)
    rest = len(cohort.scans) - masks - in_space
    way = "alignment" if _are_heads(looks) else "their zero background"
    yield f"brain       {masks} with a mask file, {rest} by {way}"
    if in_space:
        yield f"            {in_space} by the same, or else by the template's brain"
    seen = min(LOOKED_AT, len(cohort.scans))
    yield f"            (the first {seen} looked at; prepare looks at all)"


def _place(options: PrepareOptions, align: str, space: str, looks: Sequence[Look]) -> Iterator[str]:
    heads = sum(look.head for look in looks)
    why = ""
    if options.align == "auto":
        why = f": {heads} of those seen are whole heads" if heads else ": no whole head was seen"
        if space and align == "none":
            why = f": all are in the space {space}"
    yield f"align       {align}{why}"
    if align != "none" and find_spec("SimpleITK") is None:
        yield f"            {MISSING}"
    if options.bias:
        yield "bias        corrected by N4"


def _slices(options: PrepareOptions, space: str) -> Iterator[str]:
    height, width = options.size
    whose = "the template's brain" if space else "the brain"
    where = "16 a volume, 3.6 mm apart"
    if options.axis == "axial":
        top = "the top of the template's brain" if space else "the brain's top"
        where += f", the first 36 mm below {top}"
    if options.count is not None:
        where = f"{options.count} a volume, evenly spread within {whose}"
    if options.positions is not None:
        mm = "MNI152" if space else "the images' own space (the same place if aligned)"
        where = f"at {options.positions} mm of {mm}"
    yield f"slices      {options.axis}, {height} x {width} at {options.spacing:g} mm, {where}"


def _groups(cohort: Cohort, seed: int) -> Iterator[str]:
    """People, sessions (by the diagnosis of the day) and splits of each diagnosis."""
    people = cohort.people()
    splits = assign_splits(people, seed, given=cohort.given_splits())
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for person in people:
        for group in (person.diagnosis or "n/a", EVERYBODY):
            table[group].update(["people", splits[person.participant_id]])
    for scan in cohort.scans:
        for group in (scan.diagnosis or "n/a", EVERYBODY):
            table[group].update(["sessions"])
    wide = max(len(group) for group in table)
    columns = ("people", "sessions", *SPLITS)
    yield f"{'diagnosis':<{wide + 12}}" + "".join(f"{name:>12}" for name in columns)
    for group in sorted(table, key=lambda name: (name == EVERYBODY, name)):
        numbers = "".join(f"{table[group][name]:>12}" for name in columns)
        yield f"            {group:<{wide}}{numbers}"


def _problems(problems: list[Problem]) -> Iterator[str]:
    if not problems:
        yield "problems    none"
    for problem in problems[:MOST_LINES]:
        yield f"problem     {problem.path}: {problem.problem}: {problem.advice}"
    if len(problems) > MOST_LINES:
        yield f"problems    {len(problems) - MOST_LINES} more"
