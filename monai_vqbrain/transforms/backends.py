"""Values of the `backend` attribute of transforms: the library that processes the data."""

from __future__ import annotations

from monai.utils import TransformBackends

NUMPY = [TransformBackends.NUMPY]
TORCH = [TransformBackends.TORCH]
