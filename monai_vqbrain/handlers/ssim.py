"""Fidelity of reconstructions, as ignite metrics: the mean over participants of their means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from ignite.exceptions import NotComputableError
from ignite.metrics import Metric

from monai_vqbrain.metrics.psnr import psnr_brain
from monai_vqbrain.metrics.ssim import ssim_brain, ssim_whole

Scores = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


class ParticipantMean(Metric):
    """The mean of a score over each participant's slices, then over participants.

    Serves as key metric or additional metric of MONAI's engines. The engine's output must hold, or
    `output_transform` must give, a dictionary with `pred` and `image` (B, 1, W, H), `mask`
    (B, 1, W, H) bool and `participant_id` (B names), or a tuple of these four.

    Args:
        score: of (prediction, target, mask), each (B, 1, W, H): one number a slice, (B,).
        output_transform: what makes the dictionary of the engine's output.
    """

    required_output_keys = ("pred", "image", "mask", "participant_id")

    def __init__(
        self,
        score: Scores,
        output_transform: Callable[[Any], Any] = lambda output: output,
    ) -> None:
        self.score = score
        super().__init__(output_transform)

    def reset(self) -> None:
        """Forget what was seen."""
        self.scores: dict[str, list[float]] = {}

    def update(self, output: tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[str]]) -> None:
        """Add the slices of one batch."""
        prediction, image, mask, participants = output
        values = self.score(prediction, image, mask.to(prediction.device)).tolist()
        for participant, value in zip(participants, values, strict=True):
            self.scores.setdefault(participant, []).append(value)

    def compute(self) -> float:
        """The mean over participants.

        Raises:
            NotComputableError: before any slice was seen.
        """
        if not self.scores:
            raise NotComputableError("no slice was seen: the evaluation's data set is empty")
        means = [sum(values) / len(values) for values in self.scores.values()]
        return sum(means) / len(means)


class BrainSSIM(ParticipantMean):
    """SSIM inside the target's brain mask; see ParticipantMean for what the output must hold."""

    def __init__(self, output_transform: Callable[[Any], Any] = lambda output: output) -> None:
        super().__init__(ssim_brain, output_transform)


class WholeSSIM(ParticipantMean):
    """SSIM over the whole image: flattering; only to compare with other papers' figures."""

    def __init__(self, output_transform: Callable[[Any], Any] = lambda output: output) -> None:
        super().__init__(
            lambda prediction, target, _: ssim_whole(prediction, target), output_transform
        )


class BrainPSNR(ParticipantMean):
    """PSNR in dB inside the target's brain mask, peak 1."""

    def __init__(self, output_transform: Callable[[Any], Any] = lambda output: output) -> None:
        super().__init__(psnr_brain, output_transform)
