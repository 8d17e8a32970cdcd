"""Freed memory is kept: the same blocks again need no new pages."""

import ctypes
import subprocess
import sys

import pytest

from monai_vqbrain import memory

SCRIPT = """
import resource, torch
from monai_vqbrain.memory import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def blocks():
    return [torch.ones(2**20) for _ in range(24)]  # 4 MB each

keep_freed_memory()
blocks(), blocks()
before = faults()
for _ in range(20):
    blocks()
print(faults() - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="not glibc")
def test_freed_memory_is_used_again() -> None:
    found = subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True)
    # 1,024 pages per block; with the default settings nearly all of them are new each time
    assert int(found.stdout) < 20 * 24 * 1024 / 20


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    memory.keep_freed_memory()
