"""Two processes with one codebook: whatever batches they have, they agree and never hang."""

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


def batch(process: int, step: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(10 * step + process)
    images = BATCHES[step][process]
    return torch.randn(images or 1, 4, *((8, 8) if images else (1, 1)), generator=generator)


def train(process: int, folder: str) -> None:
    """What a process does: train from a start of its own, keep its state after every step."""
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=process, world_size=2)
    torch.set_num_threads(1)
    torch.manual_seed(process)
    quantizer = CodebookQuantizer(32, 4, groups=2).train()
    states = []
    for step in range(len(BATCHES)):
        if step == DEAD_FROM:
            quantizer.counts[1:] = 0
        quantizer(batch(process, step))
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

    alone = CodebookQuantizer(32, 4, groups=2).train()
    for step in (1, 2):  # as one process would with both batches
        alone.load_state_dict(states[step - 1])
        alone(torch.cat([batch(0, step), batch(1, step)]))
        for key, value in alone.state_dict().items():
            assert torch.allclose(value, states[step][key], atol=1e-5)
