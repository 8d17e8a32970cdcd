"""Exact sampling from MONAI's transformer with cached keys and values, one token per step."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from monai.inferers import VQVAETransformerInferer
from monai.networks.nets import DecoderOnlyTransformer
from monai.networks.utils import eval_mode
from torch import Tensor, nn

from monai_vqbrain.inferers.gelu import ROOT, root_gelu
from monai_vqbrain.progress import progress

Weights = tuple[Tensor, Tensor]  # of a Linear or LayerNorm, see _weights


class CachedTransformerInferer(VQVAETransformerInferer):
    """MONAI's VQVAETransformerInferer, whose `sample` computes every position once.

    The same arguments, draws from torch's global generator and weights, so that a seed gives the
    codes that MONAI's own gives (in float64; in float32 the order of sums may occasionally change
    one). Everything else is inherited.

    A sequence longer than the transformer's `max_seq_len` is sampled as MONAI samples it, and as
    slowly.

    Source:
        Shazeer, "Fast Transformer Decoding" (2019), section 2.4: keys and values are kept.

    Example:
        >>> from monai.networks.nets import VQVAE
        >>> from monai.utils.ordering import Ordering
        >>> vqvae = VQVAE(2, 1, 1, (8,), 1, (8,), ((2, 4, 1, 1),), ((2, 4, 1, 1, 0),), 16, 4)
        >>> transformer = DecoderOnlyTransformer(17, 24, 16, 2, 2)
        >>> ordering = Ordering("raster_scan", 2, (1, 4, 6))
        >>> start, inferer = torch.full((3, 1), 16), CachedTransformerInferer()
        >>> inferer.sample((4, 6), start, vqvae, transformer, ordering, verbose=False).shape
        torch.Size([3, 1, 8, 12])
    """

    @torch.no_grad()
    def sample(  # noqa: PLR0913, PLR0917  # MONAI's signature
        self,
        latent_spatial_dim: tuple[int, int, int] | tuple[int, int],
        starting_tokens: Tensor,
        vqvae_model: Any,
        transformer_model: DecoderOnlyTransformer,
        ordering: Any,
        conditioning: Tensor | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        verbose: bool = True,
    ) -> Tensor:
        """Draw a batch of code grids and decode them.

        Args:
            latent_spatial_dim: (h, w) or (h, w, d) of the code grid.
            starting_tokens: (B, 1), all `vqvae_model.num_embeddings`; codes may follow, in order.
            vqvae_model: decodes; put in evaluation mode meanwhile.
            transformer_model: the prior; put in evaluation mode meanwhile.
            ordering: MONAI's Ordering of that grid.
            conditioning: (B, n, C) or (1, n, C), where the transformer has cross-attention.
            temperature: above 0; divides the logits.
            top_k: draw from the k likeliest tokens alone; at least 1.
            verbose: show a progress bar, one step per token.

        Returns:
            (B, ...) images, as `vqvae_model.decode_samples` makes them.

        Raises:
            ValueError: if an argument is out of its range, or as CachedTransformer says.
        """
        if not temperature > 0:
            raise ValueError(f"temperature is {temperature}: it must be above 0")
        if top_k is not None and top_k < 1:
            raise ValueError(f"top_k is {top_k}: it must be at least 1, or None for all tokens")
        batch_size, given = starting_tokens.shape
        _check(transformer_model, batch_size, conditioning)
        length = given + math.prod(latent_spatial_dim) - 1  # tokens read: all but the last drawn
        with eval_mode(transformer_model, vqvae_model):
            if length > transformer_model.max_seq_len:
                # MONAI then slides a window. Each step gives every token in it another position,
                # and so other keys and values: nothing kept would be right. MONAI trains on such
                # sequences too, so they are sampled its way rather than refused.
                return super().sample(
                    latent_spatial_dim, starting_tokens, vqvae_model, transformer_model, ordering,
                    conditioning, temperature, top_k, verbose,
                )  # fmt: skip
            tokens = starting_tokens.new_empty(batch_size, length + 1, dtype=torch.long)
            tokens[:, :given] = starting_tokens
            walk = CachedTransformer(transformer_model, batch_size, length, conditioning)
            for place in (
                progress(range(length), "sample", unit="token") if verbose else range(length)
            ):
                logits = walk.logits(tokens[:, place])
                if place + 1 >= given:
                    probabilities = _probabilities(logits, temperature, top_k)
                    probabilities[:, vqvae_model.num_embeddings] = 0  # it only starts
                    tokens[:, place + 1] = probabilities.multinomial(1)[:, 0]
            codes = tokens[:, 1:][:, ordering.get_revert_sequence_ordering()]
            images: Tensor = vqvae_model.decode_samples(codes.view(batch_size, *latent_spatial_dim))
        return images


class CachedTransformer:
    """A DecoderOnlyTransformer's logits token by token, from the keys and values of those before.

    Equal to the network's forward in evaluation mode (there is no dropout here) up to the order of
    sums: to 1e-5 in float32. Gradients do not pass. Keeps 2 * layers * B * length * C numbers.

    Args:
        network: the transformer; its weights are copied here, once.
        batch_size: B, how many sequences are walked at once.
        length: how many tokens are walked at most.
        context: (B, n, C) or (1, n, C) conditioning; its keys and values are made here, once. A
            network without cross-attention does not look at it, as in MONAI.

    Raises:
        ValueError: if the network is not as MONAI makes it; if `length` is above its max_seq_len;
            if `context` does not fit the batch, or is missing where there is cross-attention.

    Example:
        >>> network = DecoderOnlyTransformer(17, 24, 16, 2, 2)
        >>> walk = CachedTransformer(network, batch_size=3, length=24)
        >>> walk.logits(torch.full((3,), 16)).shape
        torch.Size([3, 17])
    """

    @torch.inference_mode()
    def __init__(
        self,
        network: DecoderOnlyTransformer,
        batch_size: int,
        length: int,
        context: Tensor | None = None,
    ) -> None:
        _check(network, batch_size, context)
        if length > network.max_seq_len:
            raise ValueError(f"length is {length}: max_seq_len is {network.max_seq_len}")
        self.tokens = network.token_embeddings.weight
        self.positions = network.position_embeddings.embedding.weight
        self.layers = [_Layer(block, batch_size, length, context) for block in network.blocks]
        self.head = _weights(network.to_logits)
        self.place = 0

    @torch.inference_mode()
    def logits(self, tokens: Tensor) -> Tensor:
        """The (B, num_tokens) logits of the next tokens, given these (B,) and all before."""
        x = F.embedding(tokens, self.tokens) + self.positions[self.place]  # (B, C)
        for layer in self.layers:
            x = layer.step(x, self.place)
        self.place += 1
        return _linear(x, self.head)


class _Layer:
    """A block's weights, and the keys and values of the tokens read.

    The weights lie here as plain attributes, since to look them up in modules, and to call these,
    would be a third of the time of a step at batch 1.
    """

    def __init__(self, block: Any, batch_size: int, length: int, context: Tensor | None) -> None:
        attention, mlp = block.attn, block.mlp
        self.norm, self.norm_mlp = _weights(block.norm1), _weights(block.norm2)
        self.qkv = _joined(attention)
        self.out = _weights(attention.out_proj) if attention.include_fc else None
        (into, bias), (out, out_bias) = _weights(mlp.linear1), _weights(mlp.linear2)
        self.mlp_in, self.mlp_out = (into / ROOT, bias / ROOT), (out / ROOT, out_bias)
        heads, width = attention.num_heads, attention.dim_head
        self.split = (batch_size, 3, heads, 1, width)
        self.kept = self.qkv.new_empty(2, batch_size, heads, length, width)  # keys and values
        self.cross = None
        if block.with_cross_attention and context is not None:
            self.cross = _Cross(block, context.expand(batch_size, -1, -1))

    def step(self, x: Tensor, place: int) -> Tensor:
        """The block's output for the token at `place`, (B, C) to the same."""
        seen = self._attend(_normed(x, self.norm), place)
        x = x + (seen if self.out is None else _linear(seen, self.out))
        if self.cross is not None:
            x = self.cross.step(x)
        hidden = _linear(_normed(x, self.norm_mlp), self.mlp_in)
        return x + _linear(root_gelu(hidden, torch.empty_like(hidden)), self.mlp_out)

    def _attend(self, x: Tensor, place: int) -> Tensor:
        three = torch.mm(x, self.qkv).view(self.split).transpose(0, 1)  # (3, B, heads, 1, d)
        self.kept[:, :, :, place : place + 1] = three[1:]
        keys, values = self.kept[:, :, :, : place + 1].unbind()
        return F.scaled_dot_product_attention(three[0], keys, values).flatten(1)


class _Cross:
    """A block's cross-attention, with the keys and values of a (B, n, C) conditioning."""

    def __init__(self, block: Any, context: Tensor) -> None:
        cross = block.cross_attn
        self.norm, self.out = _weights(block.norm_cross_attn), _weights(cross.out_proj)
        self.query = _weights(cross.to_q)[0]
        split = (len(context), -1, cross.num_heads, cross.head_dim)
        self.keys = cross.to_k(context).view(split).transpose(1, 2).contiguous()
        self.values = cross.to_v(context).view(split).transpose(1, 2).contiguous()
        self.split = (len(context), cross.num_heads, 1, cross.head_dim)

    def step(self, x: Tensor) -> Tensor:
        """Add what is seen of the conditioning, (B, C) to the same."""
        query = torch.mm(_normed(x, self.norm), self.query).view(self.split)
        seen = F.scaled_dot_product_attention(query, self.keys, self.values).flatten(1)
        return x + _linear(seen, self.out)


def _probabilities(logits: Tensor, temperature: float, top_k: int | None) -> Tensor:
    """Those that MONAI draws from, (B, num_tokens); of equal logits all stay, beyond k too."""
    logits = logits / temperature
    if top_k is not None:
        least = logits.topk(min(top_k, logits.shape[-1])).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    return logits.softmax(dim=-1)


def _normed(x: Tensor, weights: Weights) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], *weights)


def _linear(x: Tensor, weights: Weights) -> Tensor:
    matrix, bias = weights
    return torch.addmm(bias, x, matrix)


def _weights(module: Any) -> Weights:
    """A LayerNorm's weight and bias; a Linear's likewise, as an (in, out) matrix.

    A few rows times a matrix that lies like this take a quarter less time.
    """
    if type(module) not in (nn.Linear, nn.LayerNorm):  # an adapter does more with its weights
        raise ValueError(
            f"the transformer holds a {type(module).__name__} in the place of a Linear or "
            "LayerNorm: merge it into the weights first, or use VQVAETransformerInferer"
        )
    return module.weight.t().contiguous(), module.bias


def _joined(attention: Any) -> Tensor:
    """The (C, 3 * C) matrix of queries, keys and values, none of which has a bias."""
    if attention.use_combined_linear:
        return _weights(attention.qkv)[0]
    parts = (attention.to_q, attention.to_k, attention.to_v)
    return torch.cat([_weights(part)[0] for part in parts], dim=1)


def _check(network: DecoderOnlyTransformer, batch_size: int, context: Tensor | None) -> None:
    """Refuse what would be walked wrongly."""
    if getattr(type(network), "forward", None) is not DecoderOnlyTransformer.forward:
        raise ValueError(
            f"the transformer is a {type(network).__name__}: keys and values are kept for MONAI's "
            "DecoderOnlyTransformer alone; unwrap it, or use VQVAETransformerInferer"
        )
    # Without conditioning MONAI's cross-attention looks at the tokens themselves, later ones too,
    # so that each new token changes all features before it: these cannot be kept.
    shape = None if context is None else tuple(context.shape)
    fits = shape is not None and len(shape) == 3 and shape[0] in (1, batch_size)
    if network.with_cross_attention and not fits:
        raise ValueError(
            f"conditioning is {shape}: this transformer's cross-attention needs a (B, n, C) "
            f"tensor, B being {batch_size} as in the starting tokens, or 1"
        )
