"""The table of a report that compares a run's sets of samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai_vqbrain.provenance import read_provenance
from monai_vqbrain.runs.folder import RunFolder


def set_rows(run: RunFolder, metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per set of samples, the one that the report shows in full first.

    Args:
        run: the run folder.
        metrics: the content of metrics.json.

    Returns:
        Dictionaries with `name`, `asked` (the conditions that the set was drawn for, as text) and
        `found` (the set's figures); empty with fewer than two sets.
    """
    others = metrics.get("other_sets")
    if not others:
        return []
    return [
        {"name": name, "asked": _asked(run, name), "found": found}
        for name, found in {metrics["set"]: metrics, **others}.items()
    ]


def _asked(run: RunFolder, name: str) -> str:
    options = (read_provenance(run.sample_set(name)) or {}).get("options", {})
    conditions = [f"{key}={value}" for key, value in options.get("condition", {}).items()]
    return ", ".join([*conditions, *(["volumes"] if options.get("volume") else [])]) or "nothing"
