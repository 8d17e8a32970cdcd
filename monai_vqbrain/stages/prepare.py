"""`vqbrain prepare`: volumes to slices."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from monai_vqbrain.cohorts import SPLITS, Problem
from monai_vqbrain.cohorts.shared_images import with_shared_images
from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.files import building, remove_temporaries
from monai_vqbrain.logs import PRIVATE, logging_to
from monai_vqbrain.progress import progress
from monai_vqbrain.provenance import describe, write_provenance
from monai_vqbrain.runs.folder import MIN_BRAIN_FRACTION, RunFolder
from monai_vqbrain.runs.slices import write_problems, write_slice_tables
from monai_vqbrain.runs.slicing_code import CODE
from monai_vqbrain.stages.slicing.brain import LOST
from monai_vqbrain.stages.slicing.montage import write_montage
from monai_vqbrain.stages.slicing.normalisation import require_simpleitk
from monai_vqbrain.stages.slicing.options import PrepareOptions
from monai_vqbrain.stages.slicing.plan import SlicingPlan, make_plan
from monai_vqbrain.stages.slicing.qc import write_qc
from monai_vqbrain.stages.slicing.scan_slices import SlicedScan
from monai_vqbrain.stages.slicing.stack_cache import ScanState, StackCache, remove_stale
from monai_vqbrain.stages.slicing.workers import map_in_order

logger = logging.getLogger(__name__)


def prepare(
    source: Path | str,
    run: Path | str,
    *,
    layout: str = "auto",
    axis: str = "axial",
    size: tuple[int, int] = (128, 128),
    spacing: float = 1.8,
    positions: str | None = None,
    count: int | None = None,
    align: str = "auto",
    bias: bool = False,
    affine: str = "auto",
    brain: str = "auto",
    columns: Mapping[str, str] | None = None,
    table: Path | str | None = None,
    exclude: Sequence[str] = (),
    seed: int = 0,
    jobs: int = 1,
    dask: str | None = None,
    on_error: str = "skip",
) -> Path:
    """Make the slices of a cohort: stacks, masks, tables, datalist, quality control.

    Args:
        source: the folder with the images.
        run: the run folder; the slices go to `2-slices` in it.
        layout: `auto`, or a layout of `cohorts.LAYOUTS`.
        axis: `axial`, `coronal` or `sagittal`.
        size: (H, W) pixels of a slice.
        spacing: size of a pixel, mm.
        positions: `FROM:TO:STEP` along the axis, mm, ends included.
        count: instead of positions, a number of slices, evenly spaced within the brain.
        align: register to MNI152: `auto`, `none`, `rigid` or `affine`.
        bias: correct the bias field (N4).
        affine: `sform` or `qform` counts where they disagree; `auto`: such images are refused.
        brain: how brains are found: `auto`, `given`, `zero`, `deepbet` or `template`.
        columns: role (diagnosis, sex, age) -> column of the source.
        table: the table of participants or files, instead of those in the source.
        exclude: participants, or scans by `participant_id[_session_id]`, to leave out.
        seed: seed of the splits.
        jobs: number of processes.
        dask: instead of jobs, the address of a dask scheduler.
        on_error: `skip` unusable volumes, or `stop` at the first.

    Returns:
        The slices' folder, `R/2-slices`. It is left unchanged if images and options are the same.

    Raises:
        UsageError: if the source is not a cohort, or an option is invalid.
        VQBrainError: if no volume is usable, or one is not and `on_error` is `stop`; if images
            disappear or change meanwhile.
    """
    options = PrepareOptions(
        layout=layout, axis=axis, size=size, spacing=spacing, positions=positions, count=count,
        align=align, bias=bias, affine=affine, brain=brain, columns=columns, table=table,
        exclude=exclude, seed=seed, jobs=jobs, dask=dask, on_error=on_error,
    )  # fmt: skip
    return prepare_slices(source, run, options)


def prepare_slices(source: Path | str, run: Path | str, options: PrepareOptions) -> Path:
    """Plan and execute `prepare` with checked options; see there."""
    began = time.monotonic()
    source, run_folder = Path(source), RunFolder(run)
    if options.dask is not None:  # its workers may have another working directory
        source, run_folder = source.absolute(), RunFolder(run_folder.path.absolute())
    plan = make_plan(source, options, run_folder)
    if plan.reason is None:
        logger.info("%s is up to date", run_folder.slices)
        return run_folder.slices
    if plan.align_asked == "auto" and plan.options.align != "none":
        require_simpleitk("whole heads must be aligned")
        logger.info("all volumes are registered to MNI152 (affine): %s", plan.align_reason)
    try:
        execute(plan, run_folder, began)
    except KeyboardInterrupt:
        logger.info("the slices of finished volumes are kept: continue with the same command")
        raise
    return run_folder.slices


def execute(plan: SlicingPlan, run: RunFolder, began: float) -> None:
    """Execute a plan.

    Args:
        plan: the result of `make_plan` with a run folder.
        run: that run folder.
        began: start of the stage on the monotonic clock, s.

    Raises:
        VQBrainError: as `prepare`.
    """
    kept, scans = plan.states[ScanState.KEPT], len(plan.scans)
    with building(run.slices, go_on=True) as work, logging_to(work):
        remove_temporaries([*run.path.glob(f".*.{run.splits.name}"), *run.volumes.glob(".*")])
        logger.info(
            "%s: %s; %d of %d volumes to slice (layout %s)",
            run.slices, plan.reason, scans - kept, scans, plan.cohort.layout,
        )  # fmt: skip
        sliced = list(_slice_scans(plan, run, work))
        _refuse_unavailable(sliced)
        remove_stale(sliced, work)
        usable = [one for one in sliced if one.slices]
        same = "has the same slices as"  # the same image in another file, such as compressed
        cohort = with_shared_images(plan.cohort, _described_stacks(usable, work), same)
        plan = replace(plan, cohort=cohort)
        problems = [*(p for one in sliced for p in one.problems), *cohort.problems]
        problems += _template_brains(plan, usable)
        if not usable:
            list_of_all = _write_problems_only(problems, run.slices)
            first = problem_line(problems[0])
            raise VQBrainError(f"no volume is usable, the first: {first}{list_of_all}")
        rows = _write(plan, usable, problems, run, work)
        seconds = time.monotonic() - began
        write_provenance(work, plan.inputs, plan.record, seconds, **_about(plan, rows))
        _log_result(plan, rows, problems, run.slices)


def _slice_scans(plan: SlicingPlan, run: RunFolder, work: Path) -> Iterator[SlicedScan]:
    options = plan.options
    cache = StackCache(
        extract=options.extract(in_template=plan.space != ""),
        normalisation=plan.normalisation,
        work=work,
        finished=run.slices,
        volumes=run.volumes,
        code={name: plan.record[name] for name in CODE if name in plan.record},
    )
    items = [(p.scan, p.digest, p.volume_digest, p.source) for p in plan.scans]
    sliced = map_in_order(cache, items, options.jobs, options.dask)
    for one in progress(sliced, "slicing volumes", len(items), "volume"):
        if options.on_error == "stop" and not one.slices:
            raise VQBrainError(problem_line(one.problems[0]))
        yield one


def _described_stacks(usable: Iterable[SlicedScan], work: Path) -> dict[str, dict[str, Any]]:
    """Size and hash of each scan's stack, by the scan's source; not of stacks without a brain."""
    stacks = {
        one.scan.source: work / one.slices[0]["stack"]
        for one in usable
        if any(row["brain_fraction"] for row in one.slices)
    }
    return describe(stacks)


def _template_brains(plan: SlicingPlan, sliced: Sequence[SlicedScan]) -> list[Problem]:
    """A line on the heads that got the template's brain because deepbet is not installed."""
    heads = sum(one.slices[0]["mask_source"] == "template" for one in sliced)
    if not heads or plan.record["brain_asked"] != "auto":
        return []
    advice = "pip install 'monai-vqbrain[strip]' and repeat the command"
    logger.warning("%d whole heads %s: %s", heads, LOST, advice)
    return [Problem(f"{heads} whole heads", LOST, advice)]


def _refuse_unavailable(sliced: Sequence[SlicedScan]) -> None:
    """Raise VQBrainError if volumes could not be read for a reason that does not lie in them."""
    problems = [one.problems[0] for one in sliced if one.unavailable]
    if problems:
        raise VQBrainError(
            f"{len(problems)} of {len(sliced)} volumes were not available while they were sliced, "
            f"the first: {problem_line(problems[0])}. When the source is available, run the same "
            "command again: finished volumes are kept"
        )


def _write(
    plan: SlicingPlan,
    usable: Sequence[SlicedScan],
    problems: Sequence[Problem],
    run: RunFolder,
    work: Path,
) -> list[dict[str, Any]]:
    """Write the tables, the datalist and the pictures; return the rows of slices.tsv."""
    scans = [(one.scan, one.slices) for one in usable]
    rows = write_slice_tables(plan.cohort, scans, plan.options.seed, run, work)
    write_problems(problems, work / "problems.tsv")
    stacks = list(dict.fromkeys(work / row["stack"] for row in rows))
    (work / "qc").mkdir(exist_ok=True)
    write_montage(stacks, work / "qc" / "montage.png", plan.options.axis)
    write_qc(usable, work, work / "qc")
    return rows


def _about(plan: SlicingPlan, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Entries of provenance besides inputs and options."""
    return {
        "volumes": len({row["stack"] for row in rows}),
        "slices": len(rows),
        "layout": plan.cohort.layout,
        "simulated": plan.cohort.simulated,
        "mask_sources": dict(Counter({row["stack"]: row["mask_source"] for row in rows}.values())),
        "given_splits": bool(plan.cohort.given_splits()),
        "notes": list(plan.cohort.notes),
    }


def _write_problems_only(problems: Sequence[Problem], folder: Path) -> str:
    """Write problems.tsv, unless `folder` has slices of an earlier run; return a note on where."""
    if (folder / "slices.tsv").is_file():
        return ""
    folder.mkdir(parents=True, exist_ok=True)
    write_problems(problems, folder / "problems.tsv")
    return f" (all of them: {folder / 'problems.tsv'})"


def _log_result(
    plan: SlicingPlan,
    rows: Sequence[Mapping[str, Any]],
    problems: Sequence[Problem],
    folder: Path,
) -> None:
    unused = sum(row["brain_fraction"] < MIN_BRAIN_FRACTION for row in rows)
    logger.info(
        "%d volumes, %d slices in %s; %d slices with under %s brain are used neither in training "
        "nor in scores",
        len({row["stack"] for row in rows}), len(rows), folder, unused, f"{MIN_BRAIN_FRACTION:.0%}",
    )  # fmt: skip
    filled = {row["split"] for row in rows}
    for split in (split for split in SPLITS if split not in filled):
        logger.warning(
            "no participant is in the %s split: three participants with slices are needed", split
        )
    if problems:
        first = problem_line(problems[0])
        logger.warning("%d problem(s), first: %s", len(problems), first, extra=PRIVATE)
        logger.info("all problems: %s", folder / "problems.tsv")
    for note in plan.cohort.notes:
        logger.info("note: %s", note)
    if plan.options.positions is not None and not plan.space:
        logger.info(
            "positions are in mm of each image's own space: they are comparable between "
            "participants only if the images are aligned (--align affine)"
        )


def problem_line(problem: Problem) -> str:
    """A problem as one line: path, problem, advice."""
    return f"{problem.path}: {problem.problem}: {problem.advice}"
