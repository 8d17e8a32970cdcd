"""`vqbrain prepare`: volumes to slices."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import click
import numpy as np

from monai_vqbrain.cohorts import SPLITS, Cohort, Problem, Scan, assign_splits, read_cohort
from monai_vqbrain.errors import UsageError, VQBrainError
from monai_vqbrain.files import building
from monai_vqbrain.progress import progress
from monai_vqbrain.provenance import read_provenance, what_changed, write_provenance
from monai_vqbrain.stages.cuts import Cutting, digests_of, inputs_of, remove_others
from monai_vqbrain.stages.montage import write_montage
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
from monai_vqbrain.transforms import ExtractSlices

OF_PEOPLE = ("seed", "columns", "layout", "exclude")  # options that decide no slice


@dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """How to make slices.

    Args:
        layout: `auto`, or a layout of `cohorts.LAYOUTS`.
        axis: `axial`, `coronal` or `sagittal`.
        size: (H, W) pixels of a slice.
        spacing: size of a pixel, mm.
        positions: `FROM:TO:STEP` along the axis, mm in the images' world space, ends included.
        count: that many slices, evenly spread within the brain; by default 16, 3.6 mm apart.
        align: `auto` or `none`: slices are cut where the images lie.
        bias: correct the bias field.
        columns: role (diagnosis, sex, age) -> column of the source.
        jobs: processes.
        dask: instead, the address of a dask scheduler, such as tcp://10.0.0.1:8786.
        seed: of the splits.
        exclude: participants, or scans by `participant_id[_session_id]`, to leave out.
        on_error: `skip` unusable volumes, or `stop` at the first.

    Raises:
        UsageError: for a value that cannot be, or a way that is not available yet.
    """

    layout: str = "auto"
    axis: str = "axial"
    size: tuple[int, int] = (128, 128)
    spacing: float = 1.8
    positions: str | None = None
    count: int | None = None
    align: str = "auto"
    bias: bool = False
    columns: Mapping[str, str] | None = None
    jobs: int = 1
    dask: str | None = None
    seed: int = 0
    exclude: Sequence[str] = ()
    on_error: str = "skip"

    def __post_init__(self) -> None:
        if self.align in ("rigid", "affine"):
            raise UsageError(
                f"--align {self.align} is not available yet: align the images before, then use none"
            )
        if self.bias:
            raise UsageError("--bias is not available yet: correct the bias field before")
        for name, allowed in {"align": ("auto", "none"), "on_error": ("skip", "stop")}.items():
            if getattr(self, name) not in allowed:
                option = name.replace("_", "-")
                raise UsageError(
                    f"--{option} must be {' or '.join(allowed)}, got {getattr(self, name)!r}"
                )
        if self.jobs < 1:
            raise UsageError(f"--jobs must be at least 1, got {self.jobs}")
        if self.positions is not None and self.count is not None:
            raise UsageError("--positions and --count exclude each other: give one of them")
        self.extract()

    def extract(self) -> ExtractSlices:
        """The transform that these options describe."""
        height, width = self.size
        least = min(height / 8, width / 8, 1 if self.count is None else self.count)
        if least < 1 or not self.spacing > 0:
            raise UsageError(
                "--size must be 8 pixels or more, --spacing above 0 mm, --count 1 or more, got "
                f"{height} x {width}, {self.spacing:g}, {self.count}"
            )
        where = None if self.positions is None else parse_positions(self.positions)
        try:
            return ExtractSlices(
                self.axis, (width, height), self.spacing, positions=where, count=self.count
            )
        except ValueError as error:
            raise UsageError(str(error)) from error

    def record(self) -> dict[str, Any]:
        """What the result depends on, for provenance."""
        values = asdict(self)
        values["columns"] = dict(self.columns or {})
        values["exclude"] = sorted(self.exclude)
        return {key: values[key] for key in values if key not in ("jobs", "dask", "on_error")}


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
    record = options.record() | {"participants": _digest(cohort)}
    why = what_changed(folder, inputs, record)
    if why is None:
        click.echo(f"{folder} is up to date")
        return folder
    previous = _previous_splits(folder, cohort, options.seed)
    how = {name: value for name, value in options.record().items() if name not in OF_PEOPLE}
    digests = digests_of(cohort.scans, inputs, how)
    with building(folder, go_on=True) as work:
        cutting = Cutting(options.extract(), work, folder, RunFolder(run).volumes)
        new = sum(not cutting.done(*one) for one in zip(cohort.scans, digests, strict=True))
        click.echo(f"{folder}: {why}; {new} of {len(cohort.scans)} volumes to cut")
        cuts = list(_cut_all(cohort.scans, digests, cutting, options))
        remove_others(cuts, work)
        problems = [*(p for cut in cuts for p in cut.problems), *cohort.problems]
        usable = [cut for cut in cuts if cut.slices]
        if not usable:
            raise VQBrainError(f"no volume is usable, the first: {_line(problems[0])}")
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
    if options.positions is not None:
        click.echo(
            "positions are mm of each image's own space: the same place in every brain only where "
            "the images were aligned"
        )
    return folder


def parse_positions(text: str) -> np.ndarray:
    """Read `FROM:TO:STEP` in mm, both ends included.

    Raises:
        UsageError: for anything else.

    Example:
        >>> parse_positions("-10:5:5").tolist()
        [-10.0, -5.0, 0.0, 5.0]
    """
    try:
        first, last, step = (float(part) for part in text.split(":"))
        count = int(np.floor((last - first) / step + 1e-6)) + 1
    except (ValueError, ZeroDivisionError, OverflowError):
        count = 0
    if not 1 <= count <= 10_000:
        raise UsageError(
            f"--positions must be FROM:TO:STEP in mm, such as -20:40:3.6, got {text!r}"
        )
    return first + step * np.arange(count)


def _cut_all(
    scans: Sequence[Scan], digests: Sequence[str], cutting: Cutting, options: PrepareOptions
) -> Iterator[Cut]:
    items = list(zip(scans, digests, strict=True))
    done = in_order(cutting, items, options.jobs, options.dask)
    for cut in progress(done, "cutting volumes", len(scans)):
        if options.on_error == "stop" and not cut.slices:
            raise VQBrainError(_line(cut.problems[0]))
        yield cut


def _write_tables(
    cohort: Cohort, usable: Sequence[Cut], previous: Mapping[str, str], seed: int, work: Path
) -> list[dict[str, Any]]:
    cut_people = {cut.scan.participant_id for cut in usable}
    people = [p for p in cohort.people() if p.participant_id in cut_people]
    splits = assign_splits(people, seed, previous, cohort.given_splits())
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
    if options.axis != "axial" or options.positions is not None or options.count is not None:
        raise UsageError(
            f"{cohort.layout} is made of axial slices as they come: leave out --axis, --positions "
            "and --count"
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
