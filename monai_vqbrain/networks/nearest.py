"""The nearest code of each vector, exactly, and a codebook to begin with: k-means."""

# No postponed annotations here: TorchScript must see the types as types.

import torch
import torch.nn.functional as F

BLOCK = 64  # codes whose smallest score is found at once
IMAGES = 16  # from this batch size on PyTorch leaves a 1x1 convolution to oneDNN


def nearest(vectors: torch.Tensor, codebook: torch.Tensor) -> torch.Tensor:
    """Index of the nearest row of the codebook for each vector; ties go to the lowest.

    What is compared is 0.5 |e|^2 - z.e: |z|^2 is the same for every code. These scores are made in
    chunks of rows, so that no N x K tensor exists. (An exported graph makes them at once, because
    its number of chunks would have to be fixed.)

    Args:
        vectors: (N, D) float32.
        codebook: (K, D) float32.

    Returns:
        (N,) int64, 0..K-1.

    Example:
        >>> codebook = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
        >>> nearest(torch.tensor([[0.9, 0.6], [0.2, 0.1]]), codebook)
        tensor([1, 0])
    """
    half_norms = 0.5 * codebook.square().sum(1)
    on_cpu = vectors.device.type == "cpu"
    chunk_bytes = (4 if on_cpu else 64) << 20  # stays in a core's cache, or keeps a GPU busy
    rows = max(16, chunk_bytes // (4 * max(64, len(codebook))) // 16 * 16)
    if not torch.jit.is_scripting():
        if torch.compiler.is_exporting() or torch.jit.is_tracing():
            return torch.addmm(half_norms, vectors, codebook.t(), alpha=-1.0).argmin(1)
        if on_cpu and not torch.compiler.is_compiling():
            return _nearest_by_blocks(vectors, codebook, half_norms, rows)
    found = [
        torch.addmm(half_norms, chunk, codebook.t(), alpha=-1.0).argmin(1)
        for chunk in vectors.split(rows)
    ]
    return torch.cat(found)


@torch.jit.unused
def _nearest_by_blocks(
    vectors: torch.Tensor, codebook: torch.Tensor, half_norms: torch.Tensor, rows: int
) -> torch.Tensor:
    """Which block of codes has the smallest score, then which code of that block.

    PyTorch finds a row's smallest value several times faster than its place.
    """
    # glibc would give the memory of each chunk's scores back to the system and have fresh pages
    # faulted in for the next, at the price of the search itself. Having freed one big block, which
    # is never written to, it keeps them.
    torch.UntypedStorage(30 << 20)
    missing = -len(codebook) % BLOCK
    weights = F.pad(-codebook, (0, 0, 0, missing))
    half_norms = F.pad(half_norms, (0, missing), value=torch.inf)
    found = [_block_search(chunk, weights, half_norms) for chunk in vectors.split(rows)]
    return torch.cat(found)


def _block_search(
    chunk: torch.Tensor, weights: torch.Tensor, half_norms: torch.Tensor
) -> torch.Tensor:
    scores = _scores(chunk, weights, half_norms).view(-1, BLOCK)
    blocks = len(weights) // BLOCK
    block = scores.amin(1).view(-1, blocks).min(1).indices
    rows = block + torch.arange(0, len(scores), blocks)
    place = scores.index_select(0, rows).min(1).indices
    return place.add_(block, alpha=BLOCK)


def _scores(chunk: torch.Tensor, weights: torch.Tensor, half_norms: torch.Tensor) -> torch.Tensor:
    """half_norms + chunk @ weights.t(), contiguous.

    A 1x1 convolution is the same product. PyTorch gives it to oneDNN, whose kernel is up to twice
    as fast as the one that MKL has for addmm on processors of other makers than its own.
    """
    rows, dim = chunk.shape
    if rows % IMAGES:
        return torch.addmm(half_norms, chunk, weights.t())
    images = chunk.reshape(IMAGES, rows // IMAGES, 1, dim).permute(0, 3, 1, 2)  # channels last
    scores = F.conv2d(images, weights[:, :, None, None], half_norms)
    return scores.permute(0, 2, 3, 1).reshape(rows, -1)


def k_means(vectors: torch.Tensor, clusters: int, iterations: int = 10) -> torch.Tensor:
    """Centres of clusters, by Lloyd's algorithm from rows that PyTorch's generator draws.

    An empty cluster keeps its last centre.

    Args:
        vectors: (N, D) float32.
        clusters: K.
        iterations: how often the centres move; 0 leaves them at the rows drawn.

    Returns:
        (K, D). With fewer rows than clusters, rows recur.
    """
    drawn = torch.randperm(len(vectors)).repeat(-(-clusters // len(vectors)))[:clusters]
    centres = vectors[drawn.to(vectors.device)].clone()
    for _ in range(iterations):
        members = nearest(vectors, centres)
        counts = torch.bincount(members, minlength=clusters)[:, None]
        sums = sum_by_code(vectors, members, clusters)
        centres = torch.where(counts > 0, sums / counts.clamp_min(1), centres)
    return centres


def sum_by_code(vectors: torch.Tensor, codes: torch.Tensor, num_codes: int) -> torch.Tensor:
    """The sum of each code's vectors, which has the same bits every time on every device.

    Args:
        vectors: (N, D).
        codes: (N,), 0..K-1.
        num_codes: K.

    Returns:
        (K, D); 0 for a code without vectors.

    Example:
        >>> sum_by_code(torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([2, 0, 2]), 3)
        tensor([[2.],
                [0.],
                [5.]])
    """
    sums = vectors.new_zeros(num_codes, vectors.shape[1])
    if vectors.is_cuda:  # index_add_ adds there in another order every time; this one sorts first
        return sums.index_put_((codes,), vectors, accumulate=True)
    return sums.index_add_(0, codes, vectors)
