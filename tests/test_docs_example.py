"""The example of "Use the transforms in your own MONAI pipeline" runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nibabel as nib
import pytest
import torch

PAGE = Path(__file__).parents[1] / "docs" / "own-pipeline.md"


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)


def test_the_example_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "example"}
    for block in blocks():
        exec(compile(block, str(PAGE), "exec"), names)
    batch = names["batch"]
    assert batch["image"].shape == (8, 1, 96, 96)
    assert batch["mask"].dtype == torch.bool
    original = nib.load(names["files"][0]["image"])
    assert names["back"].shape == (1, *original.shape)
    assert torch.allclose(names["back"].affine, torch.from_numpy(original.affine))
