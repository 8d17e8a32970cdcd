"""The process group of a training that torchrun has started on several devices."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from monai_vqbrain.errors import UsageError
from monai_vqbrain.ranks import rank_count, this_rank
from monai_vqbrain.runs.bundles import bundle_folder

SETTLE_SECONDS = 0.5  # without them, a rank of two in ten jobs was aborted while Python ended


def join_group(minutes: float) -> None:
    """Join the process group of torchrun's processes: the first step of `initialize`.

    The backend is nccl where there are CUDA devices, else gloo. Ranks other than 0 log warnings and
    errors only.

    Args:
        minutes: after which a rank that waits for another gives up.

    Raises:
        UsageError: if torchrun has not started this process, or has started more processes than
            the machine has CUDA devices.
    """
    if "RANK" not in os.environ:
        raise UsageError(
            "multi_gpu_train.json is for processes that torchrun starts: write torchrun "
            "--nproc_per_node=2 -m monai.bundle in place of python -m monai.bundle"
        )
    if not dist.is_initialized():
        device = local_device()
        if device.type == "cuda":
            torch.cuda.set_device(device)
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=timedelta(minutes=minutes))
    if not is_first_rank():
        for logger in (logging.root, logging.getLogger("monai_vqbrain")):
            logger.setLevel(logging.WARNING)


def leave_group() -> None:
    """Leave the process group, all ranks together: `finalize`."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
        time.sleep(SETTLE_SECONDS)


def local_device() -> torch.device:
    """This process's own device: the CUDA device of its number on the machine, else the CPU.

    Raises:
        UsageError: if the machine has fewer CUDA devices.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    number, devices = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if number >= devices:
        raise UsageError(
            f"process {number + 1} of this machine has no CUDA device of its own, there are "
            f"{devices}: start {devices} processes"
        )
    return torch.device("cuda", number)


def is_first_rank() -> bool:
    """Whether this rank is the one that writes and logs."""
    return this_rank() == 0


def rank_items(items: Sequence[Any]) -> list[Any]:
    """Every n-th item, those of this rank's in a validation.

    Raises:
        UsageError: if there are fewer items than ranks.
    """
    if len(items) < rank_count():
        raise UsageError(
            f"{len(items)} validation slices are too few for {rank_count()} processes: start "
            f"{len(items)} at most"
        )
    return list(items[this_rank() :: rank_count()])


def check_one_process(bundle: str) -> None:
    """Refuse processes that torchrun has started with a configuration for one process.

    Args:
        bundle: name of the bundle, for the message.

    Raises:
        UsageError: if there are several processes, and they have no process group.
    """
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes > 1 and rank_count() == 1:
        configs = bundle_folder(bundle) / "configs"
        raise UsageError(
            f"torchrun has started {processes} processes, and train.json alone is for one: add "
            f"multi_gpu_train.json, as in --config_file \"['{configs / 'train.json'}',"
            f"'{configs / 'multi_gpu_train.json'}']\""
        )
