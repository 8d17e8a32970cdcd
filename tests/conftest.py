"""What several test files share."""

from __future__ import annotations

import os
from pathlib import Path

import matplotlib as mpl
import pytest

ROOT = Path(__file__).parents[1]

mpl.use("Agg")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real brain MRI; a test that asks for it is skipped where there is none."""
    folder = Path(os.environ.get("VQBRAIN_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real MRI at {folder}: set VQBRAIN_TEST_DATA to a folder with it")
    return folder
