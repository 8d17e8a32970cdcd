"""A network's forward pass in the precision that its device is fastest in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import SimpleInferer


class MixedPrecisionInferer(SimpleInferer):
    """MONAI's SimpleInferer under bfloat16 autocast, where that pays; outputs are float32.

    bfloat16 has float32's range, so training needs no gradient scaling, and it serves CPUs as well
    (MONAI's `amp` is for CUDA only). Losses and metrics outside see float32.

    Args:
        amp: True, False, or "auto" for what `computes_in_bfloat16` says of the inputs' device.

    Raises:
        ValueError: for another value of amp.

    Example:
        >>> layer = torch.nn.Linear(4, 4)
        >>> MixedPrecisionInferer(amp=True)(torch.rand(2, 4), layer).dtype
        torch.float32
    """

    def __init__(self, amp: bool | str = "auto") -> None:
        super().__init__()
        if amp not in (True, False, "auto"):
            raise ValueError(f"amp must be true, false or auto, got {amp!r}")
        self.amp = amp

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """The network's output; tensors in it, also in tuples and lists, are float32."""
        device = inputs.device
        enabled = computes_in_bfloat16(device) if self.amp == "auto" else bool(self.amp)
        if not enabled:
            return network(inputs, *args, **kwargs)
        with torch.autocast(device.type, torch.bfloat16):
            output = network(inputs, *args, **kwargs)
        return _float32(output)


def computes_in_bfloat16(device: torch.device) -> bool:
    """Whether a device has bfloat16 arithmetic of its own, faster than its float32.

    CUDA devices from Ampere on have it, and x86 CPUs with AVX512-BF16 or AMX.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):  # newer PyTorch
        features = torch.cpu.get_capabilities()
        return bool(features.get("avx512_bf16") or features.get("amx_bf16"))
    return False


def _float32(output: Any) -> Any:
    if isinstance(output, torch.Tensor):
        return output.float() if output.dtype == torch.bfloat16 else output
    if isinstance(output, (tuple, list)):
        return type(output)(_float32(part) for part in output)
    return output
