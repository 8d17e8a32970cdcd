"""Fidelity of reconstructions, as ignite metrics: means over participants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ignite.distributed as idist
import torch
from ignite.exceptions import NotComputableError
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced
from monai.handlers import from_engine

from monai_vqbrain.handlers.batch import as_batch
from monai_vqbrain.metrics.psnr import psnr_brain
from monai_vqbrain.metrics.ssim import ssim_brain, ssim_whole

KEYS = ("pred", "image", "mask", "participant_id")
SELECTED = from_engine(KEYS)
Scores = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
Sums = dict[str, tuple[float, int]]  # participant -> sum of the scores, number of slices


class ParticipantMean(Metric):
    """The mean of a score over each participant's slices, then over participants.

    It is a key metric or additional metric of MONAI's engines, whose output must contain `pred` and
    `image` (B, 1, W, H), `mask` (B, 1, W, H) bool and `participant_id` (B names), decollated or
    not. A participant's slices may be on several ranks.

    Args:
        score: of (prediction, target, mask), each (B, 1, W, H): one number per slice, (B,).
        output_transform: selects these four from the engine's output, as a dictionary or a tuple;
            each for a whole batch, or as a list with one entry per item.
    """

    required_output_keys = KEYS

    def __init__(
        self,
        score: Scores,
        output_transform: Callable[[Any], Any] = SELECTED,
    ) -> None:
        self.score = score
        super().__init__(output_transform)

    @reinit__is_reduced
    def reset(self) -> None:
        """Clear all sums."""
        self.sums: Sums = {}

    @reinit__is_reduced
    def update(self, output: tuple[Any, Any, Any, Any]) -> None:
        """Add the slices of one batch."""
        prediction, image, mask, participants = as_batch(output)
        values = self.score(prediction, image, mask.to(prediction.device)).tolist()
        for participant, value in zip(participants, values, strict=True):
            _add(self.sums, participant, value, 1)

    def compute(self) -> float:
        """The mean over participants of all ranks.

        Raises:
            NotComputableError: before the first batch.
        """
        shards: Any = idist.all_gather(self.sums)
        sums: Sums = {}
        for participant, (total, count) in (item for shard in shards for item in shard.items()):
            _add(sums, participant, total, count)
        if not sums:
            raise NotComputableError("no slice was seen: the evaluation's data set is empty")
        return sum(total / count for total, count in sums.values()) / len(sums)


def _add(sums: Sums, participant: str, total: float, count: int) -> None:
    before, seen = sums.get(participant, (0.0, 0))
    sums[participant] = before + total, seen + count


class BrainSSIM(ParticipantMean):
    """SSIM inside the target's brain mask; see ParticipantMean for what the output must contain."""

    def __init__(self, output_transform: Callable[[Any], Any] = SELECTED) -> None:
        super().__init__(ssim_brain, output_transform)


class WholeSSIM(ParticipantMean):
    """SSIM over the whole image, raised by the background; only to compare with other papers."""

    def __init__(self, output_transform: Callable[[Any], Any] = SELECTED) -> None:
        super().__init__(
            lambda prediction, target, _: ssim_whole(prediction, target), output_transform
        )


class BrainPSNR(ParticipantMean):
    """PSNR in dB inside the target's brain mask, peak 1."""

    def __init__(self, output_transform: Callable[[Any], Any] = SELECTED) -> None:
        super().__init__(psnr_brain, output_transform)
