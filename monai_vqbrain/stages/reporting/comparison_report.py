"""The report of two folders of images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai_vqbrain.metrics.copies import Matches
from monai_vqbrain.selection import evenly_spaced
from monai_vqbrain.stages.reporting.figures import beside_nearest, montage
from monai_vqbrain.stages.reporting.image_sets import Comparison, ImageSet, closest_pairs
from monai_vqbrain.stages.reporting.methods_evaluation import evaluation_paragraph
from monai_vqbrain.stages.reporting.pages import data_uri, write_report
from monai_vqbrain.stages.reporting.references import number_citations
from monai_vqbrain.stages.reporting.sections import section_values

SHOWN = 24  # images of each kind


def render_comparison(
    comparison: Comparison, metrics: Mapping[str, Any], matches: Matches | None, folder: Path
) -> Path:
    """Write report.html into `folder`.

    Args:
        comparison: the images.
        metrics: the content of metrics.json.
        matches: the nearest training slice of each synthetic image; None if it was not measured.
        folder: where to.

    Returns:
        The report.
    """
    figures = {"real": _montage(comparison.held_out), "synthetic": _montage(comparison.synthetic)}
    if matches is not None:
        pairs = closest_pairs(comparison, matches, metrics["audit"]["copies"]["closest"])
        figures["closest"] = beside_nearest(*pairs)
    context = section_values(metrics, seed="given in provenance.json") | {
        "methods": number_citations({"Evaluation": evaluation_paragraph(metrics, {})}),
        "notes": comparison.notes,
        "figures": {name: data_uri(png) for name, png in figures.items()},
    }
    write_report(folder / "report.html", "comparison.html.j2", context)
    return folder / "report.html"


def _montage(images: ImageSet) -> bytes:
    return montage(images.images[evenly_spaced(len(images), SHOWN)])
