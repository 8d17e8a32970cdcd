"""Filling in a part of a slice: which codes are kept, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from monai_vqbrain.errors import UsageError, VQBrainError
from monai_vqbrain.inferers import AncestralSampler
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.inpainting import inpainting_codes
from monai_vqbrain.runs.networks import load_network
from monai_vqbrain.stages.sample import SampleOptions, draw_samples


@pytest.fixture
def files(trained_run: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A slice as a picture, and a mask over a part of it that cuts through cells of 4 pixels."""
    stack = next((trained_run / "2-slices/stacks").glob("*_T1w.nii"))
    pixels = np.asanyarray(nib.load(stack).dataobj.get_unscaled())[..., 2]
    mask = np.zeros((32, 32), np.uint8)
    mask[9:18, 20:24] = 255
    for name, values in (("slice", pixels), ("mask", mask)):
        Image.fromarray(np.rot90(values)).save(tmp_path / f"{name}.png")
    return tmp_path / "slice.png", tmp_path / "mask.png"


def test_codes_that_see_what_is_masked_are_hidden_and_the_others_kept(
    trained_run: Path, files: tuple[Path, Path]
) -> None:
    vqvae = load_network(trained_run / "3-vqvae")
    codes = inpainting_codes(RunFolder(trained_run), vqvae, *files)
    hidden = torch.zeros(8, 8, dtype=torch.bool)
    hidden[0:7, 3:8] = True  # the cells that the mask touches, and two around them
    assert torch.equal(codes[0] < 0, hidden)
    pixels = np.rot90(np.asarray(Image.open(files[0])), -1).copy()
    for content in (0, 99, pixels[9:18, 20:24].copy()):  # whatever the mask covers
        pixels[9:18, 20:24] = content
        whole = vqvae.index_quantize(torch.from_numpy(pixels)[None, None] / 255)
        assert torch.equal(codes[0][~hidden], whole[0][~hidden])


def test_samples_keep_what_is_known_and_differ_where_it_is_not(
    trained_run: Path, files: tuple[Path, Path]
) -> None:
    vqvae, prior = (load_network(trained_run / name) for name in ("3-vqvae", "5-prior"))
    known = inpainting_codes(RunFolder(trained_run), vqvae, *files)
    drawn = AncestralSampler()(prior, 16, torch.Generator().manual_seed(0), known=known)
    kept = (known >= 0).expand_as(drawn)
    assert torch.equal(drawn[kept], known.expand_as(drawn)[kept])
    assert len(drawn.flatten(1).unique(dim=0)) > 1


def test_the_command_says_what_was_kept(
    trained_run: Path, files: tuple[Path, Path], tmp_path: Path
) -> None:
    run = Path(shutil.copytree(trained_run, tmp_path / "run"))
    draw_samples(run, SampleOptions(number=3, known=str(files[0]), mask=str(files[1])))
    record = json.loads((run / "6-samples/default/provenance.json").read_text())
    table = pd.read_csv(run / "6-samples/default/samples.tsv", sep="\t")
    assert set(table["known_sha256"]) == {record["made_from"]["known"]["sha256"]}
    assert record["made_from"]["mask"]["bytes"] == files[1].stat().st_size
    images = [nib.load(f).get_fdata() for f in sorted((run / "6-samples/default").glob("*.nii.gz"))]
    spread = np.ptp(images, axis=0)[..., 0]
    # The decoder sees a few cells further than the encoder, ever more weakly.
    assert spread[9:18, 20:24].max() > 5 * spread[28:, :4].max()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"known": "slice.png"}, "known and mask go together"),
        ({"mask": "mask.png"}, "known and mask go together"),
        ({"known": "slice.png", "mask": "nowhere.png"}, "mask .*nowhere.png: there is no such"),
        ({"known": "slice.png", "mask": "mask.png", "volume": True}, "leave one out"),
    ],
)
def test_options_that_do_not_go_together(
    trained_run: Path, files: tuple[Path, Path], options: dict[str, str], words: str
) -> None:
    folder = files[0].parent
    whole = {k: str(folder / v) if isinstance(v, str) else v for k, v in options.items()}
    with pytest.raises(UsageError, match=words):
        draw_samples(trained_run, SampleOptions(**whole))


def test_files_that_do_not_fit(trained_run: Path, files: tuple[Path, Path]) -> None:
    run, vqvae = RunFolder(trained_run), load_network(trained_run / "3-vqvae")
    small, empty = files[0].with_name("small.png"), files[0].with_name("empty.png")
    Image.fromarray(np.full((20, 20), 9, np.uint8)).save(small)
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(empty)
    with pytest.raises(VQBrainError, match="small.png: 20x20 pixels, and the run's slices have 32"):
        inpainting_codes(run, vqvae, small, files[1])
    for mask in (small, empty):
        with pytest.raises(VQBrainError, match="it must cover a part of an image of the same size"):
            inpainting_codes(run, vqvae, files[0], mask)
    with pytest.raises(VQBrainError, match="is not a single slice: give a slice"):
        inpainting_codes(
            run, vqvae, next((trained_run / "2-slices/stacks").glob("*_T1w.nii")), files[1]
        )
