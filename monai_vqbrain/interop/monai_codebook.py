"""A learnt codebook, to MONAI's EMAQuantizer and from it."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from monai_vqbrain.networks.quantizer import CodebookQuantizer

MONAI = ("embedding.weight", "ema_w", "ema_cluster_size")


def to_monai(quantizer: CodebookQuantizer) -> dict[str, torch.Tensor]:
    """The state dict with which MONAI's EMAQuantizer gives the same codes.

    Counts and sums mean the same to both, so that its next training step moves the codebook as ours
    would, but redraws no code. A fresh EMAQuantizer of MONAI's blows up every code that wins
    nothing in its first step, since its counts are 0; ours begin above 0.

    Args:
        quantizer: with one group.

    Returns:
        What EMAQuantizer.load_state_dict takes; in MONAI's VQVAE it is `quantizer.quantizer`.

    Raises:
        ValueError: if it has several groups.

    Example:
        >>> from monai.networks.layers.vector_quantizer import EMAQuantizer
        >>> theirs = EMAQuantizer(spatial_dims=2, num_embeddings=512, embedding_dim=8)
        >>> theirs.load_state_dict(to_monai(CodebookQuantizer(512, 8)))
        <All keys matched successfully>
    """
    if quantizer.groups > 1:
        raise ValueError(
            f"MONAI's EMAQuantizer has one codebook, this quantizer {quantizer.groups}: "
            "only one with groups=1 can be converted"
        )
    tensors = (quantizer.codebook, quantizer.sums, quantizer.counts)
    return {name: value.clone() for name, value in zip(MONAI, tensors, strict=True)}


def from_monai(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state dict with which a CodebookQuantizer gives the codes of MONAI's EMAQuantizer.

    The sums are made anew, counts times codes, so that they agree with the codebook. In the next
    training steps codes that have won next to nothing are redrawn from the batch; the others move
    on from where they are, however large the batch is.

    Args:
        state: of an EMAQuantizer; in MONAI's VQVAE it is `quantizer.quantizer`.

    Returns:
        What CodebookQuantizer.load_state_dict takes, with one group.

    Raises:
        ValueError: if it is no such state dict.
    """
    if set(state) != set(MONAI):
        raise ValueError(
            f"state must be the state dict of an EMAQuantizer, with {', '.join(MONAI)}, "
            f"got {', '.join(state) or 'an empty one'}"
        )
    codebook, counts = state["embedding.weight"].clone(), state["ema_cluster_size"].clone()
    return {
        "codebook": codebook,
        "sums": codebook * counts[:, None],
        "counts": counts,
        "share": counts.mean(),
        "initialised": torch.tensor(True),
    }
