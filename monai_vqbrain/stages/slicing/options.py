"""The options of `vqbrain prepare`, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from monai_vqbrain.errors import UsageError
from monai_vqbrain.stages.slicing.brain import require_deepbet
from monai_vqbrain.stages.slicing.geometry import AFFINES
from monai_vqbrain.stages.slicing.normalisation import require_simpleitk
from monai_vqbrain.transforms import ExtractSlices
from monai_vqbrain.transforms.brain_extraction import BRAINS
from monai_vqbrain.transforms.registration import KINDS
from monai_vqbrain.transforms.template import template_extent

ALIGNMENTS = ("auto", "none", *KINDS)


@dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """The options of `prepare`.

    Args:
        layout: `auto`, or a layout of `cohorts.LAYOUTS`.
        axis: `axial`, `coronal` or `sagittal`.
        size: (H, W) pixels of a slice.
        spacing: size of a pixel, mm.
        positions: `FROM:TO:STEP` along the axis, mm, ends included; in MNI152 space for aligned
            data, else in each image's world space.
        count: number of slices, evenly spaced within the brain (for aligned data within the
            template's brain); by default 16 slices, 3.6 mm apart.
        align: registration to MNI152, `rigid` or `affine`; `none`: images are sliced in their own
            space; `auto`: `affine` if most of the first five volumes are whole heads, else `none`.
        bias: correct the bias field (N4).
        affine: `sform` or `qform`: which one counts in a NIfTI header where they disagree; `auto`:
            such images are refused.
        brain: how the brain is found: `given` by a mask file, `zero` by a background of 0, by
            `deepbet`, or `template` by the template's mask after registration; `auto`: the first of
            these that an image has and that is installed.
        columns: role (diagnosis, sex, age) -> column of the source.
        table: the table of participants or files, instead of those in the source.
        jobs: number of processes.
        dask: instead of jobs, the address of a dask scheduler, such as tcp://10.0.0.1:8786.
        seed: seed of the splits.
        exclude: participants, or scans by `participant_id[_session_id]`, to leave out.
        on_error: `skip` unusable volumes, or `stop` at the first.

    Raises:
        UsageError: for an invalid value, or if a required package is not installed.
    """

    layout: str = "auto"
    axis: str = "axial"
    size: tuple[int, int] = (128, 128)
    spacing: float = 1.8
    positions: str | None = None
    count: int | None = None
    align: str = "auto"
    bias: bool = False
    affine: str = "auto"
    brain: str = "auto"
    columns: Mapping[str, str] | None = None
    table: Path | str | None = None
    jobs: int = 1
    dask: str | None = None
    seed: int = 0
    exclude: Sequence[str] = ()
    on_error: str = "skip"

    def __post_init__(self) -> None:
        choices = {
            "align": ALIGNMENTS,
            "affine": AFFINES,
            "brain": BRAINS,
            "on_error": ("skip", "stop"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                option = name.replace("_", "-")
                raise UsageError(
                    f"--{option} must be {' or '.join(allowed)}, got {getattr(self, name)!r}"
                )
        if self.align in KINDS:
            require_simpleitk(f"--align {self.align}")
        if self.bias:
            require_simpleitk("--bias")
        if self.brain == "deepbet":
            require_deepbet("--brain deepbet")
        if self.jobs < 1:
            raise UsageError(f"--jobs must be at least 1, got {self.jobs}")
        if self.positions is not None and self.count is not None:
            raise UsageError("--positions and --count exclude each other: give one of them")
        self.extract()

    def extract(self, in_template: bool = False) -> ExtractSlices:
        """The transform that these options describe.

        Args:
            in_template: place the slices by the template's brain, the same for all volumes, instead
                of by each volume's own brain.
        """
        height, width = self.size
        least = min(height / 8, width / 8, 1 if self.count is None else self.count)
        if least < 1 or not self.spacing > 0:
            raise UsageError(
                "--size must be 8 pixels or more, --spacing above 0 mm, --count 1 or more, got "
                f"{height} x {width}, {self.spacing:g}, {self.count}"
            )
        positions = None if self.positions is None else parse_positions(self.positions)
        frame = template_extent() if in_template else None
        size = (width, height)
        try:
            return ExtractSlices(
                self.axis, size, self.spacing, positions=positions, count=self.count, frame=frame
            )
        except ValueError as error:
            raise UsageError(str(error)) from error

    def record(self) -> dict[str, Any]:
        """The options that the result depends on, for provenance; of a table it is its content."""
        values = asdict(self)
        values["columns"] = dict(self.columns or {})
        values["exclude"] = sorted(self.exclude)
        left_out = ("table", "jobs", "dask", "on_error")
        return {key: values[key] for key in values if key not in left_out}


def parse_positions(text: str) -> np.ndarray:
    """Parse `FROM:TO:STEP`, mm, both ends included.

    Returns:
        (S,) positions, mm.

    Raises:
        UsageError: for anything else.

    Example:
        >>> parse_positions("-10:5:5").tolist()
        [-10.0, -5.0, 0.0, 5.0]
    """
    try:
        first, last, step = (float(part) for part in text.split(":"))
        count = int(np.floor((last - first) / step + 1e-6)) + 1
    except (ValueError, ZeroDivisionError, OverflowError):
        count = 0
    if not 1 <= count <= 10_000:
        raise UsageError(
            f"--positions must be FROM:TO:STEP in mm, such as -20:40:3.6, got {text!r}"
        )
    return first + step * np.arange(count)
