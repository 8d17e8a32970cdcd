"""`vqbrain run`: all stages, from volumes to the report."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from monai_vqbrain.documents import read_json
from monai_vqbrain.errors import (
    ShownElsewhereError,
    StoppedError,
    UnexpectedError,
    UsageError,
    VQBrainError,
)
from monai_vqbrain.files import partial
from monai_vqbrain.progress import PipelineStep, pipeline_step
from monai_vqbrain.provenance import intact_provenance
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.sample_sets import DEFAULT_SET
from monai_vqbrain.runs.training import read_metrics
from monai_vqbrain.stages.encode import encode
from monai_vqbrain.stages.evaluate import evaluate
from monai_vqbrain.stages.prepare import prepare_slices
from monai_vqbrain.stages.sample import SampleOptions, draw_samples
from monai_vqbrain.stages.slicing.options import PrepareOptions
from monai_vqbrain.stages.train import TrainOptions, can_resume, run_training

logger = logging.getLogger(__name__)

NUMBER = 512  # of samples
MINUTES = 5.0  # of each training
SLICES = 768  # assumed until the volumes are sliced
SECONDS = {"slicing": 0.01, "encoding": 0.08, "sampling": 0.1, "evaluating": 0.05}
"""Time per slice and sample on two cores, for the estimate of the time that is left."""
EVALUATION = 60.0  # seconds, besides those that depend on the number of images
CONTINUES = "run the same command again: finished steps are skipped"


@dataclass(frozen=True)
class PipelineOptions:
    """The options of all stages."""

    prepare: PrepareOptions = field(default_factory=PrepareOptions)
    vqvae: TrainOptions = field(default_factory=TrainOptions)
    prior: TrainOptions = field(default_factory=TrainOptions)
    sample: SampleOptions = field(default_factory=lambda: SampleOptions(number=NUMBER))
    folds: int | None = None
    device: str = "auto"


@dataclass(frozen=True)
class Step:
    """One stage of a pipeline.

    Args:
        name: the words of its command, such as "train vqvae".
        folder: its folder.
        seconds: its estimated duration, s.
        work: does it, unless it is up to date.
    """

    name: str
    folder: Path
    seconds: float
    work: Callable[[], object]


def run_pipeline(
    source: Path | str,
    run: Path | str,
    *,
    minutes: float | None = None,
    number: int | None = None,
    columns: Mapping[str, str] | None = None,
    table: Path | str | None = None,
    exclude: Sequence[str] | None = None,
    align: str | None = None,
    brain: str | None = None,
    seed: int | None = None,
    start_from: str | None = None,
    jobs: int = 1,
    device: str = "auto",
) -> Path:
    """Do all stages: prepare, train both networks, encode, sample, evaluate.

    Stages that are up to date are skipped, and an interrupted training is resumed, so the same call
    continues after an interruption. An option that is None is as in the stages that the run has
    already, whatever made them; in a new run it has its stage's default.

    Args:
        source: the folder with the images.
        run: the run folder.
        minutes: wall-clock budget of each of the two trainings; 5 by default.
        number: number of samples; 512 by default.
        columns: role (diagnosis, sex, age) -> column of the source.
        table: the table of participants or files, instead of those in the source.
        exclude: participants, or scans by `participant_id[_session_id]`, to leave out.
        align: register to MNI152: `auto`, `none`, `rigid` or `affine`.
        brain: how brains are found: `auto`, `given`, `zero`, `deepbet` or `template`.
        seed: of the split, of both trainings and of the samples; 0 by default.
        start_from: weights from which both trainings start, see `train_vqvae`.
        jobs: number of processes that slice volumes.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Returns:
        The report, an HTML file.

    Raises:
        UsageError: if the source is not a cohort, or an option is invalid.
        VQBrainError: if a stage fails; the message names the stage.
    """
    folder = RunFolder(run)
    slicing = {
        "columns": columns, "exclude": exclude, "align": align, "brain": brain, "seed": seed,
    }  # fmt: skip
    training = {"minutes": minutes, "seed": seed, "start_from": start_from}
    report = intact_provenance(folder.report) or {"options": {}}
    options = PipelineOptions(
        prepare=PrepareOptions(**_slicing_of(folder) | _given(slicing), table=table, jobs=jobs),
        vqvae=TrainOptions(**_training_of(folder.vqvae, training), device=device),
        prior=TrainOptions(**_training_of(folder.prior, training), device=device),
        sample=SampleOptions(**_sampling_of(folder) | _given({"number": number, "seed": seed})),
        folds=report["options"].get("folds"),
        device=device,
    )
    return do_steps(source, folder, options)


def do_steps(source: Path | str, run: RunFolder, options: PipelineOptions) -> Path:
    """Do all stages with checked options; see `run_pipeline`."""
    began = time.monotonic()
    redone = False  # whether a stage was made again, so that later ones are stale
    names = [step.name for step in _steps(source, run, options)]
    for number in range(len(names)):
        steps = _steps(source, run, options)[number:]  # again: estimates get better
        before = [intact_provenance(step.folder) for step in steps]
        left = [
            0.0 if record and not redone else step.seconds
            for step, record in zip(steps, before, strict=True)
        ]
        shown = PipelineStep(number + 1, len(names), left[0], sum(left[1:]))
        with pipeline_step(shown), _naming(steps[0].name, shown):
            steps[0].work()
        redone |= intact_provenance(steps[0].folder) != before[0]
    page = run.report / "report.html"
    duration = (time.monotonic() - began) / 60  # minutes
    logger.info("done in %.1f minutes; open the report: %s", duration, page.resolve())
    return page


@contextmanager
def _naming(name: str, step: PipelineStep) -> Iterator[None]:
    """Announce a step; name it in its errors and in the message on an interruption."""
    minutes = (step.expected + step.later) / 60
    logger.info(
        "[%d/%d] %s%s", step.number, step.count, name,
        f": about {minutes:.0f} min left for all steps" if minutes >= 1 else "",
    )  # fmt: skip
    place = f"step {step.number} of {step.count} ({name})"
    try:
        yield
    except ShownElsewhereError:
        raise
    except VQBrainError as error:
        kinds = (UnexpectedError, UsageError, StoppedError)
        kind = next((one for one in kinds if isinstance(error, one)), VQBrainError)
        raise kind(f"{place}: {error}; then {CONTINUES}") from error
    except KeyboardInterrupt:
        logger.info("interrupted in %s: to continue, %s", place, CONTINUES)
        raise


def _steps(source: Path | str, run: RunFolder, options: PipelineOptions) -> list[Step]:
    slices = (intact_provenance(run.slices) or {}).get("slices", SLICES)
    samples = options.sample.number
    device, sampled = options.device, run.sample_set(options.sample.name)
    evaluating = EVALUATION + SECONDS["evaluating"] * (slices + samples)
    return [
        Step(
            "prepare", run.slices, SECONDS["slicing"] * slices,
            lambda: prepare_slices(source, run.path, options.prepare),
        ),
        Step(
            "train vqvae", run.vqvae, _training_seconds(run.vqvae, options.vqvae),
            lambda: _train(run, "vqvae", options.vqvae),
        ),
        Step(
            "encode", run.codes, SECONDS["encoding"] * slices,
            lambda: encode(run.path, device=device),
        ),
        Step(
            "train prior", run.prior, _training_seconds(run.prior, options.prior),
            lambda: _train(run, "prior", options.prior),
        ),
        Step(
            "sample", sampled, SECONDS["sampling"] * samples,
            lambda: draw_samples(run.path, options.sample, device),
        ),
        Step(
            "evaluate", run.report, evaluating,
            lambda: evaluate(run.path, folds=options.folds, device=device),
        ),
    ]  # fmt: skip


def _training_seconds(folder: Path, options: TrainOptions) -> float:
    """Budget of a training without what an interrupted one has spent, s."""
    seconds = 60 * (MINUTES if options.minutes is None else options.minutes)
    work = partial(folder)
    spent = read_metrics(work)["seconds"].max() if (work / "metrics.tsv").is_file() else 0.0
    return max(0.0, seconds - float(spent))


def _train(run: RunFolder, network: str, options: TrainOptions) -> None:
    """Train a network, from where an interrupted training with the same options stopped."""
    resumes = can_resume(run, network, options)
    if resumes:
        logger.info("the interrupted training is resumed")
    run_training(run, network, replace(options, resume=resumes))


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _slicing_of(run: RunFolder) -> dict[str, Any]:
    """The options that the slices of a run were made with; none without slices."""
    record = (intact_provenance(run.slices) or {"options": {}})["options"]
    asked = {"align": record.get("align_asked"), "brain": record.get("brain_asked")}
    known = {one.name for one in fields(PrepareOptions)}
    found = _given({name: value for name, value in record.items() if name in known} | asked)
    return found | ({"size": tuple(found["size"])} if "size" in found else {})


def _training_of(folder: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a run's training, finished or interrupted, with those that are given."""
    finished = intact_provenance(folder) or {"options": {}}
    record = {"start_from": finished.get("start_from")} | finished["options"]
    if (partial(folder) / "checkpoint.pt").is_file():
        try:
            record = read_json(partial(folder) / "config.json", {})
        except (FileNotFoundError, VQBrainError):  # then it is not resumed either
            record = {}
    names = {
        "seed": "seed", "minutes": "minutes", "max_epochs": "epochs", "overrides": "overrides",
        "start_from": "start_from",
    }  # fmt: skip
    found = {ours: record[name] for name, ours in names.items() if record.get(name) is not None}
    if given["minutes"] is not None:
        found.pop("epochs", None)
    return found | _given(given)


def _sampling_of(run: RunFolder) -> dict[str, Any]:
    """The options of a run's usual set of samples; of a new run the default number."""
    record = (intact_provenance(run.sample_set(DEFAULT_SET)) or {"options": {}})["options"]
    known = {one.name for one in fields(SampleOptions)}
    return {"number": NUMBER} | {n: value for n, value in record.items() if n in known}
