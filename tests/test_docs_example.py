"""The examples of the docs run as they stand."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import nibabel as nib
import pytest
import torch

from monai_vqbrain.networks import BrainVQVAE

DOCS = Path(__file__).parents[1] / "docs"


def run_examples(page: str) -> dict[str, Any]:
    """Run a page's blocks of Python one after the other; gives the names that they leave."""
    text = (DOCS / page).read_text()
    names: dict[str, Any] = {"__name__": "example"}
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, page, "exec"), names)
    return names


@pytest.mark.parametrize("page", ["prior.md", "protocol.md", "quantizers.md", "samples.md"])
def test_examples_run_as_they_stand(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_examples(page)


def test_the_vqvaes_exports_run_as_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder, network = tmp_path / "RUN" / "3-vqvae", BrainVQVAE()
    folder.mkdir(parents=True)
    definition = {"_target_": "BrainVQVAE", **network.settings}
    (folder / "config.json").write_text(json.dumps({"network_def": definition}))
    torch.save(network.state_dict(), folder / "model.pt")
    run_examples("vqvae.md")
    exported = torch.export.load("vqvae.pt2").module()
    for shape in ((1, 1, 21, 19), (3, 1, 64, 50)):
        x = torch.rand(shape)
        assert torch.allclose(exported(x), network.eval()(x), atol=1e-5)
    assert (tmp_path / "decoder.onnx").is_file()


def test_the_pipeline_example_gives_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = run_examples("own-pipeline.md")
    batch = names["batch"]
    assert batch["image"].shape == (8, 1, 96, 96)
    assert batch["mask"].dtype == torch.bool
    original = nib.load(names["files"][0]["image"])
    assert names["back"].shape == (1, *original.shape)
    assert torch.allclose(names["back"].affine, torch.from_numpy(original.affine))


@pytest.mark.slow
def test_the_notebook_runs_and_returns_what_it_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names = run_examples("python.md")
    assert names["slices"] == Path("my-run/2-slices")
    assert min(path.name for path in names["samples"].glob("*.png")) == "overview.png"
    assert names["report"] == Path("my-run/7-report/report.html")
    assert names["report"].is_file()
    assert names["images"].shape == (2, 1, 32, 32)
    assert "6 volumes, none alignment" in capsys.readouterr().out
