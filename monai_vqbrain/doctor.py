"""What `vqbrain doctor` reports on the installation and the machine, for bug reports.

Nothing in it names the user, a folder or the machine.
"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch

from monai_vqbrain.inferers.precision import computes_in_bfloat16
from monai_vqbrain.provenance import PACKAGES
from monai_vqbrain.transforms.voxels import open_image, read_stored

Facts = dict[str, dict[str, Any]]

EXTRAS = {  # of setup.cfg, those for users: extra -> modules
    "align": ("SimpleITK",),
    "dicom": ("dcm2niix", "pydicom"),
    "strip": ("deepbet",),
    "fast": ("isal",),
    "cluster": ("dask", "distributed"),
    "track": ("mlflow",),
    "export": ("jsonschema", "onnx"),
}
CGROUP = Path("/sys/fs/cgroup")
MEASURED = 0.6  # seconds of each measurement
CHANNELS, PIXELS, BATCH = 64, 32, 8  # of the measured convolution
VOLUME = (128, 128, 96)  # voxels of the measured file, 16 bits
GB = 1e9
LOW_MEMORY, LOW_DISK = 4.0, 5.0  # GB


def examine() -> Facts:
    """Versions, threads, devices, extras, speed and space; `advice` interprets them.

    Returns:
        Section -> name -> value, JSON values. Speeds are GFLOP/s and MB/s, sizes GB.
    """
    return {
        "versions": _versions(),
        "threads": _threads(),
        "devices": _devices(),
        "extras": {name: all(map(find_spec, modules)) for name, modules in EXTRAS.items()},
        "speed": _speed(),
        "space": _space(),
    }


def advice(facts: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What is slow or missing on a machine, why, and what to do; one line each.

    Args:
        facts: the result of `examine`.
    """
    threads, speed, space = facts["threads"], facts["speed"], facts["space"]
    cores = threads["usable cores"]
    if threads["torch"] < int(cores):
        given = threads["OMP_NUM_THREADS"]
        do = f"set OMP_NUM_THREADS={int(cores)}" + (
            "" if given == "not set" else f" instead of {given}"
        )
        yield f"PyTorch uses {threads['torch']} of {cores:g} cores: {do}"
    if threads["torch"] > max(1, cores):
        yield (
            f"PyTorch starts {threads['torch']} threads on {cores:g} cores, which wait for each "
            f"other: set OMP_NUM_THREADS={max(1, int(cores))}"
        )
    if threads["load"] is not None and threads["load"] > 1.5 * threads["cores"]:
        yield (
            f"other programs use the processor (load {threads['load']:g} on {threads['cores']} "
            "cores): a budget in minutes trains less meanwhile"
        )
    if not speed["processor"].startswith(("AVX2", "AVX512")) and platform.machine() in (
        "x86_64",
        "AMD64",
    ):
        yield f"the processor has no AVX2 ({speed['processor']}): all arithmetic is slow"
    if not facts["devices"]["cuda"]:
        built = "" if torch.version.cuda else ", and this PyTorch is built without CUDA"
        yield f"no CUDA device{built}: networks train on the processor, for which the defaults are"
    if not speed["bfloat16"]:
        yield "the processor has no bfloat16: networks train in float32, which takes longer"
    if not facts["extras"]["fast"]:
        yield "without isal, .nii.gz files are read more slowly: pip install 'monai-vqbrain[fast]'"
    for name, least in (("memory", LOW_MEMORY), ("disk", LOW_DISK)):
        free = space[f"free {name}, GB"]
        if free is not None and free < least:
            yield f"little free {name}: {free:g} GB, and {least:g} are advisable"


def lines(facts: Facts) -> Iterator[str]:
    """The facts and the advice as lines of text."""
    for section, values in facts.items():
        yield section
        for name, value in values.items():
            yield f"  {name:<34} {_shown(section, name, value)}"
    yield "what to know"
    yield from (f"  {line}" for line in advice(facts))


def _shown(section: str, name: str, value: Any) -> str:
    if section == "extras":
        return "installed" if value else f"no: pip install 'monai-vqbrain[{name}]'"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(value) or "none"
    return (
        "not known" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    )


def _versions() -> dict[str, Any]:
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _threads() -> dict[str, Any]:
    cores = os.cpu_count() or 1
    return {
        "cores": cores,
        "usable cores": usable_cores(cores),
        "torch": torch.get_num_threads(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "not set"),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
    }


def usable_cores(cores: int, cgroup: Path = CGROUP) -> float:
    """The cores that this process may use: by its affinity, and by the quota of its container.

    Args:
        cores: of the machine.
        cgroup: the folder in which Linux describes the container.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    quota = _numbers(cgroup / "cpu.max") or [
        *_numbers(cgroup / "cpu" / "cpu.cfs_quota_us"),
        *_numbers(cgroup / "cpu" / "cpu.cfs_period_us"),
    ]
    if len(quota) == 2 and quota[0] > 0:
        return min(float(cores), quota[0] / quota[1])
    return float(cores)


def _numbers(path: Path) -> list[float]:
    """The numbers in a file; none if it is not there, or says max."""
    try:
        return [float(word) for word in path.read_text().split()]
    except (OSError, ValueError):
        return []


def _devices() -> dict[str, Any]:
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"cuda": names, "CUDA of PyTorch": torch.version.cuda or "none"}


def _speed() -> dict[str, Any]:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = convolution_speed()
        torch.set_num_threads(threads)
        together = convolution_speed() if threads > 1 else alone
    finally:
        torch.set_num_threads(threads)
    return {
        "processor": torch.backends.cpu.get_cpu_capability(),
        "bfloat16": computes_in_bfloat16(torch.device("cpu")),
        "convolution, 1 thread, GFLOP/s": round(alone, 1),
        "convolution, all threads, GFLOP/s": round(together, 1),
        "reading .nii.gz, MB/s": round(reading_speed()),
    }


def convolution_speed(seconds: float = MEASURED) -> float:
    """Arithmetic of a convolution like those of the networks, GFLOP/s."""
    layer = torch.nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
    images = torch.rand(BATCH, CHANNELS, PIXELS, PIXELS)
    operations = 2 * 9 * CHANNELS**2 * images[:, 0].numel()
    with torch.inference_mode():
        layer(images)  # the first call prepares it
        calls, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            layer(images)
            calls += 1
    return calls * operations / (time.perf_counter() - began) / 1e9


def reading_speed() -> float:
    """Reading of a compressed volume as `prepare` does it, MB/s of voxels."""
    smooth = np.linspace(0, 900, VOLUME[0])[:, None, None] + np.zeros(VOLUME)
    noise = np.random.default_rng(0).integers(0, 30, VOLUME)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "volume.nii.gz"
        nib.save(nib.Nifti1Image((smooth + noise).astype(np.int16), np.eye(4)), path)
        began = time.perf_counter()
        values = read_stored(open_image(path))
    return float(values.nbytes / (time.perf_counter() - began) / 1e6)


def _space() -> dict[str, Any]:
    return {
        "free memory, GB": free_memory(),
        "free disk, GB": round(shutil.disk_usage(".").free / GB, 1),
    }


def free_memory(proc: Path = Path("/proc/meminfo"), cgroup: Path = CGROUP) -> float | None:
    """Memory that may still be used, within the limit of a container, GB; None if not known.

    Args:
        proc: the file in which Linux describes the memory.
        cgroup: the folder in which it describes the container.
    """
    try:
        rows = dict(line.split(":") for line in proc.read_text().splitlines())
        free = 1024 * float(rows["MemAvailable"].split()[0])
    except (OSError, ValueError, KeyError):
        return None
    limit, used = _numbers(cgroup / "memory.max"), _numbers(cgroup / "memory.current")
    if limit and used:
        free = min(free, limit[0] - used[0])
    return round(free / GB, 1)
