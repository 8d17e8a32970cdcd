"""The exact search for the nearest code, and k-means."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from largest_tensor import LargestTensor
from sklearn.cluster import KMeans
from sklearn.metrics import euclidean_distances

from monai_vqbrain.networks.nearest import k_means, nearest


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def plain(vectors: torch.Tensor, codebook: torch.Tensor) -> torch.Tensor:
    return torch.addmm(0.5 * codebook.square().sum(1), vectors, codebook.t(), alpha=-1).argmin(1)


@pytest.mark.parametrize("rows", [1, 15, 16, 300, 5000])
@pytest.mark.parametrize(("codes", "dim"), [(2, 3), (64, 8), (65, 1), (500, 8), (1024, 64)])
def test_it_agrees_with_scikit_learn(rows: int, codes: int, dim: int) -> None:
    vectors, codebook = normal(rows, dim), normal(codes, dim, seed=1)
    found = nearest(vectors, codebook).numpy()
    distances = euclidean_distances(vectors.double(), codebook.double(), squared=True)
    differ = found != distances.argmin(1)
    assert differ.mean() < 1e-3
    # where they differ two codes are equally near to float32's 24 bits: the processor decides
    chosen = np.take_along_axis(distances, found[:, None], axis=1)[:, 0]
    assert (chosen - distances.min(1))[differ].max(initial=0) < 1e-5


@pytest.mark.parametrize("codes", [3, 40, 100, 3000])  # within one block of 64 codes and across
def test_a_tie_goes_to_the_first_code(codes: int) -> None:
    vectors, codebook = normal(500, 4), normal(codes, 4, seed=1)
    thrice = codebook.repeat(3, 1)
    assert torch.equal(nearest(vectors, thrice), nearest(vectors, codebook))
    assert nearest(torch.zeros(16, 4), torch.ones(codes, 4)).tolist() == [0] * 16


@pytest.mark.parametrize("codes", [512, 4096])
def test_no_tensor_grows_with_the_product_of_vectors_and_codes(codes: int) -> None:
    with LargestTensor() as largest:
        nearest(normal(20_000, 4), normal(codes, 4, seed=1))
    assert largest.bytes <= 4 << 20  # 82 MB and more if it did


def test_scripted_traced_and_exported_it_finds_the_same() -> None:
    vectors, codebook = normal(5000, 4), normal(300, 4, seed=1)
    found = nearest(vectors, codebook)
    assert torch.equal(torch.jit.script(nearest)(vectors, codebook), found)
    assert torch.equal(torch.jit.trace(nearest, (vectors[:9], codebook))(vectors, codebook), found)
    exported = torch.export.export(
        Nearest(), (vectors[:9], codebook), dynamic_shapes=({0: torch.export.Dim("rows")}, None)
    )
    assert torch.equal(exported.module()(vectors, codebook), found)


class Nearest(torch.nn.Module):
    def forward(self, vectors: torch.Tensor, codebook: torch.Tensor) -> torch.Tensor:
        return nearest(vectors, codebook)


def test_what_is_no_number_still_gets_a_code() -> None:
    vectors = normal(64, 4)
    vectors[3], vectors[5] = torch.nan, torch.inf
    found = nearest(vectors, normal(70, 4, seed=1))
    assert found.min() >= 0
    assert found.max() < 70


@pytest.mark.cuda
def test_a_gpu_finds_the_same() -> None:
    vectors, codebook = normal(40_000, 8), normal(4096, 8, seed=1)
    found = nearest(vectors.cuda(), codebook.cuda()).cpu()
    assert (found != nearest(vectors, codebook)).float().mean() < 1e-4  # other rounding


def test_k_means_is_lloyds_algorithm() -> None:
    vectors = normal(600, 2)
    centres = [seeded_k_means(vectors, 12, iterations) for iterations in (0, 10)]
    lloyd = KMeans(12, init=centres[0].numpy(), n_init=1, max_iter=10, tol=0, algorithm="lloyd")
    assert np.allclose(centres[1], lloyd.fit(vectors.numpy()).cluster_centers_, atol=1e-5)


def seeded_k_means(vectors: torch.Tensor, clusters: int, iterations: int) -> torch.Tensor:
    torch.manual_seed(0)
    return k_means(vectors, clusters, iterations)


def test_k_means_begins_with_different_rows_as_long_as_there_are_enough() -> None:
    rows = torch.arange(8.0)[:, None]
    assert sorted(seeded_k_means(rows, 8, 0).flatten().tolist()) == list(range(8))
    counts = torch.bincount(seeded_k_means(rows, 20, 0).flatten().long())
    assert sorted(counts.tolist()) == [2] * 4 + [3] * 4
