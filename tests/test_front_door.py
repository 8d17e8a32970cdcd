"""The types that a user's own code sees: mypy in strict mode on small scripts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RIGHT = """
from pathlib import Path
from typing import assert_type

from monai_vqbrain import BrainVQVAE, PixelCNNInferer, prepare, train_vqvae

assert_type(BrainVQVAE().num_codes, int)
assert_type(prepare("my-bids", "my-run", axis="coronal"), Path)
assert_type(train_vqvae("my-run", epochs=2), Path)
PixelCNNInferer(sampler=None)
"""
WRONG = """
from monai_vqbrain import BrainVQVAE, prepare

prepare("my-bids", "my-run", axsi="coronal")
BrainVQVAE(num_code=3)
"""


def mypy(script: str, folder: Path) -> str:
    """What mypy says of a script."""
    (folder / "script.py").write_text(script)
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "script.py"]
    environment = os.environ | {"MYPYPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return done.stdout


@pytest.mark.slow
def test_a_users_script_has_the_types_of_the_package(tmp_path: Path) -> None:
    assert mypy(RIGHT, tmp_path) == "Success: no issues found in 1 source file\n"
    said = mypy(WRONG, tmp_path)
    assert 'Unexpected keyword argument "axsi" for "prepare"' in said
    assert 'Unexpected keyword argument "num_code" for "BrainVQVAE"' in said
