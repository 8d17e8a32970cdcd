"""Load one slice of a stack on disk."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from monai_vqbrain.errors import ComponentError
from monai_vqbrain.transforms.backends import NUMPY
from monai_vqbrain.transforms.voxels import open_image, read_stored

KEPT_STACKS = 256  # images and masks; 16 slices of 128x128 pixels are 0.26 MB


class LoadSliced(MapTransform):
    """Load the slice `index` of a stack and of its brain mask.

    Stacks are read whole, and the last 256 files are kept in memory; a stack that was rewritten is
    read again.
    The slices are plain tensors without an affine: in training, metadata would only cost time.

    Args:
        keys: keys of the stacks' paths; each slice takes the place of its path.
        mask_key: key of the mask's path, which is removed. The mask goes to "mask".
        allow_missing_keys: do not raise for an item without one of the keys, or without a mask.

    Example:
        >>> import tempfile
        >>> import nibabel as nib
        >>> path = tempfile.mkdtemp() + "/stack.nii"
        >>> nib.save(nib.Nifti1Image(np.ones((8, 6, 3), dtype=np.uint8), np.eye(4)), path)
        >>> item = LoadSliced()({"image": path, "label": path, "index": 2, "sex": "F"})
        >>> item["image"].shape, item["mask"].dtype, item["sex"]
        (torch.Size([1, 8, 6]), torch.bool, 'F')
    """

    backend = NUMPY

    def __init__(
        self,
        keys: KeysCollection = "image",
        mask_key: str = "label",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.mask_key = mask_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Load one item of a datalist.

        Args:
            data: the paths and "index"; its other entries are kept.

        Returns:
            (1, W, H) float32 in [0, 1] under each key, "mask" (1, W, H) bool.

        Raises:
            ValueError: if a stack cannot be read, or has no such slice.
        """
        index = int(data["index"])
        result = {key: value for key, value in data.items() if key != self.mask_key}
        for key in self.key_iterator(data):
            values, slope, inter = _stack(data[key], index)
            image = values[:, :, index].astype(np.float32) * np.float32(slope) + np.float32(inter)
            result[key] = torch.from_numpy(np.ascontiguousarray(image))[None]
        if self.mask_key in data or not self.allow_missing_keys:
            inside, _, _ = _stack(data[self.mask_key], index)
            result["mask"] = torch.from_numpy(np.ascontiguousarray(inside[:, :, index] != 0))[None]
        return result


def _stack(path: str, index: int) -> tuple[np.ndarray, float, float]:
    """The stored values of a stack that has this slice, their slope and their intercept."""
    try:
        info = Path(path).stat()
        stack = _read(str(path), (info.st_mtime_ns, info.st_ino))
    except (OSError, ValueError) as error:
        raise ComponentError(f"{path} cannot be read ({error}): make the slices again") from error
    shape = stack[0].shape
    if len(shape) != 3 or not 0 <= index < shape[2]:
        raise ComponentError(
            f"{path} has the shape {shape}, and no slice {index}: make the slices again"
        )
    return stack


@lru_cache(maxsize=KEPT_STACKS)
def _read(path: str, version: tuple[int, int]) -> tuple[np.ndarray, float, float]:  # noqa: ARG001
    """Read a stack; `version` distinguishes a rewritten file from the previous one."""
    image = open_image(path)
    return read_stored(image), float(image.dataobj.slope), float(image.dataobj.inter)
