"""Two ranks with one codebook: it is that of one process with all, and they never hang."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from monai_vqbrain.networks.quantizer import CodebookQuantizer

# Images of 8x8 encodings in each step and process; 0 stands for a single vector.
BATCHES = ((4, 4), (4, 1), (1, 4), (0, 2), (2, 0))
DEAD_FROM = 3  # this step on, all but one code has just died


def vectors(process: int, step: int) -> torch.Tensor:
    """(1, 4, N), so that batches of any number can be joined."""
    generator = torch.Generator().manual_seed(10 * step + process)
    number = 64 * BATCHES[step][process] or 1
    return torch.randn(1, 4, number, generator=generator, dtype=torch.float64)


def new_quantizer() -> CodebookQuantizer:
    return CodebookQuantizer(32, 4, groups=2).double().train()


def train(process: int, folder: str) -> None:
    """What a process does: train from a start of its own, keep its state after every step."""
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=process, world_size=2)
    torch.set_num_threads(1)
    torch.manual_seed(process)
    quantizer = new_quantizer()
    states = []
    for step in range(len(BATCHES)):
        if step == DEAD_FROM:
            quantizer.counts[1:] = 0
        quantizer(vectors(process, step))
        states.append({key: value.clone() for key, value in quantizer.state_dict().items()})
    torch.save((states, int(quantizer.redrawn)), Path(folder) / f"{process}.pt")
    dist.destroy_process_group()


def run_both(folder: Path) -> None:
    """Run `train` in two processes; fail if they have not ended after two minutes."""
    context = mp.start_processes(train, (str(folder),), 2, join=False, start_method="spawn")
    deadline = time.monotonic() + 120
    while not context.join(timeout=1):
        if time.monotonic() > deadline:
            for process in context.processes:
                process.kill()
            pytest.fail("the two processes wait for each other")


def test_two_processes_keep_one_codebook(tmp_path: Path) -> None:
    run_both(tmp_path)
    (states, redrawn), (others, redrawn_there) = (torch.load(tmp_path / f"{i}.pt") for i in (0, 1))
    for one, other in zip(states, others, strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)
    assert redrawn == redrawn_there >= 60

    torch.manual_seed(0)
    alone = new_quantizer()  # as one process would with both batches, and the generator of rank 0
    for step, expected in enumerate(states):
        if step == DEAD_FROM:
            alone.counts[1:] = 0
        alone(torch.cat([vectors(0, step), vectors(1, step)], dim=2))
        for key, value in alone.state_dict().items():
            assert torch.allclose(value, expected[key], rtol=0, atol=1e-12), (step, key)
    assert int(alone.redrawn) == redrawn
