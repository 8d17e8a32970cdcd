"""Linear registration of a T1 volume to the MNI152 template; no voxel is resampled.

The result maps template coordinates to those of the volume, in mm. SimpleITK optimises it on blocks
of voxels, on one thread and with a fixed seed, so that every run gives bit-identical results.
"""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu

from monai_vqbrain.transforms.bias import bias_at, log_bias
from monai_vqbrain.transforms.blocks import Blocks, block_means
from monai_vqbrain.transforms.grid import read_at
from monai_vqbrain.transforms.intensity import PERCENTILE, brain_percentile
from monai_vqbrain.transforms.simpleitk import deterministic_simpleitk, simpleitk, to_sitk
from monai_vqbrain.transforms.template import template_brain, template_extent, template_image

KINDS = ("rigid", "affine")
UNIT = 50.0  # mm, a brain's radius: puts matrix entries and translations on one scale
SEED = 1  # of the jitter of regular samples; 0 would seed from the clock
MARGIN = 10.0  # mm around the template's brain in which images are compared
BIAS_MM, BIAS_ITERATIONS = 8.0, (30, 30, 30)
HEAD_PERCENTILE = 98.0  # of a head's voxels; brighter voxels are fat
SCALP = 12.0  # mm from the brain's top to the head's
START_MM = 8.0
STARTS = (  # up, forward: mm; pitch: degrees; scale: below 1 for small heads
    (-24, -12, 0, 12, 24),
    (-16, 0, 16),
    (-20, 0, 20),
    (0.85, 0.93, 1.0),
)
TRIED = 3  # best starts that are optimised
LEAST_MM, MOST_MM = 64, 640  # sides of a volume that contains enough of one brain
LEAST_ML, MOST_ML = 900, 2000  # a brain's volume
LEAST_CORRELATION = 0.2  # well-aligned brains have 0.35 to 0.7
MOST_DEGREES, LEAST_SCALE, MOST_SCALE = 45, 0.7, 1.4


class Step(NamedTuple):
    """One optimisation.

    Args:
        mm: side of the blocks that are compared.
        kind: "rigid" or "affine".
        share: fraction of the template's voxels that are compared, evenly spaced.
        factor: it ends when an iteration improves the metric by less than this times 2e-16.
        iterations: at most.
    """

    mm: float
    kind: str
    share: float = 1.0
    factor: float = 1e11
    iterations: int = 30


STEPS = {
    "rigid": (Step(4.0, "rigid"), Step(2.0, "rigid", share=0.3)),
    "affine": (Step(4.0, "rigid"), Step(4.0, "affine"), Step(2.0, "affine", share=0.3)),
}


class Registration(NamedTuple):
    """The map between the template and a volume.

    Args:
        matrix: (4, 4), the template's mm -> the volume's mm, both RAS.
        correlation: of the two, bias-corrected, in the template's brain; 1 for equal images.
    """

    matrix: np.ndarray
    correlation: float

    def into_template(self, affine: np.ndarray) -> np.ndarray:
        """(4, 4), voxel -> template coordinates, mm, of a volume with this affine."""
        return np.asarray(np.linalg.inv(self.matrix) @ affine)


def register(
    array: np.ndarray,
    affine: np.ndarray,
    brain: np.ndarray | None = None,
    kind: str = "affine",
    steps: tuple[Step, ...] | None = None,
) -> Registration:
    """Find the map from the template to a volume.

    The volume is first corrected by a coarse N4 bias field, and compared with the template by their
    correlation within 10 mm of the template's brain. A brain starts with its centre on the
    template's; a whole head starts from the best of 135 positions, pitches and scales.

    Args:
        array: (X, Y, Z), a T1 volume.
        affine: (4, 4), voxel -> world, mm, RAS.
        brain: (X, Y, Z) bool; None for a whole head, with its skull.
        kind: "rigid" or "affine".
        steps: optimisations, by default those of `STEPS`.

    Raises:
        ImportError: SimpleITK is not installed.
        ValueError: for an unknown kind, a whole head and "rigid", an image without contrast or of a
            size that is no head's, or an implausible result: a mirrored head, one rotated by 45
            degrees or more, an axis scaled by less than 0.7 or more than 1.4, a head with a brain
            of less than 900 or more than 2,000 ml, or a low correlation with the template.

    Source:
        The correlation metric of ITKv4 (Avants et al. 2014) and the optimiser L-BFGS-B.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be {' or '.join(KINDS)}, got {kind!r}")
    if brain is None and kind != "affine":
        raise ValueError(f"a whole head must be aligned by kind 'affine', got {kind!r}")
    sides = np.linalg.norm(affine[:3, :3], axis=0) * array.shape
    if min(sides) < LEAST_MM or max(sides) > MOST_MM:
        raise ValueError(
            f"the volume measures {' x '.join(f'{side:.0f}' for side in sides)} mm: to be aligned "
            f"each side must have {LEAST_MM} to {MOST_MM} mm"
        )
    steps = STEPS[kind] if steps is None else steps
    if brain is None:  # its start includes a scale
        steps = tuple(step for step in steps if step.kind != "rigid")
    finest = min(step.mm for step in steps)
    image, inside = _head(array, affine, finest) if brain is None else _brain(
        array, affine, brain, finest
    )  # fmt: skip
    image = _flat(image, inside)
    with deterministic_simpleitk():
        found = _head_start(image, inside) if brain is None else _brain_start(image.affine, inside)
        for step in steps:
            found = found if step.kind == "rigid" else _as_affine(found)
            _optimise(_moving(image, step.mm), found, step)
    matrix = _matrix(found)
    result = Registration(matrix, correlation(image.values, image.affine, matrix))
    _check(result, whole_head=brain is None)
    return result


def correlation(array: np.ndarray, affine: np.ndarray, matrix: np.ndarray) -> float:
    """Pearson's correlation of a volume and the template, every 2 mm in the template's brain.

    Args:
        array: (X, Y, Z).
        affine: (4, 4), voxel -> world.
        matrix: (4, 4), the template's mm -> world.
    """
    template, own = template_image()
    brain, where = template_brain()
    every = np.diag([2.0, 2.0, 2.0, 1.0])
    values = template[::2, ::2, ::2]
    there = read_at(brain, np.linalg.inv(where) @ own @ every, values.shape, order=0) > 0
    here = read_at(array, np.linalg.inv(affine) @ matrix @ own @ every, values.shape)
    return float(np.corrcoef(here[there], values[there])[0, 1])


def _brain(
    array: np.ndarray, affine: np.ndarray, brain: np.ndarray, mm: float
) -> tuple[Blocks, np.ndarray]:
    """A brain on blocks, clipped at two percentiles, its darkest voxels 0; and its mask."""
    means = block_means(array, affine, mm)
    inside = block_means(brain, affine, mm).values >= 0.5
    if not inside.any():
        raise ValueError("the brain mask is empty: there is nothing to align")
    values = means.values[inside]
    low = min(0.0, brain_percentile(values, 100 - PERCENTILE))
    high = brain_percentile(values, PERCENTILE)
    cut = np.where(inside, np.clip(means.values, low, high) - np.float32(low), np.float32(0))
    return Blocks(cut, means.affine), inside


def _head(array: np.ndarray, affine: np.ndarray, mm: float) -> tuple[Blocks, np.ndarray]:
    """A head on blocks, fat clipped; and its mask: the largest bright component."""
    means = block_means(array, affine, mm)
    air = np.percentile(means.values, 1)
    values = np.maximum(means.values - air, 0)
    if not values.any():
        raise ValueError("every voxel is the same: there is nothing to align")
    labels, _ = ndimage.label(values > threshold_otsu(values) / 2)
    inside = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    high = brain_percentile(values[inside], HEAD_PERCENTILE)
    return Blocks(np.minimum(values, high), means.affine), inside


def _flat(image: Blocks, inside: np.ndarray) -> Blocks:
    field = log_bias(image.values, image.affine, inside, BIAS_MM, BIAS_ITERATIONS)
    bias = bias_at(field, image.affine, image.values.shape)
    return Blocks(image.values / bias, image.affine)


def _brain_start(affine: np.ndarray, inside: np.ndarray) -> Any:
    return _rigid(_middle(inside, affine) - _template_middle())


def _head_start(image: Blocks, inside: np.ndarray) -> Any:
    """The best of several starts around the position that the top of the head suggests."""
    centre, top = _template_middle(), template_extent()[1][2] + SCALP
    points = np.argwhere(inside) @ image.affine[:3, :3].T + image.affine[:3, 3]
    highest = np.percentile(points[:, 2], 99.8)
    upper = np.median(points[points[:, 2] > highest - 120], axis=0)
    right, front, above = upper[0] - centre[0], upper[1] - centre[1], highest - top
    starts = [
        (_rigid(np.array([right, front + forward, above + up]), pitch), size)
        for up, forward, pitch, size in itertools.product(*STARTS)
    ]
    moving = _moving(image, START_MM)
    step = Step(START_MM, "rigid")
    metrics = [_metric(moving, rigid, step, size) for rigid, size in starts]
    tried = [starts[index] for index in np.argsort(metrics, kind="stable")[:TRIED]]
    ends = [_optimise(moving, rigid, step, size) for rigid, size in tried]
    rigid, size = tried[int(np.argmin(ends))]
    start = _as_affine(rigid)
    start.SetMatrix([size * entry for entry in start.GetMatrix()])
    return start


@lru_cache(1)
def _template_middle() -> np.ndarray:
    return _middle(*template_brain())


def _middle(inside: np.ndarray, affine: np.ndarray) -> np.ndarray:
    return np.asarray(affine[:3, :3] @ np.argwhere(inside).mean(axis=0) + affine[:3, 3])


def _rigid(shift: np.ndarray, pitch: float = 0.0) -> Any:
    """Template -> volume: rotated by `pitch` degrees about the template's middle, then shifted."""
    transform = simpleitk().Euler3DTransform()
    transform.SetCenter((_template_middle() / UNIT).tolist())
    transform.SetRotation(np.radians(pitch), 0.0, 0.0)
    transform.SetTranslation((shift / UNIT).tolist())
    return transform


def _as_affine(other: Any) -> Any:
    transform = simpleitk().AffineTransform(3)
    transform.SetCenter(other.GetCenter())
    transform.SetMatrix(other.GetMatrix())
    transform.SetTranslation(other.GetTranslation())
    return transform


def _matrix(transform: Any) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(transform.GetMatrix(), (3, 3))
    centre = np.array(transform.GetCenter())
    shift = centre + transform.GetTranslation() - matrix[:3, :3] @ centre
    matrix[:3, 3] = shift * UNIT
    return matrix


def _moving(image: Blocks, mm: float) -> tuple[Any, Any]:
    """The volume on blocks, and the map from world to its voxels.

    The image keeps only the order and sizes of its voxels; the rest of its affine is part of the
    map, so that no direction or handedness is lost.
    """
    blocks = block_means(image.values, image.affine, mm)
    inverse = np.linalg.inv(blocks.affine)
    own = simpleitk().AffineTransform(3)
    own.SetMatrix((blocks.spacing[:, None] * inverse[:3, :3]).ravel().tolist())
    own.SetTranslation((blocks.spacing * inverse[:3, 3] / UNIT).tolist())
    return to_sitk(blocks.values, blocks.spacing / UNIT, (0, 0, 0)), own


def _optimise(moving: tuple[Any, Any], transform: Any, step: Step, size: float = 1.0) -> float:
    """Optimise `transform` in place; return the metric's last value, lower is better."""
    method = _method(moving, transform, step, size)
    method.Execute(_fixed(step.mm, size)[0], moving[0])
    return float(method.GetMetricValue())


def _metric(moving: tuple[Any, Any], transform: Any, step: Step, size: float) -> float:
    method = _method(moving, transform, step, size)
    return float(method.MetricEvaluate(_fixed(step.mm, size)[0], moving[0]))


def _method(moving: tuple[Any, Any], transform: Any, step: Step, size: float) -> Any:
    method = simpleitk().ImageRegistrationMethod()
    method.SetMetricAsCorrelation()
    method.SetMetricFixedMask(_fixed(step.mm, size)[1])
    method.SetInterpolator(simpleitk().sitkLinear)
    if step.share < 1:
        method.SetMetricSamplingStrategy(method.REGULAR)
        method.SetMetricSamplingPercentage(step.share, SEED)
    method.SetMovingInitialTransform(moving[1])
    method.SetInitialTransform(transform, inPlace=True)
    method.SetOptimizerAsLBFGSB(
        numberOfIterations=step.iterations,
        maximumNumberOfFunctionEvaluations=3 * step.iterations,
        costFunctionConvergenceFactor=step.factor,
    )
    return method


@lru_cache
def _fixed(mm: float, size: float = 1.0) -> tuple[Any, Any]:
    """The template, scaled about its middle, and the mask of the comparison, on blocks."""
    blocks, near = _template_blocks(mm)
    middle = _template_middle()
    spacing = size * blocks.spacing / UNIT
    origin = (middle + size * (blocks.affine[:3, 3] - middle)) / UNIT
    return to_sitk(blocks.values, spacing, origin), to_sitk(near, spacing, origin)


@lru_cache
def _template_blocks(mm: float) -> tuple[Blocks, np.ndarray]:
    """The template on blocks, and a uint8 mask of voxels within MARGIN of its brain."""
    blocks = block_means(*template_image(), mm)
    inside = block_means(*template_brain(), min(mm, 2.0))
    away = ndimage.distance_transform_edt(inside.values < 0.5, sampling=inside.spacing)
    to_fine = np.linalg.inv(inside.affine) @ blocks.affine
    near = read_at(away, to_fine, blocks.values.shape, fill=np.inf) <= MARGIN
    return blocks, near.astype(np.uint8)


def _check(result: Registration, whole_head: bool) -> None:
    linear = result.matrix[:3, :3]
    left, scales, right = np.linalg.svd(linear)
    turn = np.degrees(np.arccos(np.clip((np.trace(left @ right) - 1) / 2, -1, 1)))
    sizes = [*scales, *np.linalg.norm(linear, axis=0)]
    volume = np.linalg.det(linear) * np.count_nonzero(template_brain()[0]) / 1000
    if np.linalg.det(linear) <= 0:
        found = "it mirrors the head"
    elif turn >= MOST_DEGREES:
        found = f"it turns the head by {turn:.0f} degrees"
    elif min(sizes) < LEAST_SCALE or max(sizes) > MOST_SCALE:
        found = f"it scales the template by {min(sizes):.2f} to {max(sizes):.2f}"
    elif whole_head and not LEAST_ML <= volume <= MOST_ML:
        found = f"the brain would have {volume:.0f} ml"
    elif not result.correlation >= LEAST_CORRELATION:
        found = f"its correlation with the template is {result.correlation:.2f}"
    else:
        return
    raise ValueError(f"the alignment to MNI152 fails: {found}")
