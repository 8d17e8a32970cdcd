"""GELU for a few rows at a time."""

import math

import torch
from torch import Tensor

ROOT = math.sqrt(2)


def root_gelu(x: Tensor, out: Tensor) -> Tensor:
    """sqrt(2) * gelu(sqrt(2) * x) into `out`, by the error function: x + x erf(x).

    The weights before and after it take the factors: both are divided by ROOT. torch's own gelu
    would take eight times as long for a single row on processors where it goes through oneDNN.
    """
    torch.erf(x, out=out)
    return torch.addcmul(x, x, out, out=out)
