"""The conditions of a prior: columns of a run's slices that sampling can be conditioned on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from monai_vqbrain.documents import check_form, read_json
from monai_vqbrain.errors import UsageError, VQBrainError
from monai_vqbrain.inferers.joint_conditions import JointConditions
from monai_vqbrain.networks.conditions import Known
from monai_vqbrain.runs.codes_file import open_codes
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.packaged import find_models
from monai_vqbrain.runs.records import slicing_options
from monai_vqbrain.runs.tables import in_split, read_rows, with_enough_brain
from monai_vqbrain.runs.views import PLAIN_VIEW, view_conditions

CATEGORIES = ("diagnosis", "sex")
NUMBERS = ("age", "position_mm", "position_rel")
JOINT = "conditions.json"  # beside the prior's weights
JOINT_FORM = {
    "conditions": {str: [(str, float)]},
    "groups": [{"share": float}],
    "positions": [float],
}
RANGE_DIGITS = 5  # decimals of a range's ends, as in slices.tsv


def prior_conditions(
    run_dir: Path | str,
    wanted: str | Sequence[str] = "auto",
    views: bool = False,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, list[Any]]:
    """The conditions of a run's training slices, as `PixelCNN(conditions=...)` takes them.

    Args:
        run_dir: the run folder.
        wanted: names of columns; or "auto" for those of diagnosis, sex, age and position that are
            known and vary.
        views: add the conditions that say which view of a slice it is, see `PLAIN_VIEW`.
        settings: of a PixelCNN; empty or None for none.

    Returns:
        Category -> its values in alphabetical order; number -> its minimum and maximum. If nothing
        is encoded yet, those of the settings.

    Raises:
        UsageError: if a wanted column is no condition, or is constant over the training slices.
    """
    run = RunFolder(run_dir)
    wanted = wanted.split() if isinstance(wanted, str) and wanted != "auto" else wanted
    names = (*CATEGORIES, "age", position_column(run)) if wanted == "auto" else wanted
    unknown = [name for name in names if name not in (*CATEGORIES, *NUMBERS)]
    if unknown:
        there = ", ".join((*CATEGORIES, *NUMBERS))
        raise UsageError(f"condition_on: there is no condition {unknown[0]}; there are {there}")
    if not (run.codes / "codes.tsv").is_file():
        return dict((settings or {}).get("conditions", {}))
    table = read_rows(run.codes / "codes.tsv")
    rows = table[in_split(table, "training")]
    values_of = {name: _values(rows[name], name) for name in names}
    constant = [name for name, values in values_of.items() if len(values) < 2]
    if constant and wanted != "auto":
        raise UsageError(
            f"condition_on: {constant[0]} is the same or unknown for all training slices"
        )
    found = {name: values for name, values in values_of.items() if name not in constant}
    return found | (view_conditions(stored_views(run)) if views else {})


def of_participants(known: Known | None) -> list[str]:
    """The names of conditions that describe a participant, and not a slice."""
    return [name for name in known or () if name in (*CATEGORIES, "age")]


def stored_views(run: RunFolder) -> list[dict[str, Any]]:
    """The views in codes.safetensors, as of `slice_views`; empty for none.

    Raises:
        VQBrainError: if they were written by a version whose views were others.
    """
    path = run.codes / "codes.safetensors"
    with open_codes(path) as file:
        there, header = "views" in file.keys(), file.metadata()  # noqa: SIM118
        number = file.get_slice("views").get_shape()[0] if there else 0
        shifts = json.loads(header.get("shifts", "[]"))
        check_form(shifts, [[int]], "shifts")
    if len(shifts) != number:
        raise VQBrainError(
            f"{path} does not say how its views are shifted, since an older version wrote it: "
            f"delete {run.codes} and run {run.command('encode')}"
        )
    return [{"view": view, "shift": shift} for view, shift in enumerate(shifts)]


def joint_conditions(run_dir: Path | str, known: Known) -> dict[str, Any]:
    """The joint distribution of the conditions of a run's training slices, as JSON values.

    Args:
        run_dir: the run folder.
        known: the prior's conditions.

    Returns:
        What `JointConditions.from_json` reads; empty if nothing is encoded yet.
    """
    path = RunFolder(run_dir).codes / "codes.tsv"
    if not path.is_file():
        return {}
    table = with_enough_brain(read_rows(path))
    drawn = {name: values for name, values in known.items() if name not in PLAIN_VIEW}
    training = table[in_split(table, "training")]
    if training.empty:
        raise VQBrainError(f"{path} has no training slices: prepare the run again")
    return JointConditions.fit(drawn, training).as_json()


def read_joint(run_dir: Path | str, known: Known, weights: str | None = None) -> JointConditions:
    """The distribution that is stored with the prior; of older priors, that of the run's codes.

    Args:
        run_dir: the run folder.
        known: the prior's conditions.
        weights: the weights that the prior is of, if it is not the run's; see `find_models`.
    """
    path = find_models(run_dir, weights).prior / JOINT
    if path.is_file() or weights is not None:
        joint = JointConditions.from_json(read_json(path, JOINT_FORM))
        if not _fits(joint, {n: list(v) for n, v in known.items() if n not in PLAIN_VIEW}):
            raise VQBrainError(f"{path} does not fit the prior's conditions: train it again")
        return joint
    return JointConditions.from_json(joint_conditions(run_dir, known))


def _fits(joint: JointConditions, known: Mapping[str, list[Any]]) -> bool:
    """Whether a distribution is one of these conditions."""
    position = position_condition(known)
    names = known.keys() - {position}
    values = [
        (known[n], value) for group in joint.groups for n, value in group.items() if n in known
    ]
    return (
        dict(joint.known) == known
        and bool(joint.positions) == (position is not None)
        and all(group.keys() == names for group in joint.groups)
        and all(0 <= share <= 1 for share in joint.shares)
        and sum(joint.shares) > 0
        and all(_is_possible(value, those) for those, value in values)
    )


def _is_possible(value: Any, known: Sequence[Any]) -> bool:
    """Whether a group has a category's value, the ends of a band, or None."""
    if value is None or isinstance(known[0], str):
        return value is None or value in known
    is_pair = isinstance(value, list) and len(value) == 2
    return is_pair and all(isinstance(end, int | float) and end == end for end in value)  # noqa: PLR0124


def position_column(run: RunFolder) -> str:
    """The column of slice positions: in mm for aligned volumes, else relative to the brain."""
    options = slicing_options(run)
    return "position_mm" if options.get("space") else "position_rel"


def position_condition(known: Known) -> str | None:
    """The prior's condition on the slice position; None if it has none."""
    return next((name for name in ("position_mm", "position_rel") if name in known), None)


def conditions_of_row(row: Mapping[str, Any], known: Known) -> dict[str, Any]:
    """The values of a prior's conditions in a row of a table.

    A category that no training participant had is missing; a number outside the training range is
    clipped to it. A row that says nothing of a view is that of a plain slice.
    """
    conditions: dict[str, Any] = {}
    for name, values in known.items():
        value = row.get(name, PLAIN_VIEW.get(name))
        if isinstance(values[0], str):
            conditions[name] = value if value in values else None
        else:
            low, high = map(float, values)
            conditions[name] = None if _missing(value) else min(max(float(value), low), high)
    return conditions


def _values(column: pd.Series, name: str) -> list[Any]:
    if name in CATEGORIES:
        return sorted(str(value) for value in column.dropna().unique())
    numbers = pd.to_numeric(column, errors="coerce").dropna()
    return sorted(
        {round(float(n), RANGE_DIGITS) for n in (numbers.min(), numbers.max())}
        if len(numbers)
        else []
    )


def _missing(value: Any) -> bool:
    return value is None or value in ("n/a", "") or pd.isna(value)
