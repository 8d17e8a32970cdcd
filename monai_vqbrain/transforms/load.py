"""One slice out of a stack on disk."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.transforms import Transform

OPEN_STACKS = 256  # each holds a file descriptor; the usual limit of a process is 1024


class LoadSliced(Transform):
    """Read the slice `index` of a stack and of its brain mask, and no other.

    Stacks are opened as memory maps and kept open; one that was written anew is opened anew.

    Args:
        image_key: key of the stack's path; the slice takes its place.
        mask_key: key of the mask's path; it is dropped. The mask goes to "mask".

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/stack.nii"
        >>> nib.save(nib.Nifti1Image(np.ones((8, 6, 3), dtype=np.uint8), np.eye(4)), path)
        >>> item = LoadSliced()({"image": path, "label": path, "index": 2, "sex": "F"})
        >>> item["image"].shape, item["mask"].dtype, item["sex"]
        (torch.Size([1, 8, 6]), torch.bool, 'F')
    """

    def __init__(self, image_key: str = "image", mask_key: str = "label") -> None:
        self.image_key, self.mask_key = image_key, mask_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Load one item of a datalist.

        Args:
            data: the two paths and "index"; whatever else it holds is kept.

        Returns:
            "image" (1, W, H) float32 in [0, 1] under the image's key, "mask" (1, W, H) bool.
        """
        index = int(data["index"])
        values, slope, inter = _stack(data[self.image_key])
        inside, _, _ = _stack(data[self.mask_key])
        image = values[:, :, index].astype(np.float32) * np.float32(slope) + np.float32(inter)
        result = {key: value for key, value in data.items() if key != self.mask_key}
        result[self.image_key] = torch.from_numpy(np.ascontiguousarray(image))[None]
        result["mask"] = torch.from_numpy(np.ascontiguousarray(inside[:, :, index] != 0))[None]
        return result


def _stack(path: str) -> tuple[np.ndarray, float, float]:
    info = Path(path).stat()
    return _open(str(path), (info.st_mtime_ns, info.st_ino))


@lru_cache(maxsize=OPEN_STACKS)
def _open(path: str, version: tuple[int, int]) -> tuple[np.ndarray, float, float]:  # noqa: ARG001
    """Map a stack; `version` tells a file from the one that it replaced."""
    proxy: Any = nib.Nifti1Image.from_filename(path).dataobj
    return proxy.get_unscaled(), float(proxy.slope), float(proxy.inter)
