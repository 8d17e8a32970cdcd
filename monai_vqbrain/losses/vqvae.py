"""What a VQ-VAE is trained to make small: weighted terms, and the quantizer's own loss."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


class VQVAELoss(nn.Module):
    """A weighted sum of reconstruction terms, plus the quantizer's loss.

    After a call, `parts` holds each term's value before weighting, and the quantizer's loss, all
    without gradients.

    Args:
        terms: name -> loss of (prediction, target) that gives a scalar; L1 alone by default.
        weights: name -> weight, 1 where a term has none here; a term of weight 0 is not computed.

    Raises:
        ValueError: if there is no term, or a weight is negative or names none of them.

    Example:
        >>> import torch
        >>> loss = VQVAELoss({"l1": nn.L1Loss(), "l2": nn.MSELoss()}, {"l2": 0.5})
        >>> image = torch.zeros(1, 1, 8, 8)
        >>> loss((image + 1, torch.tensor(0.25)), image)
        tensor(1.7500)
    """

    def __init__(
        self,
        terms: Mapping[str, nn.Module] | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        terms = {"l1": nn.L1Loss()} if terms is None else terms
        if not terms:
            raise ValueError("terms must name at least one loss, such as l1, got none")
        for name, weight in (weights or {}).items():
            if name not in terms:
                raise ValueError(f"weights must name terms, {', '.join(terms)}, not {name}")
            if not weight >= 0:
                raise ValueError(f"the weight of {name} must be 0 or more, got {weight}")
        self.terms = nn.ModuleDict(terms)
        self.weights = dict.fromkeys(terms, 1.0) | dict(weights or {})
        self.parts: dict[str, Tensor] = {}

    def forward(self, output: tuple[Tensor, Tensor], target: Tensor) -> Tensor:
        """The loss of (reconstruction (B, 1, *size), quantizer loss) against the images."""
        reconstruction, quantizer_loss = output
        self.parts = {"quantizer": quantizer_loss.detach()}
        total = quantizer_loss
        for name, term in self.terms.items():
            if self.weights[name]:
                value = term(reconstruction, target)
                self.parts[name] = value.detach()
                total = total + self.weights[name] * value
        return total
