"""The vector quantizer: continuous encodings to codes 0..K-1 and back."""

# No postponed annotations here: TorchScript must see the buffers' types as types.

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn


class CodebookQuantizer(nn.Module):
    """A codebook learnt by exponential moving averages, with the rotation trick.

    The first batch seen in training initialises the codebook by k-means. A code that hardly any
    encoding has chosen of late is redrawn from the batch. Only a forward pass in training changes
    the codebook; `codes` and `embed` never do.

    Args:
        num_codes: K, the number of codes.
        code_dim: D, the length of a code's vector.
        decay: of the moving averages, in [0, 1).
        commitment: weight of the commitment term.
        rotation_trick: pass gradients by rotation; else straight through.

    Raises:
        ValueError: if a number is out of its range.

    Source: van den Oord et al. 2017, arXiv 1711.00937 (appendix A.1, moving averages); Fifty et al.
    2024, arXiv 2410.06424 (rotation trick).
    """

    codebook: torch.Tensor
    sums: torch.Tensor
    counts: torch.Tensor
    initialised: torch.Tensor

    def __init__(
        self,
        num_codes: int = 512,
        code_dim: int = 8,
        decay: float = 0.99,
        commitment: float = 0.25,
        rotation_trick: bool = True,
    ) -> None:
        super().__init__()
        if num_codes < 2 or code_dim < 1:
            raise ValueError(
                "num_codes must be 2 or more and code_dim 1 or more, "
                f"got {num_codes} and {code_dim}"
            )
        if not 0 <= decay < 1:
            raise ValueError(f"decay must lie in [0, 1), got {decay}")
        self.num_codes = num_codes
        self.code_dim = code_dim
        self.decay = decay
        self.commitment = commitment
        self.rotation_trick = rotation_trick
        self.redrawn = 0  # codes redrawn so far in this process
        # Counts start at 1 and sums at the codebook: starting counts at 0 divides the codes that
        # won nothing by epsilon, and the codebook explodes in its first step.
        codebook = torch.randn(num_codes, code_dim)
        self.register_buffer("codebook", codebook)
        self.register_buffer("sums", codebook.clone())
        self.register_buffer("counts", torch.ones(num_codes))
        self.register_buffer("initialised", torch.tensor(False))

    @torch.jit.unused
    def forward(self, encodings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Quantise, in float32 also inside autocast; in training mode the codebook moves.

        Args:
            encodings: (B, D, *grid) float.

        Returns:
            The quantised encodings (B, D, *grid) with the encoder's gradient, the weighted
            commitment loss (a scalar) and the codes (B, *grid), 0..K-1.
        """
        with torch.autocast(encodings.device.type, enabled=False):
            encodings = encodings.float()
            vectors = encodings.movedim(1, -1).flatten(0, -2)  # (N, D)
            if self.training and not self.initialised:
                self._initialise(vectors.detach())
            codes = nearest(vectors.detach(), self.codebook)
            quantised = F.embedding(codes, self.codebook)
            # The loss comes before the codebook moves: it must judge the codes that were used.
            loss = self.commitment * F.mse_loss(vectors, quantised)
            passed = (
                rotate(vectors, quantised)
                if self.rotation_trick
                else vectors + (quantised - vectors).detach()
            )
            if self.training:
                self._move(vectors.detach(), codes)
            shape = encodings.movedim(1, -1).shape
            return passed.view(shape).movedim(-1, 1), loss, codes.view(shape[:-1])

    def codes(self, encodings: torch.Tensor) -> torch.Tensor:
        """The nearest code of each encoding: (B, D, *grid) -> (B, *grid), 0..K-1."""
        if not torch.jit.is_scripting():
            with torch.autocast(encodings.device.type, enabled=False):
                return self._codes(encodings)
        return self._codes(encodings)

    def _codes(self, encodings: torch.Tensor) -> torch.Tensor:
        last = encodings.detach().float().movedim(1, -1)
        return nearest(last.flatten(0, -2), self.codebook).view(last.shape[:-1])

    def embed(self, codes: torch.Tensor) -> torch.Tensor:
        """The vectors of codes: (B, *grid) integers in 0..K-1 -> (B, D, *grid) float32."""
        return F.embedding(codes.long(), self.codebook).movedim(-1, 1)

    @torch.no_grad()
    @torch.jit.unused
    def _initialise(self, vectors: torch.Tensor) -> None:
        codebook = k_means(vectors, self.num_codes)
        if _distributed():
            dist.broadcast(codebook, 0)
        self.codebook.copy_(codebook)
        self.sums.copy_(codebook)
        self.counts.fill_(1)
        self.initialised.fill_(True)

    @torch.no_grad()
    @torch.jit.unused
    def _move(self, vectors: torch.Tensor, codes: torch.Tensor) -> None:
        hits = torch.bincount(codes, minlength=self.num_codes).float()
        sums = torch.zeros_like(self.sums).index_add_(0, codes, vectors)
        if _distributed():
            both = torch.cat((hits[:, None], sums), dim=1)
            dist.all_reduce(both)
            hits, sums = both[:, 0], both[:, 1:]
        self.counts.lerp_(hits, 1 - self.decay)
        self.sums.lerp_(sums, 1 - self.decay)
        self._redraw(vectors, hits.sum())
        self.codebook.copy_(self.sums / self.counts[:, None].clamp_min(1e-5))

    def _redraw(self, vectors: torch.Tensor, total: torch.Tensor) -> None:
        """Give the codes that win under 3 % of a fair share a random vector of the batch."""
        dead = (self.counts < 0.03 * total / self.num_codes).nonzero().squeeze(1)
        if len(dead) == 0:
            return
        fresh = vectors[torch.randint(len(vectors), (len(dead),)).to(vectors.device)]
        if _distributed():
            dist.broadcast(fresh, 0)
        self.sums[dead] = fresh
        self.counts[dead] = 1
        self.redrawn += len(dead)


def nearest(
    vectors: torch.Tensor, codebook: torch.Tensor, chunk_bytes: int = 4 << 20
) -> torch.Tensor:
    """Index of the nearest row of `codebook` (K, D) for each row of `vectors` (N, D): (N,) int64.

    Ties go to the lowest index. |z|^2 is left out, being the same for every code. Distances are
    made `chunk_bytes` at a time, which stay in a core's cache: no N x K tensor exists.
    """
    half_norms = 0.5 * codebook.square().sum(1)
    rows = max(1, chunk_bytes // (4 * codebook.shape[0]))
    found = [
        torch.addmm(half_norms, chunk, codebook.t(), alpha=-1.0).argmin(1)
        for chunk in vectors.split(rows)
    ]
    return torch.cat(found)


def rotate(vectors: torch.Tensor, quantised: torch.Tensor) -> torch.Tensor:
    """`quantised`, reached by rotating and scaling `vectors`, so that gradients rotate back.

    Both are (N, D); rotation and scale count as constants (arXiv 2410.06424, section 4.2).
    """
    with torch.no_grad():
        length = vectors.norm(dim=1, keepdim=True).clamp_min(1e-6)
        goal_length = quantised.norm(dim=1, keepdim=True).clamp_min(1e-6)
        start, goal = vectors / length, quantised / goal_length
        half_way = F.normalize(start + goal, dim=1, eps=1e-6)
        scale = goal_length / length
    turned = (
        vectors
        - 2 * (vectors * half_way).sum(1, keepdim=True) * half_way
        + 2 * (vectors * start).sum(1, keepdim=True) * goal
    )
    return scale * turned


def k_means(vectors: torch.Tensor, clusters: int, iterations: int = 10) -> torch.Tensor:
    """Centres (K, D) of `vectors` (N, D) by Lloyd's algorithm from randomly drawn rows.

    An empty cluster keeps its last centre. With fewer rows than clusters, rows recur.
    """
    drawn = torch.randperm(len(vectors)).repeat(-(-clusters // len(vectors)))[:clusters]
    centres = vectors[drawn.to(vectors.device)].clone()
    for _ in range(iterations):
        members = nearest(vectors, centres)
        counts = torch.bincount(members, minlength=clusters)
        sums = torch.zeros_like(centres).index_add_(0, members, vectors)
        centres = torch.where(counts[:, None] > 0, sums / counts[:, None].clamp_min(1), centres)
    return centres


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
