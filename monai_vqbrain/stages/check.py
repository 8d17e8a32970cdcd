"""`vqbrain check`: what prepare would do with a source, and what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click

from monai_vqbrain.cohorts import SPLITS, Cohort, Problem, Scan, assign_splits, read_cohort
from monai_vqbrain.progress import progress
from monai_vqbrain.stages.prepare import PrepareOptions
from monai_vqbrain.stages.stacks import not_oriented
from monai_vqbrain.stages.volume import (
    UnusableVolumeError,
    find_brain,
    is_oriented,
    open_volume,
    read_volume,
)

MOST_LINES = 20  # problems shown
VOXELS_READ = 5  # volumes whose voxels are looked at; one that is no brain is rarely alone


def check(source: Path, options: PrepareOptions) -> None:
    """Print prepare's plan for a source, from tables, headers and the voxels of a few volumes.

    Args:
        source: the folder with the images.
        options: those that prepare would get.

    Raises:
        UsageError: the source is not one.
    """
    cohort = read_cohort(source, options.layout, options.columns).without(options.exclude)
    geometries: Counter[str] = Counter()
    problems = list(cohort.problems)
    for number, scan in enumerate(progress(cohort.scans, "reading headers", len(cohort.scans))):
        found = _look(scan, voxels=number < VOXELS_READ)
        if isinstance(found, Problem):
            problems.append(found)
        else:
            geometries[found] += 1
    lines = [*_people(cohort), *_volumes(cohort, geometries), *_slices(options)]
    lines += [*_splits(cohort, options.seed), *_problems(problems)]
    lines += [f"note        {note}" for note in cohort.notes]
    click.echo("\n".join(lines))


def _look(scan: Scan, voxels: bool) -> Problem | str:
    """What is wrong with a header, or with the voxels too; else the geometry in words."""
    if scan.form == "pictures":
        return f"{len(scan.files)} pictures of slices"
    if scan.form == "dicom":
        return f"{len(scan.files)} DICOM files, to be converted"
    try:
        image = open_volume(scan.path)
        if voxels:
            find_brain(read_volume(scan.path), scan.mask_path, scan.space)
        if scan.mask_path is not None:
            open_volume(scan.mask_path)
    except UnusableVolumeError as error:
        return Problem(scan.source, error.problem, error.advice)
    if not is_oriented(image):
        return not_oriented(scan)
    voxel = " x ".join(f"{size:.3g}" for size in image.header.get_zooms()[:3])
    return f"{' x '.join(map(str, image.shape[:3]))} voxels of {voxel} mm"


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


def _volumes(cohort: Cohort, geometries: Counter[str]) -> Iterator[str]:
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
    yield f"brain       {masks} with a mask file, {rest} by their zero background "
    if in_space:
        yield f"            {in_space} by the same, or else by the template's brain"
    seen = min(VOXELS_READ, len(cohort.scans))
    yield f"            (the first {seen} looked at; prepare looks at all)"


def _slices(options: PrepareOptions) -> Iterator[str]:
    height, width = options.size
    where = "16 a volume, 3.6 mm apart"
    if options.axis == "axial":
        where += ", the first 36 mm below the brain's top"
    if options.count is not None:
        where = f"{options.count} a volume, evenly spread within the brain"
    if options.positions is not None:
        where = f"at {options.positions} mm of the images' own space (the same place if aligned)"
    yield f"slices      {options.axis}, {height} x {width} at {options.spacing:g} mm, {where}"


def _splits(cohort: Cohort, seed: int) -> Iterator[str]:
    people = cohort.people()
    splits = assign_splits(people, seed, given=cohort.given_splits())
    counts = Counter((p.diagnosis or "n/a", splits[p.participant_id]) for p in people)
    groups = sorted({group for group, _ in counts})
    wide = max(len(group) for group in [*groups, "everybody"])
    yield f"{'people by diagnosis':<{wide + 12}}" + "".join(f"{split:>12}" for split in SPLITS)
    for group in groups:
        numbers = "".join(f"{counts[group, split]:>12}" for split in SPLITS)
        yield f"            {group:<{wide}}{numbers}"
    totals = "".join(f"{sum(counts[g, split] for g in groups):>12}" for split in SPLITS)
    yield f"            {'everybody':<{wide}}{totals}"


def _problems(problems: list[Problem]) -> Iterator[str]:
    if not problems:
        yield "problems    none"
    for problem in problems[:MOST_LINES]:
        yield f"problem     {problem.path}: {problem.problem}: {problem.advice}"
    if len(problems) > MOST_LINES:
        yield f"problems    {len(problems) - MOST_LINES} more"
