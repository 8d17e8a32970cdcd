"""Finite scalar quantization: each channel rounded to one of a few levels, nothing to learn."""

# No postponed annotations here: TorchScript must see the buffers' types as types.

from collections.abc import Sequence

import torch
from torch import nn

SLACK = 1e-3  # keeps the outermost levels from being wider than the others


class ScalarQuantizer(nn.Module):
    """Each channel, bounded by tanh, rounded to its levels; a code numbers their combinations.

    There is no codebook to learn, so nothing collapses, no code dies, and the loss is 0. Gradients
    pass the rounding straight through. The same in training and evaluation.

    Args:
        levels: of each channel, 2 or more; (8, 8, 8) gives K = 512 codes of D = 3 channels.

    Raises:
        ValueError: if there are no levels, or fewer than 2.

    Source: Mentzer et al. 2023, arXiv 2309.15505 (appendix A.1; an even number of levels is shifted
    by half a level, so that 0 becomes 0).

    Example:
        >>> quantizer = ScalarQuantizer((8, 8, 8))
        >>> quantised, loss, codes = quantizer(torch.randn(4, 3, 16, 16))
        >>> codes.shape, int(codes.max()) < quantizer.num_codes
        (torch.Size([4, 16, 16]), True)
    """

    levels: torch.Tensor
    basis: torch.Tensor  # what a step of each channel's level adds to the code
    reach: torch.Tensor
    offset: torch.Tensor
    shift: torch.Tensor

    def __init__(self, levels: Sequence[int] = (8, 8, 8)) -> None:
        super().__init__()
        if not levels or min(levels) < 2:
            raise ValueError(f"levels must all be 2 or more, such as (8, 8, 8), got {levels}")
        count = torch.tensor(levels)
        self.num_codes = int(count.prod())
        self.groups = 1
        self.code_dim = len(levels)
        basis = torch.cat((torch.tensor([1]), count[:-1].cumprod(0)))
        reach = (count - 1).double() * (1 - SLACK) / 2
        offset = (1 - count % 2).double() / 2
        for name, values in {
            "levels": count,
            "basis": basis,
            "reach": reach.float(),
            "offset": offset.float(),
            "shift": torch.tan(offset / reach).float(),
        }.items():
            self.register_buffer(name, values, persistent=False)

    @torch.jit.unused
    def forward(self, encodings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Quantise, in the buffers' precision (float32) also inside autocast.

        Args:
            encodings: (B, D, *grid) float.

        Returns:
            The quantised encodings (B, D, *grid) in [-1, 1], 0 as the loss (a scalar), and the
            codes (B, *grid), 0..K-1.
        """
        with torch.autocast(encodings.device.type, enabled=False):
            bounded = self._bound(encodings)
            rounded = bounded + (bounded.round() - bounded).detach()
            quantised = rounded / self._half_width()
            codes = self._number(bounded.detach())
            return quantised.movedim(-1, 1), quantised.new_zeros(()), codes

    def codes(self, encodings: torch.Tensor) -> torch.Tensor:
        """The codes of encodings: (B, D, *grid) -> (B, *grid), 0..K-1."""
        if not torch.jit.is_scripting():
            with torch.autocast(encodings.device.type, enabled=False):
                return self._number(self._bound(encodings.detach()))
        return self._number(self._bound(encodings.detach()))

    def embed(self, codes: torch.Tensor) -> torch.Tensor:
        """What codes stand for: (B, *grid) integers, 0..K-1 -> (B, D, *grid) float32, [-1, 1]."""
        digits = codes.long().unsqueeze(-1) // self.basis % self.levels
        half_width = self._half_width()
        # The older ONNX exporter knows no axis -1.
        return ((digits - half_width) / half_width).movedim(codes.dim(), 1)

    def _half_width(self) -> torch.Tensor:
        return self.levels // 2

    def _bound(self, encodings: torch.Tensor) -> torch.Tensor:
        """(B, D, *grid) -> (B, *grid, D), each channel within its levels' reach of 0."""
        last = encodings.to(self.reach.dtype).movedim(1, -1)
        return torch.tanh(last + self.shift) * self.reach - self.offset

    def _number(self, bounded: torch.Tensor) -> torch.Tensor:
        """(B, *grid, D) -> (B, *grid): levels are digits, the first channel's the lowest."""
        digits = bounded.nan_to_num().round().long() + self._half_width()  # NaN: a middle level
        return (digits * self.basis).sum(-1)
