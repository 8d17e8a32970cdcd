"""Structural similarity as a loss."""

from __future__ import annotations

from torch import Tensor, nn

from monai_vqbrain.metrics.ssim import similarity


class SliceSSIMLoss(nn.Module):
    """1 - the mean SSIM over whole slices, by the metric's own formula (see `ssim_map`).

    The prediction is not clipped, so that a pixel outside [0, 1] has a gradient too. Computed in
    float32, also under autocast; in float64 for images in float64.

    Args:
        stride: make the SSIM of every `stride`-th pixel in both directions. 2 costs 0.4 of 1 and
            gives almost the same gradient, the window being 11 pixels wide.

    Raises:
        ValueError: if stride is less than 1.

    Source: Wang et al., Image quality assessment: from error visibility to structural similarity,
    2004; Zhao et al., Loss functions for image restoration with neural networks, 2017.

    Example:
        >>> import torch
        >>> image = torch.rand(2, 1, 32, 32)
        >>> SliceSSIMLoss()(image, image).round(decimals=4).abs()
        tensor(0.)
    """

    def __init__(self, stride: int = 1) -> None:
        super().__init__()
        if stride < 1:
            raise ValueError(f"stride must be 1 or more, got {stride}")
        self.stride = stride

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The loss of (B, 1, W, H) against images in [0, 1]: a scalar, at least 0.

        Raises:
            ValueError: if the shapes differ or are not (B, 1, W, H).
        """
        return 1 - similarity(prediction, target, self.stride).mean()
