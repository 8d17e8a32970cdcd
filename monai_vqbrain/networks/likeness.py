"""Features of codes, by which similar codes share statistical strength in a prior."""

# No postponed annotations here: TorchScript must see the buffer's type as a type.

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_vqbrain.selection import evenly_spaced

LANDMARKS = 2048  # codes that the components are computed from
CHUNK = 2048  # codes that are projected at a time
SMALLEST = 1e-9  # eigenvalue that counts


class CodeLikeness(nn.Module):
    """The part of each code's embedding and head row that similar codes share in a prior.

    A term that is linear in the code's features is added to its row of either table. It is nearly
    the same for codes with nearly the same codebook vectors.

    Args:
        shape: (G, K), the number of groups and of codes per group.
        features: number of features per code, at least 1.
        code_width: width of a row of the embedding.
        channels: width of a row of the head.
    """

    features: Tensor  # (G * K, features)

    def __init__(
        self, shape: tuple[int, int], features: int, code_width: int, channels: int
    ) -> None:
        super().__init__()
        self.shape = shape
        self.register_buffer("features", torch.zeros(shape[0] * shape[1], features))
        self.to_embedding = nn.Parameter(features**-0.5 * torch.randn(features, code_width))
        self.to_head = nn.Parameter(torch.zeros(features, channels))

    @torch.jit.unused
    def set_features(self, vectors: Tensor) -> None:
        """Set the features from the codebook's vectors, (K, D) or (G, K, D).

        Raises:
            ValueError: if their number is not the number of codes.
        """
        vectors = vectors[None] if vectors.ndim == 2 else vectors
        if vectors.shape[:2] != self.shape:
            raise ValueError(
                f"vectors have the shape {list(vectors.shape)}: this prior has {self.shape[0]} x "
                f"{self.shape[1]} codes"
            )
        number = self.features.shape[1]
        self.features.copy_(torch.cat([code_features(part, number) for part in vectors]))

    def embedding(self, table: Tensor) -> Tensor:
        """The embedding's rows, (G * K, code_width), with the shared part added."""
        return torch.addmm(table, self.features, self.to_embedding)

    def head(self, table: Tensor) -> Tensor:
        """The head's rows, (G * K, channels), with the shared part added."""
        return torch.addmm(table, self.features, self.to_head)


def code_features(vectors: Tensor, number: int) -> Tensor:
    """Features of codes, nearly the same for codes with nearly the same vectors.

    They are the leading components of a Gaussian kernel on the codes' vectors (its squared width is
    half of the median squared distance), centred, and scaled together to a standard deviation of 1.
    Of more than 2,048 codes, as many that are evenly spaced give the components, and the others are
    projected on these (Nystroem's method), so that memory grows with K only.

    Args:
        vectors: the codebook's vectors, (K, D).
        number: number of features; those beyond K are 0.

    Returns:
        (K, number) float32.

    Source:
        Scholkopf, Smola and Mueller, "Nonlinear Component Analysis as a Kernel Eigenvalue Problem"
        (1998); Williams and Seeger, "Using the Nystroem Method to Speed Up Kernel Machines" (2001).

    Example:
        >>> code_features(torch.randn(512, 8), 64).shape
        torch.Size([512, 64])
    """
    vectors = vectors.double()
    chosen = vectors[evenly_spaced(len(vectors), LANDMARKS)]
    squares = _squared_distances(chosen, chosen)
    width = squares[squares > 0].median() if (squares > 0).any() else squares.new_ones(())
    values, components = torch.linalg.eigh(torch.exp(-squares / width))
    features = (components * values.clamp(min=0).sqrt()).flip(1)[:, :number]
    if len(chosen) < len(vectors):
        leading = values.clamp(min=SMALLEST).flip(0)[:number]
        project = features / leading
        features = torch.cat([
            torch.exp(-_squared_distances(part, chosen) / width) @ project
            for part in vectors.split(CHUNK)
        ])  # fmt: skip
    features = features - features.mean(0)
    spread = features.std()
    features = features / spread if spread > 0 else features
    return F.pad(features, (0, number - features.shape[1])).float()


def _squared_distances(one: Tensor, other: Tensor) -> Tensor:
    return torch.cdist(one, other, compute_mode="donot_use_mm_for_euclid_dist").square()
