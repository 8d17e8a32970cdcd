"""`vqbrain prepare`: volumes to slices."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
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
from monai_vqbrain.stages.normalise import Normalisation, need_simpleitk
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
from monai_vqbrain.transforms.registration import KINDS
from monai_vqbrain.transforms.template import SPACE, template_extent

ALIGN = ("auto", "none", *KINDS)
OF_PEOPLE = ("seed", "columns", "layout", "exclude", "asked", "participants")  # decide no slice
OF_VOLUMES = ("align", "bias")
LOOKED_AT = 5  # volumes that decide what `auto` means: the geometry of all hangs on it


@dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """How to make slices.

    Args:
        layout: `auto`, or a layout of `cohorts.LAYOUTS`.
        axis: `axial`, `coronal` or `sagittal`.
        size: (H, W) pixels of a slice.
        spacing: size of a pixel, mm.
        positions: `FROM:TO:STEP` along the axis, mm, ends included: of MNI152 in aligned data, of
            the images' world space in others.
        count: that many slices, evenly spread within the brain (in aligned data within the
            template's); by default 16, 3.6 mm apart.
        align: to MNI152, `rigid` or `affine`; `none`: slices are cut where the images lie;
            `auto`: `affine` where most of the first five volumes are whole heads, else `none`.
        bias: correct the bias field (N4).
        columns: role (diagnosis, sex, age) -> column of the source.
        jobs: processes.
        dask: instead, the address of a dask scheduler, such as tcp://10.0.0.1:8786.
        seed: of the splits.
        exclude: participants, or scans by `participant_id[_session_id]`, to leave out.
        on_error: `skip` unusable volumes, or `stop` at the first.

    Raises:
        UsageError: for a value that cannot be, or a package that is not installed.
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
        for name, allowed in {"align": ALIGN, "on_error": ("skip", "stop")}.items():
            if getattr(self, name) not in allowed:
                option = name.replace("_", "-")
                raise UsageError(
                    f"--{option} must be {' or '.join(allowed)}, got {getattr(self, name)!r}"
                )
        if self.align in KINDS:
            need_simpleitk(f"--align {self.align}")
        if self.bias:
            need_simpleitk("--bias")
        if self.jobs < 1:
            raise UsageError(f"--jobs must be at least 1, got {self.jobs}")
        if self.positions is not None and self.count is not None:
            raise UsageError("--positions and --count exclude each other: give one of them")
        self.extract()

    def extract(self, in_template: bool = False) -> ExtractSlices:
        """The transform that these options describe; in the template's space all brains alike."""
        height, width = self.size
        least = min(height / 8, width / 8, 1 if self.count is None else self.count)
        if least < 1 or not self.spacing > 0:
            raise UsageError(
                "--size must be 8 pixels or more, --spacing above 0 mm, --count 1 or more, got "
                f"{height} x {width}, {self.spacing:g}, {self.count}"
            )
        where = None if self.positions is None else parse_positions(self.positions)
        frame = template_extent() if in_template else None
        size = (width, height)
        try:
            return ExtractSlices(
                self.axis, size, self.spacing, positions=where, count=self.count, frame=frame
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
    return str(before["align"]) if before.get("asked") == "auto" else "none"


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
    record = options.record() | {"participants": _digest(cohort), "asked": asked, "space": space}
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
        click.echo(f"{folder}: {why}; {new} of {len(items)} volumes to cut")
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


def common_space(align: str, scans: Sequence[Scan]) -> str:
    """The template space that all volumes are in when they are cut; empty if there is none.

    Args:
        align: `none`, `rigid` or `affine`.
        scans: of one cohort.
    """
    if align in KINDS:
        return SPACE
    spaces = {scan.space for scan in scans if scan.form != "pictures"}
    return spaces.pop() if len(spaces) == 1 and all(s.startswith("MNI") for s in spaces) else ""


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
    items: Sequence[tuple[Scan, str, str]], cutting: Cutting, options: PrepareOptions, asked: str
) -> Iterator[Cut]:
    done = in_order(cutting, items, options.jobs, options.dask)
    first: list[bool] = []  # whether it is a whole head, of those that hold a brain
    for number, cut in enumerate(progress(done, "cutting volumes", len(items)), start=1):
        if asked == "auto" and options.align == "none" and len(first) < LOOKED_AT:
            first += [cut.whole_head] if cut.whole_head or cut.slices else []
            if sum(first) > len(first) / 2 and (len(first) == LOOKED_AT or number == len(items)):
                raise _WholeHeadFound
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
