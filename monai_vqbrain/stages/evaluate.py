"""`vqbrain evaluate`: the scores of a run, in metrics.json, and the report."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

from monai_vqbrain.errors import UsageError, VQBrainError
from monai_vqbrain.files import building, using, writing
from monai_vqbrain.logs import logging_to
from monai_vqbrain.metrics.features import Features
from monai_vqbrain.metrics.resnet_features import ResNetFeatures
from monai_vqbrain.provenance import (
    Described,
    describe,
    read_provenance,
    what_changed,
    write_provenance,
)
from monai_vqbrain.runs.bundles import run_bundle
from monai_vqbrain.runs.datalist import check_datalist
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.freshness import (
    check_codes,
    check_models,
    evaluation_inputs,
    slices_content,
)
from monai_vqbrain.runs.sample_sets import current_sets, sample_sets
from monai_vqbrain.stages.report import render, render_finished
from monai_vqbrain.stages.reporting.comparison_report import render_comparison
from monai_vqbrain.stages.reporting.cross_fitting import measure_cross_fitted, train_folds
from monai_vqbrain.stages.reporting.image_folders import folder_comparison
from monai_vqbrain.stages.reporting.other_cohort import check_slicing
from monai_vqbrain.stages.reporting.ruler import measure
from monai_vqbrain.stages.reporting.run_figures import measure_run
from monai_vqbrain.stages.reporting.summary import SCHEMA
from monai_vqbrain.stages.reporting.whole_run import check_whole, reported_stages
from monai_vqbrain.team import on_all_ranks

logger = logging.getLogger(__name__)


@on_all_ranks
def evaluate(
    run: Path | str,
    *,
    cohort: Path | str | None = None,
    folds: int | None = None,
    weights: Path | str | None = None,
    device: str = "auto",
    show_ids: bool = False,
) -> Path:
    """Score a run on its test participants and write 7-report: tables, metrics.json, the report.

    Scores are computed again only if something that they depend on has changed; the report is
    always rendered.

    Args:
        run: the run folder, with at least a trained VQ-VAE and codes.
        cohort: another run, sliced in the same way: the networks and samples are also measured on
            its slices.
        folds: train this number of priors, each without one part of the training participants, and
            measure with them how well a prior reveals its training participants.
        weights: a local ResNet's weights as a further feature space.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        show_ids: show participant ids in the report.

    Returns:
        The report, an HTML file.

    Raises:
        UsageError: if an earlier stage is missing, or an option cannot be used.
        VQBrainError: if codes or prior belong to another VQ-VAE.
    """
    folder = RunFolder(run)
    other = None if cohort is None else RunFolder(cohort)
    inputs = reported_stages(folder) + ([] if other is None else [other.slices])
    with using(inputs):
        return _evaluate(folder, other, folds, weights, device, show_ids)


def _evaluate(
    folder: RunFolder,
    other: RunFolder | None,
    folds: int | None,
    weights: Path | str | None,
    device: str,
    show_ids: bool,
) -> Path:
    check_whole(folder)
    if other is not None:
        check_slicing(folder, other)
    if folds and not sample_sets(folder):
        raise UsageError(f"folds needs samples: first run: {folder.command('sample')}")
    spaces = weight_space(weights)
    made_from = {**evaluation_inputs(folder), **_further_inputs(other, weights)}
    options = {"folds": folds, "schema": SCHEMA}
    reason = what_changed(folder.report, made_from, options)
    if reason is None:
        logger.info("%s is up to date: only the report is rendered again", folder.report.name)
        return render_finished(folder, show_ids)
    check_fit(folder)
    logger.info("evaluating %s (%s)", folder.report.name, reason)
    began = time.monotonic()
    priors = train_folds(folder, folds, device) if folds else []
    with building(folder.report) as work, logging_to(work):
        run_evaluations(folder, work, device)
        numbers = measure_run(folder, work, other, spaces, device)
        if priors and "audit" in numbers:  # absent where samples are too few to be measured
            membership = numbers["audit"]["membership"]
            membership["cross_fitted"] = measure_cross_fitted(folder, priors, device)
        _write_metrics(work, numbers)
        write_provenance(work, made_from, options, time.monotonic() - began)
        render(folder, work, show_ids)
    return folder.report / "report.html"


def weight_space(weights: Path | str | None) -> dict[str, Features]:
    """A feature space by the name of the file of its weights; none for None.

    Raises:
        UsageError: if the file holds no weights that can be used.
    """
    if weights is None:
        return {}
    path = Path(weights)
    try:
        return {path.name.split(".")[0]: ResNetFeatures(path)}
    except ValueError as error:
        raise UsageError(f"--weights: {error}") from error


def _further_inputs(cohort: RunFolder | None, weights: Path | str | None) -> Described:
    """Size and hash of what options add to the figures."""
    slices = {} if cohort is None else {"cohort": slices_content(cohort)}
    return slices if weights is None else slices | describe({"weights": Path(weights)})


def _write_metrics(folder: Path, numbers: dict[str, Any]) -> None:
    with writing(folder / "metrics.json") as path:
        path.write_text(json.dumps(numbers, indent=2, allow_nan=False) + "\n")


@on_all_ranks
def evaluate_images(
    real: Path | str,
    synthetic: Path | str,
    out: Path | str,
    *,
    participants: Path | str | None = None,
    asked: Path | str | None = None,
    weights: Path | str | None = None,
    seed: int = 0,
) -> Path:
    """Compare synthetic with real images of any origin; write metrics.json and the report.

    Args:
        real: a folder of PNG, JPEG, TIFF or NIfTI images of one size.
        synthetic: a folder of images of a generator, of the same size.
        out: the folder for metrics.json and report.html.
        participants: a table of the real images, with the columns
            `image` and `participant_id`, and diagnosis, sex and age if it has them.
        asked: a table of the synthetic images, with the columns `image` and any of the requested
            diagnosis, sex and age.
        weights: a local ResNet's weights as a further feature space.
        seed: of bootstraps, halves and networks.

    Returns:
        The report.

    Raises:
        UsageError: if a folder, a table or the weights cannot be used.
        VQBrainError: if the images differ in size, or `out` holds something else.
    """
    folder = Path(out)
    if folder.exists() and not (folder / "metrics.json").is_file() and any(folder.iterdir()):
        raise VQBrainError(f"{folder} exists and is not an evaluation: give another folder")
    began = time.monotonic()
    spaces = weight_space(weights)
    tables = [None if table is None else Path(table) for table in (participants, asked)]
    comparison = folder_comparison(Path(real), Path(synthetic), tables[0], tables[1], seed)
    with building(folder) as work, logging_to(work):
        figures, matches = measure(comparison, spaces, seed)
        _write_metrics(work, figures)
        render_comparison(comparison, figures, matches, work)
        options = {"real": str(real), "synthetic": str(synthetic), "seed": seed}
        write_provenance(work, {}, options, time.monotonic() - began)
    return folder / "report.html"


def check_fit(run: RunFolder) -> None:
    """Refuse codes or a prior that belong to another VQ-VAE; warn if samples do.

    Raises:
        VQBrainError: if they do; it names the command to run.
    """
    check_datalist(run.slices)
    check_codes(run)
    if read_provenance(run.prior):
        check_models(run)
    current = current_sets(run)
    for name in sample_sets(run):
        if name not in current:
            folder = f"{run.samples.name}/{name}"
            logger.warning("%s comes from other networks: left out of the report", folder)


def run_evaluations(run: RunFolder, work: Path, device: str) -> None:
    """Run the bundles' evaluations, which write fidelity.tsv, panel.png and bits.tsv to `work`."""
    ids = {
        "run_dir": str(run.path.absolute()),
        "output_dir": str(work.absolute()),
        "device": device,
    }
    run_bundle("vqvae", "evaluate", ids)
    if read_provenance(run.prior):
        run_bundle("pixelcnn", "evaluate", ids)
