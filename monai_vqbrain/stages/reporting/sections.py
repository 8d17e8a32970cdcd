"""The values of the sections on samples, in the reports of runs and of two folders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai_vqbrain.metrics.bootstrap import REPLICATES
from monai_vqbrain.stages.reporting.ruler import PROTOCOL
from monai_vqbrain.stages.reporting.scorecard import scorecard
from monai_vqbrain.stages.reporting.verdict import corrected_p_value, privacy_verdict, score_name


def section_values(metrics: Mapping[str, Any], seed: str) -> dict[str, Any]:
    """The values that templates/samples.html.j2 and the scorecard need.

    Args:
        metrics: metrics.json.
        seed: of the bootstraps, or where to find it.
    """
    audit = metrics.get("audit", {})
    return {
        "metrics": metrics,
        "protocol": metrics.get("protocol", PROTOCOL),
        "draws": f"{REPLICATES:,}",
        "seed": seed,
        "answers": scorecard(metrics),
        "verdict": privacy_verdict(audit) if audit else "",
        "score_name": score_name,
        "corrected_p_value": corrected_p_value(audit["membership"])
        if "membership" in audit
        else None,
    }
