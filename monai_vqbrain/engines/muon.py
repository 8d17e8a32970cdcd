"""Muon for the kernels of hidden layers, AdamW for all other parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

STEPS = 5  # of the Newton-Schulz iteration
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class MuonAdamW(torch.optim.AdamW):
    """An optimizer that orthogonalises the updates of kernels.

    Kernels are taken as matrices, (out, all other dimensions). A kernel moves along its
    momentum with all singular values brought near 1, so that rare directions of the gradient are
    learnt as quickly as frequent ones. Biases, embeddings, positions and the last layer follow
    AdamW, as the method's author advises.

    It computes in the kernels' own precision: `torch.optim.Muon` takes matrices alone and computes
    in bfloat16, which processors without it emulate at a tenth of the speed.

    Args:
        parameters: all parameters of a network.
        kernels: those that follow Muon, of two or more dimensions each.
        lr: learning rate of AdamW.
        kernel_lr: learning rate of Muon.
        momentum: of Muon, in [0, 1).
        kernel_decay: weight decay of Muon, of which the part `kernel_lr * kernel_decay` is taken
            per step.
        kwargs: further arguments of AdamW.

    Raises:
        ValueError: if a kernel has fewer than two dimensions or is not among the parameters.

    Source:
        Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024),
        https://kellerjordan.github.io/posts/muon: update, coefficients, scale.

    Example:
        >>> layer = torch.nn.Conv2d(1, 4, 3)
        >>> optimizer = MuonAdamW(layer.parameters(), [layer.weight], lr=0.004)
        >>> layer(torch.ones(1, 1, 5, 5)).sum().backward()
        >>> optimizer.step()
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        kernels: Iterable[Tensor],
        lr: float = 1e-3,
        kernel_lr: float = 0.02,
        *,
        momentum: float = 0.95,
        kernel_decay: float = 0.0,
        **kwargs: Any,
    ) -> None:
        every, chosen = list(parameters), list(kernels)
        places = {id(parameter) for parameter in every}
        if any(kernel.ndim < 2 or id(kernel) not in places for kernel in chosen):
            raise ValueError("kernels must have two dimensions or more and be among the parameters")
        places = {id(kernel) for kernel in chosen}
        groups = [
            {"params": [p for p in every if id(p) not in places], "muon": False},
            {"params": chosen, "muon": True, "lr": kernel_lr},
        ]
        super().__init__([group for group in groups if group["params"]], lr=lr, **kwargs)
        self.momentum, self.kernel_decay = momentum, kernel_decay

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step, which removes the gradients of kernels.

        Args:
            closure: computes the loss again, with its gradients; what it gives is returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for kernel in group["params"] if group["muon"] else ():
                if kernel.grad is not None:
                    self._step_kernel(kernel, kernel.grad, group["lr"])
                    kernel.grad = None  # AdamW passes over parameters without one
        super().step()
        return loss

    @torch.no_grad()
    def _step_kernel(self, kernel: Tensor, gradient: Tensor, rate: float) -> None:
        state = self.state[kernel]
        if not state:  # named as AdamW names them, which reads all states when they are restored
            state["step"] = torch.zeros(())
            state["exp_avg"] = torch.zeros_like(kernel)
        state["step"] += 1
        mean = state["exp_avg"].lerp_(gradient, 1 - self.momentum)
        update = gradient.lerp(mean, self.momentum).flatten(1)  # Nesterov's
        rows, columns = update.shape
        kernel.mul_(1 - rate * self.kernel_decay)
        scale = max(1.0, rows / columns) ** 0.5
        kernel.add_(orthogonal(update).view_as(kernel), alpha=-rate * scale)


def orthogonal(matrix: Tensor) -> Tensor:
    """A matrix with its singular vectors and with singular values near 1 (0.7 to 1.2).

    The Newton-Schulz iteration X <- (a + b XX' + c (XX')^2) X. All its factors are polynomials of
    one Gram matrix, so they are multiplied together first and by the matrix once.

    Args:
        matrix: (M, N).

    Returns:
        (M, N); 0 for 0.

    Example:
        >>> torch.linalg.svdvals(orthogonal(torch.tensor([[3.0, 0.0], [0.0, 1.0]]))).min() > 0.6
        tensor(True)
    """
    tall = matrix.shape[0] > matrix.shape[1]
    wide = matrix.T if tall else matrix
    wide = wide / wide.norm().clamp(min=1e-7)  # no singular value above 1
    a, b, c = COEFFICIENTS
    gram = wide @ wide.T
    product = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    one = product
    for _ in range(STEPS):
        factor = torch.addmm(a * one + b * gram, gram, gram, alpha=c)
        product = factor @ product
        gram = factor @ gram @ factor
    wide = product @ wide
    return wide.T if tall else wide
