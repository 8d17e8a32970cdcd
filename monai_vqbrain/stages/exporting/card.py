"""The model card of a run's networks, with the figures of its evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from monai_vqbrain.contents import content_sha256
from monai_vqbrain.documents import read_json
from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.provenance import read_provenance
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.freshness import evaluation_inputs
from monai_vqbrain.runs.tables import read_slices_table
from monai_vqbrain.stages.report import METRICS, methods_text
from monai_vqbrain.stages.reporting import methods
from monai_vqbrain.stages.reporting.pages import NO_BREAK, duration, ends, interval, number
from monai_vqbrain.stages.reporting.verdict import privacy_verdict
from monai_vqbrain.stages.reporting.whole_run import check_whole

TEMPLATE = "model_card.md.j2"
NO_SAMPLES = (
    "The run was evaluated without samples, so that no audit was made. Weights can carry traces of "
    "training participants."
)


@dataclass(frozen=True)
class TrainingData:
    """What a model card says of the data that its run cannot know.

    Args:
        description: sentences on the data: name, source, subjects.
        licence: of the data.
    """

    description: str = "The training data are not described."
    licence: str = "not stated"


def read_evaluation(run: RunFolder) -> dict[str, Any]:
    """The figures of a run, metrics.json.

    Raises:
        UsageError: if the run has not been evaluated.
        VQBrainError: if a stage is not as its command made it, or the figures are those of other
            networks.
    """
    check_whole(run)
    run.need(run.report, "evaluate")
    found: dict[str, Any] = read_json(run.report / "metrics.json", METRICS)
    made_from = (read_provenance(run.report) or {"made_from": {}})["made_from"]
    if any(made_from.get(name) != entry for name, entry in evaluation_inputs(run).items()):
        raise VQBrainError(
            f"{run.report.name} has the figures of other networks or samples than the run holds: "
            f"run {run.command('evaluate')}"
        )
    return found


def model_card(run: RunFolder, title: str, data: TrainingData, prior: bool) -> str:
    """The model card of a run's networks as Markdown.

    Args:
        run: the run folder, evaluated.
        title: of the card.
        data: what the run does not know of its data.
        prior: the card is of the prior, too.

    Raises:
        UsageError: if the run has not been evaluated.
        VQBrainError: if a stage is not as its command made it.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    metrics = read_evaluation(run)
    rows = read_slices_table(run)
    environment = Environment(
        loader=PackageLoader("monai_vqbrain.stages.exporting"),
        autoescape=False,  # it is Markdown
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    return environment.get_template(TEMPLATE).render(
        title=title,
        data=data,
        prior=prior,
        split=methods.split_table(rows),
        participants=metrics["split"]["participants"],
        trainings=list(_trainings(run, prior)),
        methods=methods_text(run, rows, metrics),
        protocol=metrics.get("protocol", "reconstruction only"),
        figures=list(_figures(metrics, prior)),
        privacy=privacy_verdict(metrics["audit"]) if "audit" in metrics else NO_SAMPLES,
    )


def _trainings(run: RunFolder, prior: bool) -> Iterator[dict[str, Any]]:
    """One row per network."""
    for name, folder in (("VQ-VAE", run.vqvae), ("prior", run.prior))[: 1 + prior]:
        record = read_provenance(folder) or {}
        options = record["options"]
        minutes, epochs = options.get("minutes"), options.get("max_epochs")
        yield {
            "name": name,
            "budget": f"{minutes:.3g} minutes" if minutes else f"{epochs} epochs",
            "epochs": record["epochs"],
            "steps": f"{record['iterations']:,}",
            "time": duration(record["seconds"]),
            "device": record.get("device") or "not recorded",
            "sha256": content_sha256(folder / "model.pt"),
        }


def _figures(metrics: Mapping[str, Any], prior: bool) -> Iterator[dict[str, str]]:
    """One row per figure."""
    test, trivial = metrics["fidelity"]["test"], metrics["fidelity"].get("trivial", {})
    best = max((v["ssim_brain"]["mean"] for v in trivial.values()), default=None)
    rows = [
        ("in-brain SSIM of reconstructions", interval(test["ssim_brain"]),
         f"best trivial predictor {number(best, 3)}"),
        ("in-brain PSNR of reconstructions, dB", interval(test["psnr_brain"], 1), ""),
        ("codes used in test slices", str(metrics["codebook"]["used"]),
         f"of {metrics['codebook']['num_codes']}"),
        *(_prior_figures(metrics) if prior else ()),
    ]  # fmt: skip
    for name, value, compared in rows:
        yield {"name": name, "value": value.replace(NO_BREAK, " "), "compared": compared}


def _prior_figures(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Name, value and comparison of each figure of a prior; those on samples may lack."""
    bits, audit = metrics["prior"], metrics.get("audit", {})
    histogram = f"histogram of each position {number(bits['unigram_bits_per_code'], 3)}"
    yield "bits per code", interval(bits["bits_per_code_interval"]), histogram
    if "detectability" in metrics:
        found = metrics["detectability"]
        value = f"{number(found['auc'])} {ends(found['low'], found['high'])}"
        control = f"real slices against real slices {number(found['control'])}"
        yield "AUC of samples against held-out slices", value, control
    if "copies" in audit:
        copies = audit["copies"]
        value = f"{number(copies['share'], 3)} {ends(copies['low'], copies['high'], 3)}"
        yield "share of samples that resemble copies", value, "held-out slices 0.010"
    if "membership" in audit:
        value = interval(audit["membership"] | {"value": audit["membership"]["auc"]}, 2)
        yield "AUC of membership inference", value, "chance 0.5"
