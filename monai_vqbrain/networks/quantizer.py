"""Quantizers: encodings to codes 0..K-1 and back; here the one that learns its codebook."""

# No postponed annotations here: TorchScript must see the buffers' types as types.

from typing import Any, Protocol, runtime_checkable

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from monai_vqbrain.networks.gradient import PassGradient
from monai_vqbrain.networks.nearest import k_means, nearest, sum_by_code
from monai_vqbrain.ranks import gather_numbers, gather_rows, rank_count, this_rank

INITIALISATIONS = ("k-means", "data")
DEAD = 0.03  # of the mean number of encodings: codes with fewer are drawn again
NEW = 0.05  # of the mean number: the initial count of a new code, so that it adapts quickly


@runtime_checkable
class Quantizer(Protocol):
    """What BrainVQVAE needs of a quantizer, for 2D and 3D grids of any size.

    Attributes:
        num_codes: K, the number of codes of a group.
        groups: G, how many codes stand for one encoding.
        code_dim: D, the channels of an encoding, all groups together.
    """

    num_codes: int
    groups: int
    code_dim: int

    def forward(self, encodings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(B, D, *grid) -> quantised (B, D, *grid), its loss (a scalar) and codes as `codes`."""

    def codes(self, encodings: torch.Tensor) -> torch.Tensor:
        """(B, D, *grid) -> (B, *grid), 0..K-1; with several groups (B, G, *grid)."""

    def embed(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes as from `codes` -> what they stand for, (B, D, *grid) float32."""


class CodebookQuantizer(nn.Module):
    """A codebook learnt by exponential moving averages.

    The first batch seen in training initialises the codebook. A code that hardly any encoding has
    chosen of late is redrawn from the batch; how many were, the buffer `redrawn` counts. Only a
    forward pass in training changes the codebook; `codes` and `embed` never do. Where
    torch.distributed runs, all ranks hold the same codebook, which is the one that a single process
    would have learnt from all of their encodings. What is random comes from PyTorch's generator;
    all ranks draw it, and that of rank 0 counts.

    Args:
        num_codes: K, the number of codes, of each group.
        code_dim: D, the channels of an encoding.
        decay: of the moving averages, in [0, 1).
        commitment: weight of the commitment term.
        rotation_trick: pass gradients by rotation instead of straight through.
        groups: G; each D/G channels have a codebook of their own (product quantization).
        initialisation: "k-means" (its centres) or "data" (rows drawn) of the first batch.

    Raises:
        ValueError: if an argument is out of its range.

    Source: van den Oord et al. 2017, arXiv 1711.00937 (appendix A.1, moving averages); Fifty et al.
    2024, arXiv 2410.06424 (rotation trick).

    Example:
        >>> quantizer = CodebookQuantizer(num_codes=512, code_dim=8, groups=2)
        >>> quantised, loss, codes = quantizer(torch.randn(4, 8, 16, 16))
        >>> codes.shape
        torch.Size([4, 2, 16, 16])
    """

    codebook: torch.Tensor  # (G K, D/G), group after group
    sums: torch.Tensor  # (G K, D/G), the moving average of the sum of the encodings won
    counts: torch.Tensor  # (G K,), that of their number
    share: torch.Tensor  # (), that of a code's fair share of them
    initialised: torch.Tensor
    redrawn: torch.Tensor
    first: torch.Tensor  # (G,), each group's first row

    def __init__(
        self,
        num_codes: int = 512,
        code_dim: int = 8,
        decay: float = 0.99,
        commitment: float = 1.0,
        rotation_trick: bool = False,
        groups: int = 1,
        initialisation: str = "k-means",
    ) -> None:
        super().__init__()
        _check(num_codes, code_dim, decay, groups, initialisation)
        self.num_codes = num_codes
        self.code_dim = code_dim
        self.decay = decay
        self.commitment = commitment
        self.rotation_trick = rotation_trick
        self.groups = groups
        self.initialisation = initialisation
        codebook = torch.randn(groups * num_codes, code_dim // groups)
        self.register_buffer("codebook", codebook)
        self.register_buffer("sums", codebook.clone())
        self.register_buffer("counts", torch.ones(len(codebook)))
        self.register_buffer("share", torch.tensor(1.0))
        self.register_buffer("initialised", torch.tensor(False))
        self.register_buffer("redrawn", torch.tensor(0), persistent=False)
        self.register_buffer("first", num_codes * torch.arange(groups), persistent=False)
        self._begun = False  # spares a GPU a look at `initialised` in every step

    @torch.jit.unused
    def forward(self, encodings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Quantise, in the codebook's precision; in training the codebook moves afterwards.

        Autocast changes nothing here.

        Args:
            encodings: (B, D, *grid) float.

        Returns:
            The quantised encodings (B, D, *grid) with the encoder's gradient, the weighted
            commitment loss (a scalar) and the codes (B, *grid) or (B, G, *grid), 0..K-1.
        """
        with torch.autocast(encodings.device.type, enabled=False):
            encodings = encodings.to(self.codebook.dtype)
            quantised, loss, codes = self._quantise(encodings.detach())
            groups = self.groups if self.rotation_trick else 0
            passed = PassGradient.apply(encodings, quantised, loss, self.commitment, groups)
            return *passed, codes

    def codes(self, encodings: torch.Tensor) -> torch.Tensor:
        """The nearest codes: (B, D, *grid) -> (B, *grid) or (B, G, *grid), 0..K-1."""
        if not torch.jit.is_scripting():
            with torch.autocast(encodings.device.type, enabled=False):
                return self._codes(encodings)
        return self._codes(encodings)

    def embed(self, codes: torch.Tensor) -> torch.Tensor:
        """The vectors of codes: (B, *grid) or (B, G, *grid) integers -> (B, D, *grid) float32.

        Raises:
            ValueError: on a CPU, if one of several groups has a code beyond 0..K-1.
        """
        last = codes.long().unsqueeze(-1)
        if self.groups > 1:
            last = codes.long().movedim(1, codes.dim() - 1)
            if not torch.jit.is_scripting():
                self._check_codes(last)
        found = F.embedding(last + self.first, self.codebook).flatten(-2)
        return found.movedim(found.dim() - 1, 1)  # the older ONNX exporter knows no axis -1

    @torch.jit.unused
    def _check_codes(self, codes: torch.Tensor) -> None:
        """Refuse what would be the next group's code, where a look costs nothing: on a CPU."""
        if codes.device.type != "cpu" or torch.compiler.is_compiling() or torch.jit.is_tracing():
            return
        if ((codes < 0) | (codes >= self.num_codes)).any():
            low, high = int(codes.min()), int(codes.max())
            raise ValueError(
                f"codes of each group must lie in 0..{self.num_codes - 1}, got {low} to {high}"
            )

    @torch.no_grad()
    @torch.jit.unused
    def _quantise(self, encodings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What forward returns, without gradients."""
        last = self._channels_last(encodings)
        vectors = last.flatten(1, -2)  # (G, N, D/G)
        if self.training and not self._begun:
            self._begin(vectors)
        codes = self._nearest(vectors)  # (G, N)
        rows = (codes + self.first[:, None]).flatten()
        found = F.embedding(rows, self.codebook)  # (G N, D/G)
        # The loss comes before the codebook moves: it must judge the codes that were used.
        loss = self.commitment * F.mse_loss(vectors.flatten(0, 1), found)
        if self.training:
            self._move(vectors, rows)
        quantised = found.view(last.shape).movedim([1, 0, -1], [0, 1, 2]).flatten(1, 2)
        return quantised, loss, self._on_grid(codes, last)

    def _codes(self, encodings: torch.Tensor) -> torch.Tensor:
        last = self._channels_last(encodings.detach())
        return self._on_grid(self._nearest(last.flatten(1, -2)), last)

    def _channels_last(self, encodings: torch.Tensor) -> torch.Tensor:
        """(B, D, *grid) -> (G, B, *grid, D/G), in the codebook's precision."""
        encodings = encodings.to(self.codebook.dtype)
        groups = encodings.unflatten(1, [self.groups, self.code_dim // self.groups])
        return groups.movedim([1, 2], [0, -1])

    def _nearest(self, vectors: torch.Tensor) -> torch.Tensor:
        """(G, N, D/G) -> (G, N), 0..K-1."""
        books = self.codebook.view(self.groups, self.num_codes, -1)
        return torch.stack([nearest(vectors[g], books[g]) for g in range(self.groups)])

    def _on_grid(self, codes: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        codes = codes.view(last.shape[:-1]).movedim(0, 1)
        return codes.squeeze(1) if self.groups == 1 else codes

    @torch.jit.unused
    def _begin(self, vectors: torch.Tensor) -> None:
        """Take the codebook from all ranks' vectors, if there is none yet."""
        self._begun = True
        if self.initialised:
            return
        vectors = gather_rows(vectors.movedim(1, 0)).movedim(0, 1)
        moves = 10 if self.initialisation == "k-means" else 0
        # Every rank computes it, so that their generators stay equal.
        self.codebook.copy_(torch.cat([k_means(v, self.num_codes, moves) for v in vectors]))
        if rank_count() > 1:
            dist.broadcast(self.codebook, 0)
        self.counts.fill_(NEW * vectors.shape[1] / self.num_codes)
        self.share.fill_(vectors.shape[1] / self.num_codes)
        self.sums.copy_(self.codebook * self.counts[:, None])
        self.initialised.fill_(True)

    @torch.jit.unused
    def _move(self, vectors: torch.Tensor, rows: torch.Tensor) -> None:
        """Follow the encodings that each code won, in all ranks, and redraw dead codes.

        Every rank sends the same messages in every step, so none waits for one that does not come.
        """
        hits, sums = self._seen(vectors, rows)
        drawn = self._draw(vectors)
        self.counts.lerp_(hits, 1 - self.decay)
        self.sums.lerp_(sums, 1 - self.decay)
        self.share.lerp_(hits.mean(), 1 - self.decay)  # no jump when one batch is larger
        dead = self.counts < DEAD * self.share
        self.counts.copy_(torch.where(dead, NEW * self.share, self.counts))
        self.sums.copy_(torch.where(dead[:, None], NEW * self.share * drawn, self.sums))
        self.codebook.copy_(self.sums / self.counts[:, None].clamp_min(1e-5))
        self.redrawn += dead.sum()

    def _seen(self, vectors: torch.Tensor, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Of every code: how many vectors it won in all ranks, and their sum."""
        ones = torch.ones_like(rows, dtype=self.counts.dtype)
        hits = torch.zeros_like(self.counts).index_add_(0, rows, ones)  # exact in any order
        sums = sum_by_code(vectors.flatten(0, 1), rows, len(self.codebook))
        if rank_count() == 1:
            return hits, sums
        message = torch.cat((hits[:, None], sums), dim=1)
        dist.all_reduce(message)
        return message[:, 0], message[:, 1:]

    def _draw(self, vectors: torch.Tensor) -> torch.Tensor:
        """A random vector of its group, of any rank, for each code: (G, N, D/G) -> (G K, D/G)."""
        counts = gather_numbers(vectors.shape[1], vectors.device)
        shape = (len(vectors), self.num_codes)
        rows = torch.randint(sum(counts), shape, device=vectors.device)
        if len(counts) == 1:
            return torch.cat([v[row] for v, row in zip(vectors, rows, strict=True)])
        dist.broadcast(rows, 0)
        rows -= sum(counts[: this_rank()])
        own = (rows >= 0) & (rows < vectors.shape[1])
        found = [v[row] for v, row in zip(vectors, torch.where(own, rows, 0), strict=True)]
        drawn = torch.where(own.flatten()[:, None], torch.cat(found), 0)
        dist.all_reduce(drawn)  # one rank has the vector, and all others have 0
        return drawn

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._begun = False
        super()._load_from_state_dict(*args, **kwargs)


def _check(num_codes: int, code_dim: int, decay: float, groups: int, initialisation: str) -> None:
    if num_codes < 2 or code_dim < 1:
        raise ValueError(
            f"num_codes must be 2 or more and code_dim 1 or more, got {num_codes} and {code_dim}"
        )
    if not 0 <= decay < 1:
        raise ValueError(f"decay must lie in [0, 1), got {decay}")
    if groups < 1 or code_dim % groups:
        raise ValueError(f"groups must divide code_dim, got {groups} groups of {code_dim} channels")
    if initialisation not in INITIALISATIONS:
        raise ValueError(f"initialisation must be one of {INITIALISATIONS}, got {initialisation!r}")
