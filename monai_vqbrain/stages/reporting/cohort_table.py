"""The table that compares a run's figures with those of another cohort."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from monai_vqbrain.stages.reporting.pages import ends, interval, number, percent

Figures = Mapping[str, Any]
Text = Callable[[Any], str]


def cohort_rows(metrics: Figures) -> list[dict[str, Any]]:
    """One row per figure that was measured on both cohorts.

    Args:
        metrics: metrics.json; `cohort` holds the figures of the other cohort in the same form.

    Returns:
        Dictionaries with `name`, `ours` and `theirs` (values to sort by), `ours_text` and
        `theirs_text`; none without another cohort.
    """
    other = metrics.get("cohort")
    if not other:
        return []
    rows = []
    for name, path, text in _figures(metrics):
        ours, theirs = _find(metrics, path), _find(other, path)
        if ours is not None and theirs is not None:
            rows.append({
                "name": name,
                "ours": _middle(ours), "ours_text": text(ours),
                "theirs": _middle(theirs), "theirs_text": text(theirs),
            })  # fmt: skip
    return rows


def _figures(metrics: Figures) -> Iterator[tuple[str, tuple[str, ...], Text]]:
    """Name, where it is in metrics.json, and how it is written."""
    yield "held-out participants", ("images", "held_out_participants"), str
    yield "held-out slices", ("images", "held_out"), str
    yield "samples", ("images", "synthetic"), str
    for name, key, digits in (
        ("SSIM inside the brain", "ssim_brain", 3),
        ("SSIM, whole image", "ssim_whole", 3),
        ("MS-SSIM, whole image", "ms_ssim_whole", 3),
        ("PSNR inside the brain, dB", "psnr_brain", 1),
        ("PSNR, whole image, dB", "psnr_whole", 1),
    ):
        yield name, ("fidelity", key), partial(interval, digits=digits)
    yield "bits per code", ("prior", "bits_per_code_interval"), partial(interval, digits=2)
    yield "detectability, AUC", ("detectability",), _auc
    for space in metrics.get("distribution", {}).get("kid", ()):
        yield f"KID, {space}", ("distribution", "kid", space), interval
        yield f"coverage, {space}", ("distribution", "coverage_interval", space), interval
    yield "implausible samples", ("anatomy", "implausible_share"), percent
    yield "implausible real slices", ("anatomy", "implausible_share_real"), percent
    for task in metrics.get("utility", ()):
        for trained in ("real", "synthetic"):
            yield f"{task}, AUC, trained on {trained} slices", ("utility", task, trained), _task


def _find(metrics: Figures, path: tuple[str, ...]) -> Any:
    """The value at a path; None where there is none. A run's own fidelity is that of its test."""
    found: Any = metrics
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
        if key == "fidelity" and isinstance(found, Mapping):
            found = found.get("test", found)
    return found


def _middle(found: Any) -> float | None:
    """The number to sort by."""
    if not isinstance(found, Mapping):
        return float(found)
    return next((found[key] for key in ("mean", "value", "auc") if key in found), None)


def _task(found: Figures) -> str:
    return f"{number(found['auc'])} {ends(found['auc_low'], found['auc_high'])}".strip()


def _auc(found: Figures) -> str:
    return f"{number(found['auc'])} {ends(found['low'], found['high'])}".strip()
