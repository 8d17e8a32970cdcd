"""The same command gives the same bits: on a CPU, and on a CUDA device where there is one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import tiny_prior, tiny_vqvae
from test_path import copy_of, kill_in_epoch

from monai_vqbrain.contents import content_sha256
from monai_vqbrain.files import sha256
from monai_vqbrain.inferers import AncestralSampler
from monai_vqbrain.networks import CodebookQuantizer, PixelCNN
from monai_vqbrain.networks.nearest import sum_by_code
from monai_vqbrain.stages.encode import encode
from monai_vqbrain.stages.sample import SampleOptions, draw_samples
from monai_vqbrain.stages.train import train

TRAININGS = {"vqvae": ("3-vqvae", tiny_vqvae), "prior": ("5-prior", tiny_prior)}

on_every_device = pytest.mark.parametrize(
    "device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
)


@on_every_device
@pytest.mark.parametrize("which", TRAININGS)
def test_a_training_repeats_and_a_killed_one_resumes_to_the_same_bits(
    which: str, device: str, trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copy_of(trained_run, tmp_path)
    folder, options = TRAININGS[which]
    train(run, which, options(epochs=3, device=device))
    whole = torch.load(run / folder / "checkpoint.pt", weights_only=True)["network"]
    best = sha256(run / folder / "model.pt")
    shutil.rmtree(run / folder)

    kill_in_epoch(2, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train(run, which, options(epochs=3, device=device))
    monkeypatch.undo()
    assert not (run / folder).exists()
    train(run, which, options(epochs=3, device=device, resume=True))
    resumed = torch.load(run / folder / "checkpoint.pt", weights_only=True)["network"]
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert sha256(run / folder / "model.pt") == best
    table = pd.read_csv(run / folder / "metrics.tsv", sep="\t")
    assert table["epoch"].tolist() == [1, 2, 3]


@on_every_device
def test_codes_and_samples_repeat(device: str, trained_run: Path, tmp_path: Path) -> None:
    run = copy_of(trained_run, tmp_path)
    shutil.rmtree(run / "5-prior")
    contents = []
    for _ in range(2):
        shutil.rmtree(run / "4-codes")
        encode(run, device=device)
        contents.append(content_sha256(run / "4-codes" / "codes.safetensors"))
    assert contents[0] == contents[1]
    train(run, "prior", tiny_prior(epochs=1, device=device))
    one, other = (
        draw_samples(run, SampleOptions(number=3, top_p=0.9, name=name), device)
        for name in ("one", "other")
    )
    for picture in sorted(one.glob("sample-*.png")):
        assert sha256(picture) == sha256(other / picture.name)


@on_every_device
def test_sums_by_code_are_right_and_repeat(device: str) -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(50_000, 8, generator=generator)
    codes = (torch.rand(50_000, generator=generator) ** 4 * 300).long()  # some are very frequent
    expected = torch.zeros(301, 8, dtype=torch.float64).index_add_(0, codes, vectors.double())
    sums = [sum_by_code(vectors.to(device), codes.to(device), 301) for _ in range(5)]
    assert torch.allclose(sums[0].cpu().double(), expected, atol=1e-2)
    assert all(torch.equal(sums[0], again) for again in sums[1:])


@on_every_device
@pytest.mark.parametrize("initialisation", ["k-means", "data"])
def test_a_codebook_repeats(initialisation: str, device: str) -> None:
    def learnt() -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        quantizer = CodebookQuantizer(64, 4, 0.5, groups=2, initialisation=initialisation)
        quantizer = quantizer.to(device).train()
        for _ in range(6):
            quantizer(torch.randn(8, 4, 32, 32).to(device))
        return quantizer.state_dict()

    one, other = learnt(), learnt()
    assert all(torch.equal(one[key], other[key]) for key in one)


@on_every_device
@pytest.mark.parametrize("number", [1, 64])  # a device sums a single row by another method
def test_grids_repeat(number: int, device: str) -> None:
    torch.manual_seed(0)
    prior = PixelCNN(num_codes=512, grid=(6, 6), channels=8, layers=1).to(device)
    torch.nn.init.normal_(prior.head.weight)
    drawn = [
        AncestralSampler(top_p=0.95)(prior, number, torch.Generator().manual_seed(1))
        for _ in range(3)
    ]
    assert all(torch.equal(drawn[0], again) for again in drawn[1:])
