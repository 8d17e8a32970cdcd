"""`vqbrain check`: the plan of `prepare` for a source, and the problems of the source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.stages.slicing.options import PrepareOptions
from monai_vqbrain.stages.slicing.plan import SlicingPlan, make_plan


def check(
    source: Path | str,
    run: Path | str | None = None,
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
) -> SlicingPlan:
    """Plan `prepare` from tables, headers and the voxels of a few volumes; write nothing.

    Args:
        source: the folder with the images.
        run: the run folder, to see which stacks would be kept; all images are then hashed.
        layout: as for `prepare`, like all further arguments.
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
        exclude: participants or scans to leave out.
        seed: seed of the splits.

    Returns:
        The plan; `slicing.plan_text.plan_lines` writes it as text.

    Raises:
        UsageError: if the source is not a cohort, or an option is invalid.
    """
    options = PrepareOptions(
        layout=layout, axis=axis, size=size, spacing=spacing, positions=positions, count=count,
        align=align, bias=bias, affine=affine, brain=brain, columns=columns, table=table,
        exclude=exclude, seed=seed,
    )  # fmt: skip
    return make_plan(Path(source), options, RunFolder(run) if run else None, inspect_all=True)
