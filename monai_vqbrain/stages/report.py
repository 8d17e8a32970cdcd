"""`vqbrain report`: methods and results of a run, as one HTML file that opens offline."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from monai_vqbrain.documents import read_json
from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.files import hold, remove_temporaries, using
from monai_vqbrain.locks import unlock
from monai_vqbrain.provenance import read_provenance
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.freshness import check_evaluated
from monai_vqbrain.runs.records import network_settings
from monai_vqbrain.runs.sample_sets import main_set, sample_sets
from monai_vqbrain.runs.stacks import open_stack
from monai_vqbrain.runs.tables import read_slices_table
from monai_vqbrain.stages.reporting import figures, methods
from monai_vqbrain.stages.reporting.cohort_table import cohort_rows
from monai_vqbrain.stages.reporting.methods_evaluation import (
    evaluation_paragraph,
    models_paragraph,
    plan_components,
)
from monai_vqbrain.stages.reporting.pages import write_report
from monai_vqbrain.stages.reporting.references import CitedText, number_citations
from monai_vqbrain.stages.reporting.report_figures import report_figures
from monai_vqbrain.stages.reporting.sections import section_values
from monai_vqbrain.stages.reporting.sets_table import set_rows
from monai_vqbrain.stages.reporting.whole_run import check_whole, reported_stages
from monai_vqbrain.tables import read_text_table, write_table

METRICS = {"fidelity": {str: object}, "split": {"participants": {str: int}}}
TEMPLATE = "report.html.j2"
CONDITIONS = {
    "position_rel": "slice position", "position_mm": "slice position",
    "shift_x": "shift", "shift_y": "shift",
}  # fmt: skip


def report(run: Path | str, *, show_ids: bool = False) -> Path:
    """Render the report of an evaluated run again.

    Args:
        run: the run folder.
        show_ids: show participant ids; otherwise participants are labelled P01, P02, ..., and
            7-report/key.tsv is the key.

    Returns:
        The HTML file.

    Raises:
        UsageError: if the run has not been evaluated.
        VQBrainError: if a stage of it is not as its command made it, or not as it was evaluated.
    """
    folder = RunFolder(run)
    with using(reported_stages(folder)):
        folder.need(folder.report, "evaluate")
        check_whole(folder)
        check_evaluated(folder)
        return render_finished(folder, show_ids)


def render_finished(run: RunFolder, show_ids: bool = False) -> Path:
    """Render the report of an evaluated run in its folder, as `render`.

    Raises:
        VQBrainError: also if another process is evaluating the run.
    """
    hold(run.report)
    try:
        remove_temporaries(run.report.glob(".*"))
        return render(run, run.report, show_ids)
    finally:
        unlock(run.report)


def render(run: RunFolder, work: Path, show_ids: bool = False) -> Path:
    """Write report.html and key.tsv to `work`, from its metrics.json and the run's stages.

    Raises:
        VQBrainError: if the file would be larger than 5 MB.
    """
    labels = participant_labels(run)
    shown = {p: p for p in labels} if show_ids else labels
    metrics = read_json(work / "metrics.json", METRICS)
    try:
        values = _context(run, work, metrics, shown)
    except (LookupError, TypeError, AttributeError, ArithmeticError, ValueError) as error:
        why = f"{type(error).__name__}: {error}"  # everything else that it reads was checked
        raise VQBrainError(
            f"{work / 'metrics.json'} does not hold what the report shows ({why}): "
            f"run {run.command('evaluate')} again"
        ) from error
    write_report(work / "report.html", TEMPLATE, values)
    key = pd.DataFrame({"label": labels.values(), "participant_id": labels.keys()})
    write_table(key, work / "key.tsv")
    return work / "report.html"


def participant_labels(run: RunFolder) -> dict[str, str]:
    """Participant -> P01, P02, ..., in the order of the ids."""
    participants = sorted(read_slices_table(run)["participant_id"].unique())
    digits = max(2, len(str(len(participants))))
    return {p: f"P{i:0{digits}d}" for i, p in enumerate(participants, start=1)}


def _context(
    run: RunFolder, work: Path, metrics: Mapping[str, Any], labels: Mapping[str, str]
) -> dict[str, Any]:
    """The values that the template shows."""
    rows = read_slices_table(run)
    slices = read_provenance(run.slices) or {}
    return section_values(metrics, seed="0") | {
        "findings": plain_answers(metrics),
        "stages": _stages(run, work, labels),
        "versions": _versions(run),
        "split": methods.split_table(rows),
        "methods": methods_text(run, rows, metrics),
        "notes": slices.get("notes", []),
        "problems": _count_rows(run.slices / "problems.tsv"),
        "figures": report_figures(run, work, metrics, labels),
        "samples": len(main_set(run)[1]),
        "cohort_rows": cohort_rows(metrics),
        "set_rows": set_rows(run, metrics),
        "conditions": ", ".join(_conditions(run)),
        "labels_hidden": any(k != v for k, v in labels.items()),
    }


def methods_text(run: RunFolder, rows: pd.DataFrame, metrics: Mapping[str, Any]) -> CitedText:
    """The paragraphs on methods, of what the stages recorded."""
    drawn = run.sample_set(main_set(run)[0])
    folders = (run.slices, run.codes, run.vqvae, run.prior, drawn)
    slices, codes, vqvae, prior, samples = (read_provenance(folder) or {} for folder in folders)
    options, versions = slices.get("options", {}), _versions(run)
    participants, given = metrics["split"]["participants"], slices.get("given_splits", False)
    pixel = _pixel(run, rows)
    plan = plan_components(_definition(run), participants["training"])
    return number_citations({
        "Image processing": methods.slicing_paragraph(rows, options, pixel, versions),
        "Participants": methods.split_paragraph(options, participants, given),
        "Models": models_paragraph(codes, vqvae, prior, _conditions(run), versions, plan),
        "Evaluation": evaluation_paragraph(metrics, samples.get("options", {})),
    })  # fmt: skip


def plain_answers(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The main findings, each as one sentence.

    Args:
        metrics: the content of metrics.json.

    Returns:
        Dictionaries with `good` (bool), whether the finding is in favour of the model, and `text`.
    """
    answers = []
    fidelity, prior = metrics["fidelity"], metrics.get("prior")
    if "test" in fidelity and "trivial" in fidelity:
        ours = fidelity["test"]["ssim_brain"]["mean"]
        bar, name = max((v["ssim_brain"]["mean"], k) for k, v in fidelity["trivial"].items())
        verb = "above" if ours > bar else "not above"
        name = figures.LABELS[name]
        text = f"Reconstructions are {verb} the best trivial predictor, {name}"
        answers.append({"good": ours > bar, "text": f"{text}: {ours:.3f} against {bar:.3f}."})
    if "codebook" in metrics:
        used, size = metrics["codebook"]["used"], metrics["codebook"]["num_codes"]
        text = f"{used} of {size} codes occur in the test slices."
        answers.append({"good": used > size / 4, "text": text})
    if prior:
        ours, bar = prior["bits_per_code"], prior["unigram_bits_per_code"]
        verb = "fewer" if ours < bar else "no fewer"
        text = f"The prior needs {verb} bits per code than each position's own histogram"
        answers.append({"good": ours < bar, "text": f"{text}: {ours:.2f} against {bar:.2f}."})
    tables = metrics["split"].get("compared")
    if tables:  # evaluate raises otherwise
        where = " and ".join(filter(None, (", ".join(tables[:-1]), tables[-1])))
        answers.append({"good": True, "text": f"No participant is in two splits of {where}."})
    return answers


def _stages(run: RunFolder, work: Path, labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """For each finished stage its time, duration, machine, command and seed."""
    folders = [run.volumes, run.slices, run.vqvae, run.codes, run.prior, *_sample_folders(run)]
    hide = _id_replacer(labels)
    records = [(f.relative_to(run.path).as_posix(), read_provenance(f)) for f in folders]
    records.append((run.report.name, read_provenance(work)))
    return [
        {
            "name": name,
            "finished": record["finished"].replace("T", " ")[:16],
            "seconds": record["seconds"],
            "machine": ", ".join(filter(None, (record.get("device"), record.get("machine")))),
            "command": hide(record["command"]),
            "seed": record["options"].get("seed"),
        }
        for name, record in records
        if record
    ]


def _conditions(run: RunFolder) -> list[str]:
    """Names of the prior's conditions, in words; the shifts of views are one."""
    known = _definition(run).get("conditions") or ()
    return list(dict.fromkeys(CONDITIONS.get(name, name) for name in known))


def _definition(run: RunFolder) -> dict[str, Any]:
    """The prior's settings; empty without a prior."""
    return network_settings(run.prior) if (run.prior / "config.json").is_file() else {}


def _id_replacer(labels: Mapping[str, str]) -> Callable[[str], str]:
    """A function that replaces participant ids by labels.

    Ids that are numbers are replaced only where they begin a file's or folder's name in a path:
    elsewhere in a command they are the numbers of options.
    """
    names = sorted((name for name in labels if not name.isdecimal()), key=len, reverse=True)
    numbers = sorted((name for name in labels if name.isdecimal()), key=len, reverse=True)
    parts = [
        rf"(?<![A-Za-z0-9])(?:{'|'.join(map(re.escape, names))})(?![A-Za-z0-9])" if names else "",
        rf"(?:(?<=/)(?:{'|'.join(numbers)})(?![A-Za-z0-9])|"
        rf"(?<![^\s'\"])(?:{'|'.join(numbers)})(?=[/_]))" if numbers else "",
    ]  # fmt: skip
    pattern = re.compile("|".join(filter(None, parts)))
    return lambda text: pattern.sub(lambda match: labels[match[0]], text)


def _versions(run: RunFolder) -> dict[str, str]:
    """Package -> version, or versions if the stages differ."""
    versions: dict[str, list[str]] = {}
    for folder in (run.slices, run.vqvae, run.codes, run.prior, *_sample_folders(run)):
        for name, version in (read_provenance(folder) or {}).get("versions", {}).items():
            versions.setdefault(name, [])
            versions[name] += [version] if version not in versions[name] else []
    return {name: ", ".join(several) for name, several in versions.items()}


def _sample_folders(run: RunFolder) -> list[Path]:
    return [run.sample_set(name) for name in sample_sets(run)]


def _pixel(run: RunFolder, rows: pd.DataFrame) -> float | None:
    """In-plane spacing, mm, of the first stack; None if pixels are not square."""
    first, second = open_stack(run.slices / rows["stack"].iloc[0]).header.get_zooms()[:2]
    return float(first) if np.isclose(first, second) else None


def _count_rows(table: Path) -> int:
    return len(read_text_table(table)) if table.is_file() else 0
