"""Engine outputs as whole batches, whether or not MONAI has decollated them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.data import default_collate


def as_batch(output: Any) -> Any:
    """Convert an engine's output, or a selection by MONAI's `from_engine`, to a whole batch.

    Args:
        output: a dictionary or tensor of a batch, which is returned unchanged; a list with one
            entry per item, as MONAI's engines return with `decollate=True`; or a tuple of those.

    Returns:
        A list's entries as one batch: dictionaries as one dictionary, tensors (C, W, H) as one
        tensor (B, C, W, H), numbers as a tensor (B,), names as a list of B. A tuple's parts as
        batches; the only part of a tuple by itself.

    Example:
        >>> as_batch([{"codes": torch.tensor([3, 5]), "participant_id": "a"}])
        {'codes': tensor([[3, 5]]), 'participant_id': ['a']}
    """
    if isinstance(output, Mapping | torch.Tensor):
        return output
    if isinstance(output, tuple):
        parts = tuple(as_batch(part) for part in output)
        return parts[0] if len(parts) == 1 else parts
    return default_collate(output)
