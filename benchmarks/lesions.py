"""Do the maps of `vqbrain score` and `vqbrain reconstruct` show lesions?

    python benchmarks/lesions.py --run RUN --json lesions.json

Each run has slices, both networks and codes. One soft-edged ellipse is planted in the white matter
of each slice of the test participants, with a radius of 3, 5 or 8 mm (that of the circle of the
same area), 0.3 darker or brighter, where 1 is the intensity of the brightest tissue. The AUC of a
map says how well it tells the pixels of the lesions from the other pixels of the brain, over all
slices of a participant; the mean over participants has a 95 % bootstrap interval. `none` is the AUC
of the same pixels in the unchanged slices: white matter differs from the rest of the brain in every
map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter
from scipy.signal import fftconvolve
from sklearn.metrics import roc_auc_score
from standings import aligned, command_line, keep, machine

from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.metrics import position_mean
from monai_vqbrain.metrics.anatomy import fit_tissues
from monai_vqbrain.metrics.bootstrap import Interval, bootstrap_mean
from monai_vqbrain.provenance import read_provenance
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.stacks import read_slices
from monai_vqbrain.runs.tables import in_split, read_slices_table
from monai_vqbrain.stages.images.reconstruction import POSITION_COLUMNS, reconstruct_image
from monai_vqbrain.stages.score import Scorer
from monai_vqbrain.transforms.input_image import InputImage

RADII = (3.0, 5.0, 8.0)  # mm
CHANGES = {"none": 0.0, "darker": -0.3, "brighter": 0.3}
MAPS = {
    "bits": "bits (score)",
    "error": "error (reconstruct)",
    "difference": "difference from the mean slice",
    "intensity": "intensity",
}
ELONGATION = 1.25  # long half axis to radius, radius to short half axis
EDGE = 0.7  # standard deviation of the blur at the rim, pixels
NEARLY = 0.95  # of the most white matter that a lesion of this size can cover in a slice

Found = Mapping[tuple[str, float], Mapping[str, Interval]]  # by change and radius, then by map


def main(arguments: Sequence[str] | None = None) -> None:
    """Plant, map, and print a table per run."""
    parser = command_line(__doc__ or "")
    parser.add_argument("--run", type=Path, action="append", required=True, help="may be repeated")
    args = parser.parse_args(arguments)
    figures: dict[str, Any] = {}
    for path in args.run:
        found = measured(RunFolder(path))
        print(f"{path.name}\n{table(found)}\n")
        figures |= flat(path.name, found)
    print(machine())
    keep(figures | {"machine": machine()}, args.json)


def measured(run: RunFolder) -> dict[tuple[str, float], dict[str, Interval]]:
    """The AUC of each map, by change and radius."""
    table = read_slices_table(run)
    rows = table[in_split(table, "test")].reset_index(drop=True)
    training = table[in_split(table, "training")]
    images, masks = read_slices(run, rows)
    known, _ = read_slices(run, training)
    usual = position_mean(rows["index"].to_numpy(), known, training["index"].to_numpy()) / 255
    means = fit_tissues(known).means
    sound, white = images.astype(np.float32) / 255, masks & (images / 255 > means[1:].mean())
    spacing = float((read_provenance(run.slices) or {})["options"]["spacing"])
    mapper = Mapper(run)
    found = {}
    for radius in RADII:
        lesions = place_lesions(white, radius / spacing, seed=0)
        for name, change in CHANGES.items():
            slices = np.clip(sound + change * lesions, 0, 1).astype(np.float32)
            maps = mapper(slices, masks, rows) | {
                "difference": np.abs(slices - usual),
                "intensity": slices if change > 0 else -slices,
            }
            whose = rows["participant_id"]
            found[name, radius] = {m: auc(maps[m], lesions >= 0.5, masks, whose) for m in MAPS}
    return found


class Mapper(Scorer):
    """The maps that `score` and `reconstruct` write, of slices in memory.

    Args:
        run: the run folder, with both networks and codes.
    """

    def __init__(self, run: RunFolder) -> None:
        super().__init__(run, "cpu", {})

    def __call__(
        self, slices: np.ndarray, masks: np.ndarray, rows: pd.DataFrame
    ) -> dict[str, np.ndarray]:
        """Bits per code and absolute error of reconstruction, (N, W, H) each.

        Args:
            slices: (N, W, H) float32 in [0, 1].
            masks: (N, W, H) bool.
            rows: the N rows of slices.tsv.
        """
        image = InputImage(
            slices=slices.transpose(1, 2, 0),
            mask=masks.transpose(1, 2, 0),
            places=tuple(rows[list(POSITION_COLUMNS)].to_dict("records")),
            unit=np.empty(0),  # of volumes, like the brain and the way back to their voxels
            brain=np.empty(0),
            limits=(0.0, 1.0),
            back=lambda stack: stack,
            like=None,
        )
        bits = np.kron(self._bits(image), np.ones((self.vqvae.factor,) * 2))
        returned = reconstruct_image(image, self.vqvae, self.device).slices
        width, height = slices.shape[1:]
        error = np.abs(returned - image.slices).transpose(2, 0, 1)
        return {"bits": bits[:, :width, :height], "error": error}


def place_lesions(white: np.ndarray, radius: float, seed: int) -> np.ndarray:
    """One lesion per slice, where it covers about as much white matter as it can.

    Args:
        white: (N, W, H) bool, white matter.
        radius: pixels, of the circle of the same area.
        seed: of places and orientations.

    Returns:
        (N, W, H) float in [0, 1], 0.5 at the rim.
    """
    rng = np.random.default_rng(seed)
    lesions = np.zeros(white.shape)
    side = int(np.ceil(radius * ELONGATION + 3))
    for lesion, tissue in zip(lesions, white, strict=True):
        shape = ellipse(radius, rng.uniform(0, np.pi), side)
        covered = fftconvolve(tissue, shape[::-1, ::-1], mode="same")
        row, column = rng.choice(np.argwhere(covered >= NEARLY * covered.max()))
        padded = np.pad(lesion, side)  # a view of the slice would end at its border
        padded[row : row + 2 * side + 1, column : column + 2 * side + 1] = shape
        lesion[:] = padded[side:-side, side:-side]
    return lesions


def ellipse(radius: float, angle: float, side: int) -> np.ndarray:
    """A soft-edged ellipse in the middle of (2 side + 1, 2 side + 1) pixels, in [0, 1].

    Args:
        radius: pixels, of the circle of the same area.
        angle: of the long axis, radians.
        side: pixels from the middle to the border.
    """
    first, second = np.mgrid[-side : side + 1, -side : side + 1]
    along = first * np.cos(angle) + second * np.sin(angle)
    across = second * np.cos(angle) - first * np.sin(angle)
    inside = np.hypot(along / ELONGATION, across * ELONGATION) <= radius
    return np.asarray(gaussian_filter(inside.astype(float), EDGE))


def auc(
    values: np.ndarray, lesions: np.ndarray, masks: np.ndarray, participants: Sequence[str]
) -> Interval:
    """Area under the ROC curve of lesion pixels against the others of the brain.

    Args:
        values: (N, W, H), higher where a lesion is expected.
        lesions: (N, W, H) bool.
        masks: (N, W, H) bool, the brain.
        participants: (N,) whose slice each is.

    Returns:
        The mean over participants, with its interval.
    """
    names = np.unique(np.asarray(participants))
    areas = []
    for name in names:
        own = np.asarray(participants) == name
        brain = masks[own]
        areas.append(roc_auc_score(lesions[own][brain], values[own][brain]))
    return bootstrap_mean(areas, names)


def table(found: Found) -> str:
    """One row per change and radius, one column per map."""
    order = sorted(found, key=lambda one: (list(CHANGES).index(one[0]), one[1]))
    rows = [[one[0], f"{one[1]:g}", *(cell(found[one][name]) for name in MAPS)] for one in order]
    return aligned([["lesion", "radius, mm", *MAPS.values()], *rows])


def cell(area: Interval) -> str:
    """`0.71 (0.68-0.74)`."""
    return f"{area.value:.2f} ({area.low:.2f}-{area.high:.2f})"


def flat(run: str, found: Found) -> dict[str, Any]:
    """Every area with its interval, by a plain name."""
    return {
        f"{run}_{change}_{radius:g}mm_{name}": asdict(area)
        for (change, radius), each in found.items()
        for name, area in each.items()
    }


if __name__ == "__main__":
    try:
        main()
    except VQBrainError as error:
        raise SystemExit(str(error)) from None
