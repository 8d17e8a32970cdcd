"""Conversion of a learnt codebook to and from MONAI's EMAQuantizer."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from monai_vqbrain.networks.quantizer import CodebookQuantizer

MONAI = ("embedding.weight", "ema_w", "ema_cluster_size")


def to_monai(quantizer: CodebookQuantizer) -> dict[str, torch.Tensor]:
    """The state dict with which MONAI's EMAQuantizer gives the same codes.

    Counts and sums have the same meaning in both, so its next training step moves the codebook as
    ours would, but redraws no code. In a fresh EMAQuantizer of MONAI's, every code without
    encodings diverges in the first step, since its counts start at 0; ours start above 0.

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

    The sums are recomputed as counts times codes, so that they agree with the codebook. In the next
    training steps codes with almost no encodings are redrawn from the batch; the others continue
    from where they are, however large the batch is.

    Args:
        state: of an EMAQuantizer; in MONAI's VQVAE it is `quantizer.quantizer`.

    Returns:
        What CodebookQuantizer.load_state_dict takes, with one group.

    Raises:
        ValueError: if it is not the state dict of an EMAQuantizer.
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
