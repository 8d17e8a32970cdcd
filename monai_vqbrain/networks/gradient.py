"""How gradients pass a quantizer: turned with the encodings, or straight through."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

TINY = 1e-6


class PassGradient(torch.autograd.Function):
    """Quantised encodings and their loss as they are, with the gradients that they lack.

    That of the quantised reaches the encodings in one of two ways. Straight through: unchanged. By
    the rotation trick: turned and scaled by the map that takes an encoding z to its code q and
    counts as a constant, grad_z = s (I - 2 h h^T + 2 a b^T) grad_q, where a and b are the
    directions of z and q, h that of a + b, and s = |q| / |z|. That of the loss, commitment x
    mean((z - q)^2), reaches the encodings alone.

    Source: van den Oord et al. 2017, arXiv 1711.00937 (equation 3); Fifty et al. 2024, arXiv
    2410.06424 (section 4.2).
    """

    @staticmethod
    def forward(
        ctx: Any,
        encodings: torch.Tensor,
        quantised: torch.Tensor,
        loss: torch.Tensor,
        commitment: float,
        rotated_groups: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Pass on (B, D, *grid) `quantised` and the scalar `loss`.

        `rotated_groups` is how many vectors lie in the D channels of an encoding; 0 for straight
        through.
        """
        ctx.save_for_backward(encodings, quantised)
        ctx.commitment, ctx.rotated_groups = commitment, rotated_groups
        return quantised, loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor, grad_loss: torch.Tensor) -> tuple[Any, ...]:
        """The gradient of the encodings; nothing else has one."""
        encodings, quantised = ctx.saved_tensors
        pull = grad_loss * (2 * ctx.commitment / encodings.numel())
        if ctx.rotated_groups == 0:
            back = torch.addcmul(grad, encodings, pull).addcmul_(quantised, -pull)
            return back, None, None, None, None
        split = (1, (ctx.rotated_groups, -1))
        z, q, grad = (x.unflatten(*split) for x in (encodings, quantised, grad))
        scale, on_z, on_q = _rotation(z, q, grad)
        back = (scale * grad).addcmul_(z, on_z + pull).addcmul_(q, on_q - pull)
        return back.flatten(1, 2), None, None, None, None


def _rotation(
    z: torch.Tensor, q: torch.Tensor, grad: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What multiplies grad, z and q in the gradient turned back: (B, G, D/G, *grid), 1 for D/G.

    With c = a.b, |a + b|^2 is 2 + 2c, so 2 h h^T grad = (a + b) (a + b).grad / (1 + c): five
    products of vectors are all that the rotation needs.
    """
    length = _dot(z, z).sqrt().clamp_min(TINY)
    goal_length = _dot(q, q).sqrt().clamp_min(TINY)
    cosine = _dot(z, q) / (length * goal_length)
    along_z = _dot(z, grad) / length
    along_q = _dot(q, grad) / goal_length
    reflected = (along_z + along_q) / (1 + cosine).clamp_min(TINY)
    scale = goal_length / length
    on_z = scale * (2 * along_q - reflected) / length
    return scale, on_z, -scale * reflected / goal_length


def _dot(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (x * y).sum(2, keepdim=True)
