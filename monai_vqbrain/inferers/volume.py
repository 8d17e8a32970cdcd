"""Volumes slice by slice, each slice drawn given the previous one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from monai_vqbrain.inferers.sampling import AncestralSampler
from monai_vqbrain.networks.pixelcnn import PixelCNN
from monai_vqbrain.progress import progress


@dataclass(frozen=True)
class VolumeSampler:
    """Draw volumes as stacks of consistent slices, from a prior conditioned on the previous slice.

    The first slice is drawn without one. A prior with a plan has one drawn per volume, which all
    its slices follow. Each slice takes as long as a single one.

    Args:
        sampler: draws the slices of a batch of volumes.
        progress: show a progress bar, one step per slice.

    Example:
        >>> prior = PixelCNN(16, (4, 6), 8, 1, conditions={"position_rel": [0, 1]}, neighbour=True)
        >>> where = torch.tensor([[0.4], [0.5], [0.6]])
        >>> VolumeSampler(AncestralSampler())(prior, 2, torch.Generator(), where).shape
        torch.Size([2, 3, 4, 6])
    """

    sampler: AncestralSampler
    progress: bool = False

    def __call__(
        self,
        network: PixelCNN,
        batch_size: int,
        generator: torch.Generator,
        condition: Tensor,
        base: Tensor | None = None,
    ) -> Tensor:
        """Draw a batch of volumes.

        Args:
            network: the prior, trained with `neighbour`.
            batch_size: B, how many volumes are drawn at once.
            generator: the only source of randomness, on any device.
            condition: (S, C), one row per slice, in their order in the volume, or (B, S, C) with
                rows of each volume.
            base: likewise, what guidance goes from, such as rows with the positions of the slices
                only; by default all values are missing.

        Returns:
            (B, S, h, w) codes, or (B, S, G, h, w) with several groups.

        Raises:
            ValueError: if the prior is not conditioned on the previous slice.
        """
        if network.neighbour is None:
            raise ValueError(
                "this prior was trained without neighbouring slices, and its slices would not fit "
                "together: train it with neighbour"
            )
        asked = _by_slice(condition)
        bases: list[Any] = [None] * len(asked) if base is None else _by_slice(base)
        plans = self._plans(network, batch_size, generator, (condition, base))
        rows = list(zip(asked, bases, plans, strict=True))
        slices: list[Tensor] = []
        for row, start, plan in (
            progress(rows, "sample slices", unit="slice") if self.progress else rows
        ):
            before = slices[-1] if slices else None
            codes = self.sampler(network, batch_size, generator, row, before, base=start, plan=plan)
            slices.append(codes)
        return torch.stack(slices, dim=1)

    def _plans(
        self,
        network: PixelCNN,
        batch_size: int,
        generator: torch.Generator,
        conditions: tuple[Tensor, Tensor | None],
    ) -> list[Tensor | None]:
        """The plan of each slice, (B, h, w); None without one."""
        rows, base = (
            None if part is None else part.expand(batch_size, *part.shape[-2:])
            for part in conditions
        )
        plan = network.draw_plan(rows, generator, base, self.sampler.guidance)
        return [None] * conditions[0].shape[-2] if plan is None else list(plan.unbind(1))


def _by_slice(rows: Tensor) -> list[Tensor]:
    """(S, C) or (B, S, C) -> S tensors, (1, C) or (B, C)."""
    return list(rows.split(1)) if rows.ndim == 2 else list(rows.unbind(1))
