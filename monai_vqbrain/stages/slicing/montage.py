"""An overview picture: slices of several volumes, with the outlines of their brain masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from skimage.segmentation import mark_boundaries

from monai_vqbrain.runs.stacks import mask_path
from monai_vqbrain.selection import evenly_spaced

MAX_VOLUMES, SLICES_PER_VOLUME = 24, 6
FONT, GAP = 12, 4  # pixels
OUTLINE = (1.0, 0.35, 0.1)


def write_montage(stacks: Sequence[Path], path: Path, axis: str) -> None:
    """Draw up to 24 volumes, one row each, six slices around the middle of the stack.

    Args:
        stacks: the stacks' files; of more than 24, an evenly spaced selection is drawn.
        path: the PNG to write.
        axis: "axial", "coronal" or "sagittal".
    """
    chosen = [stacks[i] for i in evenly_spaced(len(stacks), MAX_VOLUMES)]
    names = [stack.name.removesuffix("_T1w.nii") for stack in chosen]
    font = ImageFont.load_default(FONT)
    left = int(max(font.getlength(name) for name in names)) + 2 * GAP
    side = "the face" if axis == "sagittal" else "the participant's right"
    title = f"{axis} slices in ascending order; {side} is on the right"
    rows = [
        np.rint(255 * outlined_slices(stack, SLICES_PER_VOLUME)).astype(np.uint8)
        for stack in chosen
    ]
    top, width = 2 * FONT, max(*(row.shape[1] for row in rows), int(font.getlength(title)))
    height = top + sum(row.shape[0] + GAP for row in rows)
    picture = Image.new("RGB", (left + width, height), "white")
    draw = ImageDraw.Draw(picture)
    draw.text((left, top / 2), title, "black", font, anchor="lm")
    for name, row in zip(names, rows, strict=True):
        picture.paste(Image.fromarray(row), (left, top))
        draw.text((left - GAP, top + row.shape[0] / 2), name, "black", font, anchor="rm")
        top += row.shape[0] + GAP
    picture.save(path)


def outlined_slices(stack: Path, most: int, pixels: int | None = None) -> np.ndarray:
    """Slices around the middle of a stack, side by side, with the outlines of their brain masks.

    Args:
        stack: the stack's file.
        most: maximum number of slices.
        pixels: maximum of a slice's longer side; larger slices are subsampled.

    Returns:
        (H, slices * W, 3) in [0, 1], RGB.
    """
    image = np.asarray(nib.Nifti1Image.from_filename(stack).dataobj, dtype=np.float32)
    mask = np.asarray(nib.Nifti1Image.from_filename(mask_path(stack)).dataobj) > 0
    if pixels is not None:
        step = -(-max(image.shape[:2]) // pixels)
        image, mask = image[::step, ::step], mask[::step, ::step]
    count = image.shape[2]
    middle = range(count // 6, count - count // 6)
    chosen = [middle[i] for i in evenly_spaced(len(middle), most)]
    shown = np.clip(image[..., chosen], 0, 1)
    tiles = [
        mark_boundaries(np.rot90(shown[..., i]), np.rot90(mask[..., k]), OUTLINE, mode="inner")
        for i, k in enumerate(chosen)
    ]
    return np.concatenate(tiles, axis=1)
