"""What several test files share."""

from __future__ import annotations

import os
from pathlib import Path

import matplotlib as mpl
import pytest
import torch

ROOT = Path(__file__).parents[1]

mpl.use("Agg")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what is marked `cuda` where there is no such device."""
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
        pytest.skip("no CUDA device")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real brain MRI; a test that asks for it is skipped where there is none."""
    folder = Path(os.environ.get("VQBRAIN_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real MRI at {folder}: set VQBRAIN_TEST_DATA to a folder with it")
    return folder
