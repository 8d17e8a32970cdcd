"""`vqbrain prepare`: volumes to slices."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import click

from monai_vqbrain.cohorts import SPLITS, Cohort, Problem, Scan, assign_splits, read_cohort
from monai_vqbrain.errors import UsageError, VQBrainError
from monai_vqbrain.files import building
from monai_vqbrain.progress import progress
from monai_vqbrain.provenance import read_provenance, what_changed, write_provenance
from monai_vqbrain.stages.cuts import Cutting, digests_of, inputs_of, remove_others
from monai_vqbrain.stages.montage import write_montage
from monai_vqbrain.stages.normalise import (
    LOOKED_AT,
    Normalisation,
    common_space,
    mostly_heads,
    need_simpleitk,
)
from monai_vqbrain.stages.prepare_options import PrepareOptions
from monai_vqbrain.stages.qc import write_qc
from monai_vqbrain.stages.run import RunFolder
from monai_vqbrain.stages.slice_tables import (
    LEAST_BRAIN,
    make_datalist,
    read_splits,
    slice_rows,
    write_participants,
    write_problems,
    write_slices,
)
from monai_vqbrain.stages.stacks import Cut
from monai_vqbrain.stages.workers import in_order
from monai_vqbrain.transforms.registration import KINDS

OF_PEOPLE = (
    "seed",
    "columns",
    "layout",
    "exclude",
    "align_asked",
    "participants",
)  # decide no slice
OF_VOLUMES = ("align", "bias")


def prepare(source: Path, run: Path, options: PrepareOptions) -> Path:
    """Make the slices of a cohort: stacks, masks, tables, datalist, a picture to look at.

    Args:
        source: the folder with the images.
        run: the run folder; the slices go to `2-slices` in it.
        options: how.

    Returns:
        The slices' folder. It is left as it is if it rests on the same images and options.

    Raises:
        UsageError: the source is not one.
        VQBrainError: no volume is usable, or one is not with `on_error="stop"`.
    """
    started = time.monotonic()
    if options.dask is not None:  # its workers may stand anywhere
        source, run = source.absolute(), run.absolute()
    folder = RunFolder(run).slices
    cohort = read_cohort(source, options.layout, options.columns).without(options.exclude)
    _check_pictures(cohort, options)
    inputs = inputs_of(cohort.scans)
    align = _align_first(folder, options)
    try:
        done = _prepare(cohort, inputs, replace(options, align=align), options.align, run, started)
    except _WholeHeadFound:
        need_simpleitk("whole heads must be aligned")
        click.echo("they are whole heads: all volumes are aligned to MNI152 (--align affine)")
        how = replace(options, align="affine")
        done = _prepare(cohort, inputs, how, options.align, run, started)
    return done


class _WholeHeadFound(Exception):
    """Most of the first volumes are whole heads, and nothing was said of alignment."""


def _align_first(folder: Path, options: PrepareOptions) -> str:
    """How to align, as far as known before a volume is read: `auto` stays what it has become."""
    if options.align != "auto":
        return options.align
    before = (read_provenance(folder) or {}).get("options", {})
    return str(before["align"]) if before.get("align_asked") == "auto" else "none"


def _prepare(
    cohort: Cohort,
    inputs: Mapping[str, dict[str, Any]],
    options: PrepareOptions,
    asked: str,
    run: Path,
    started: float,
) -> Path:
    folder = RunFolder(run).slices
    space = common_space(options.align, cohort.scans)
    record = options.record() | {
        "participants": _digest(cohort),
        "align_asked": asked,
        "space": space,
    }
    why = what_changed(folder, inputs, record)
    if why is None:
        click.echo(f"{folder} is up to date")
        return folder
    previous = _previous_splits(folder, cohort, options.seed)
    how = {name: value for name, value in record.items() if name not in OF_PEOPLE}
    digests = digests_of(cohort.scans, inputs, how)
    of_volumes = digests_of(cohort.scans, inputs, {name: how[name] for name in OF_VOLUMES})
    items = list(zip(cohort.scans, digests, of_volumes, strict=True))
    with building(folder, go_on=True) as work:
        normalisation = Normalisation(options.align, options.bias)
        extract = options.extract(in_template=space != "")
        cutting = Cutting(extract, normalisation, work, folder, RunFolder(run).volumes)
        new = sum(not cutting.done(scan, digest) for scan, digest, _ in items)
        click.echo(
            f"{folder}: {why}; {new} of {len(items)} volumes to cut (layout {cohort.layout})"
        )
        cuts = list(_cut_all(items, cutting, options, asked))
        remove_others(cuts, work)
        problems = [*(p for cut in cuts for p in cut.problems), *cohort.problems]
        usable = [cut for cut in cuts if cut.slices]
        if not usable:
            where = _keep_problems(problems, folder)
            raise VQBrainError(f"no volume is usable, the first: {_line(problems[0])}{where}")
        rows = _write_tables(cohort, usable, previous, options.seed, work)
        write_problems(problems, work / "problems.tsv")
        stacks = list(dict.fromkeys(work / row["stack"] for row in rows))
        (work / "qc").mkdir(exist_ok=True)
        write_montage(stacks, work / "qc" / "montage.png", options.axis)
        write_qc(usable, work, work / "qc")
        more = {
            "volumes": len(stacks),
            "slices": len(rows),
            "layout": cohort.layout,
            "simulated": cohort.simulated,
            "given_splits": bool(cohort.given_splits()),
            "notes": list(cohort.notes),
        }
        write_provenance(work, inputs, record, time.monotonic() - started, **more)
    _tell(rows, problems, folder)
    for note in cohort.notes:
        click.echo(f"note: {note}")
    if options.positions is not None and not space:
        click.echo(
            "positions are mm of each image's own space: the same place in every brain only where "
            "the images were aligned (--align affine)"
        )
    return folder


def _keep_problems(problems: Sequence[Problem], folder: Path) -> str:
    """Write problems.tsv where no slices of before would be lost; and say where it is."""
    if (folder / "slices.tsv").is_file():
        return ""
    folder.mkdir(parents=True, exist_ok=True)
    write_problems(problems, folder / "problems.tsv")
    return f" (all of them: {folder / 'problems.tsv'})"


def _cut_all(
    items: Sequence[tuple[Scan, str, str]], cutting: Cutting, options: PrepareOptions, asked: str
) -> Iterator[Cut]:
    undecided = asked == "auto" and options.align == "none"
    held: list[Cut] = []
    done = in_order(cutting, items, options.jobs, options.dask)
    for number, cut in enumerate(progress(done, "cutting volumes", len(items)), start=1):
        held.append(cut)
        if undecided:
            heads = [cut.whole_head for cut in held if cut.whole_head or cut.slices]
            if len(heads) < LOOKED_AT and number < len(items):
                continue
            if mostly_heads(heads):
                raise _WholeHeadFound
            undecided = False
        for one in held:
            if options.on_error == "stop" and not one.slices:
                raise VQBrainError(_line(one.problems[0]))
            yield one
        held.clear()


def _write_tables(
    cohort: Cohort, usable: Sequence[Cut], previous: Mapping[str, str], seed: int, work: Path
) -> list[dict[str, Any]]:
    cut_people = {cut.scan.participant_id for cut in usable}
    people = [p for p in cohort.people() if p.participant_id in cut_people]
    splits = assign_splits(people, seed, previous, cohort.given_splits())
    if "training" not in splits.values():
        raise VQBrainError(
            "nobody who is left is in the training split, and nobody is moved between splits: "
            "use another --seed, or another run folder"
        )
    rows = slice_rows(usable, splits)
    kind = "simulated brains" if cohort.simulated else "brain MRI"
    datalist = make_datalist(rows, f"T1-weighted {kind}, slices in [0, 1]; label: brain mask")
    if not datalist["training"]:
        raise VQBrainError(
            f"no slice of a training participant is {LEAST_BRAIN:.0%} brain or more: "
            "look at --positions and --spacing"
        )
    (work / "datalist.json").write_text(json.dumps(datalist, indent=1) + "\n")
    write_slices(rows, work / "slices.tsv")
    write_participants(people, splits, work / "participants.tsv")
    return rows


def _previous_splits(folder: Path, cohort: Cohort, seed: int) -> dict[str, str]:
    """Who is where already: people added later move nobody, another seed deals anew."""
    record = read_provenance(folder)
    if record is None or record["options"].get("seed") != seed:
        return {}
    here = {person.participant_id for person in cohort.people()}
    stored = read_splits(folder / "participants.tsv")
    return {who: split for who, split in stored.items() if who in here}


def _check_pictures(cohort: Cohort, options: PrepareOptions) -> None:
    """Pictures are slices already: nothing can be said of how to cut them."""
    if not any(scan.form == "pictures" for scan in cohort.scans):
        return
    where = options.axis != "axial" or options.positions is not None or options.count is not None
    if where or options.align in KINDS or options.bias:
        raise UsageError(
            f"{cohort.layout} is made of axial slices as they come: leave out --axis, --positions, "
            "--count, --align and --bias"
        )


def _digest(cohort: Cohort) -> str:
    """A short hash of what the source says of its participants."""
    said = [(s.participant_id, s.session_id, s.diagnosis, s.sex, s.age) for s in cohort.scans]
    return sha256(json.dumps(said).encode()).hexdigest()[:12]


def _tell(rows: Sequence[Mapping[str, Any]], problems: Sequence[Problem], folder: Path) -> None:
    volumes = len({row["stack"] for row in rows})
    thin = sum(row["brain_fraction"] < LEAST_BRAIN for row in rows)
    click.echo(
        f"{volumes} volumes, {len(rows)} slices in {folder}; {thin} slices with under "
        f"{LEAST_BRAIN:.0%} brain are used neither in training nor in scores"
    )
    filled = {row["split"] for row in rows}
    for split in (split for split in SPLITS if split not in filled):
        click.echo(f"nobody is in the {split} split: three participants with slices are needed")
    if problems:
        click.echo(f"{len(problems)} problem(s), first: {_line(problems[0])}")
        click.echo(f"all of them: {folder / 'problems.tsv'}")


def _line(problem: Problem) -> str:
    return f"{problem.path}: {problem.problem}: {problem.advice}"
