"""What `vqbrain doctor` finds on a machine, and what it makes of it."""

from __future__ import annotations

import configparser
import json
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch.utils.flop_counter import FlopCounterMode

from monai_vqbrain import doctor
from monai_vqbrain.cli import vqbrain

ROOT = Path(__file__).parents[1]
DEVELOPMENT = {"docs", "test", "benchmark", "dev"}  # extras that are not for users


@pytest.fixture(scope="module")
def facts() -> doctor.Facts:
    return doctor.examine()


def test_the_facts_are_those_of_this_machine(facts: doctor.Facts) -> None:
    assert facts["versions"]["torch"] == version("torch")
    assert facts["versions"]["monai-vqbrain"] == version("monai-vqbrain")
    assert facts["versions"]["python"] == platform.python_version()
    assert facts["threads"]["torch"] == torch.get_num_threads()
    assert 0 < facts["threads"]["usable cores"] <= (os.cpu_count() or 1)
    assert facts["devices"]["cuda"] == [] or torch.cuda.is_available()
    assert facts["extras"]["fast"]  # of the tests
    speeds = [value for name, value in facts["speed"].items() if name.endswith("/s")]
    assert len(speeds) == 3
    assert min(speeds) > 0
    assert facts["space"]["free disk, GB"] > 0


def test_the_text_has_every_fact_and_names_no_user_and_no_folder(facts: doctor.Facts) -> None:
    text = "\n".join(doctor.lines(facts))
    assert all(name in text for section in facts.values() for name in section)
    for private in (str(Path.home()), str(Path.cwd()), str(ROOT), platform.node()):
        assert private not in text


def test_both_forms_say_the_same(facts: doctor.Facts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "examine", lambda: facts)
    text = CliRunner().invoke(vqbrain, ["doctor"], catch_exceptions=False).output
    assert text.splitlines() == list(doctor.lines(facts))
    data = json.loads(CliRunner().invoke(vqbrain, ["doctor", "--json"]).output)
    assert data.pop("advice") == list(doctor.advice(facts))
    assert data == facts


def test_the_extras_are_those_of_the_package() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    extras = dict(config["options.extras_require"])
    assert set(doctor.EXTRAS) == set(extras) - DEVELOPMENT
    for name, modules in doctor.EXTRAS.items():
        packages = [line.partition(">")[0].strip() for line in extras[name].split("\n")]
        assert [*modules] == [package for package in packages if package]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 4.0),
        ({"cpu.max": "max 100000"}, 4.0),
        ({"cpu.max": "150000 100000"}, 1.5),
        ({"cpu.max": "800000 100000"}, 4.0),
        ({"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2.0),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 4.0),
    ],
)
def test_a_container_limits_the_cores(
    files: dict[str, str], expected: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 4, 5}, raising=False)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert doctor.usable_cores(16, tmp_path) == expected


@pytest.mark.parametrize(("limit", "expected"), [(None, 8.2), ("max", 8.2), ("3000000000", 2.5)])
def test_a_container_limits_the_memory(limit: str | None, expected: float, tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 16000000 kB\nMemAvailable: 8000000 kB\n")
    (tmp_path / "memory.current").write_text("500000000\n")
    if limit is not None:
        (tmp_path / "memory.max").write_text(f"{limit}\n")
    assert doctor.free_memory(meminfo, tmp_path) == expected
    assert doctor.free_memory(tmp_path / "none", tmp_path) is None


def test_a_convolution_is_counted_as_torch_counts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 0.1, 1.0, 2.0])  # start, before the first call, before the second, end
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    with FlopCounterMode(display=False) as counter:
        speed = doctor.convolution_speed(seconds=0.5)
    calls = 2  # one of them before the measurement
    assert speed == pytest.approx(counter.get_total_flops() / calls / 2.0 / 1e9)


GOOD: dict[str, dict[str, Any]] = {
    "threads": {
        "cores": 8, "usable cores": 8.0, "torch": 8, "OMP_NUM_THREADS": "not set", "load": 1.0,
    },
    "devices": {"cuda": ["A GPU"]},
    "extras": {"fast": True},
    "speed": {"processor": "AVX512", "bfloat16": True},
    "space": {"free memory, GB": 16.0, "free disk, GB": 50.0},
}  # fmt: skip


def test_a_good_machine_needs_no_advice() -> None:
    assert list(doctor.advice(GOOD)) == []


@pytest.mark.parametrize(
    ("section", "changed", "words"),
    [
        ("threads", {"torch": 4}, "PyTorch uses 4 of 8 cores: set OMP_NUM_THREADS=8"),
        (
            "threads",
            {"torch": 1, "OMP_NUM_THREADS": "1"},
            "PyTorch uses 1 of 8 cores: set OMP_NUM_THREADS=8 instead of 1",
        ),
        (
            "threads",
            {"usable cores": 1.5},
            "PyTorch starts 8 threads on 1.5 cores, which wait for each other: set OMP_NUM_THREADS",
        ),
        (
            "threads",
            {"load": 20.0},
            "other programs use the processor (load 20 on 8 cores): a budget in minutes trains",
        ),
        (
            "speed",
            {"bfloat16": False},
            "the processor has no bfloat16: networks train in float32, which takes longer",
        ),
        (
            "extras",
            {"fast": False},
            "without isal, .nii.gz files are read more slowly: pip install 'monai-vqbrain[fast]'",
        ),
        (
            "space",
            {"free memory, GB": 2.5},
            "little free memory: 2.5 GB, and 4 are advisable",
        ),
        ("space", {"free disk, GB": 1.0}, "little free disk: 1 GB, and 5 are advisable"),
        ("space", {"free memory, GB": None}, None),
    ],
)
def test_what_is_slow_is_named_with_its_reason(
    section: str, changed: dict[str, Any], words: str | None
) -> None:
    facts = GOOD | {section: GOOD[section] | changed}
    found = list(doctor.advice(facts))
    assert len(found) == (words is not None)
    assert all(line.startswith(str(words)) for line in found)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="AVX2 is of x86")
def test_an_old_processor_is_named() -> None:
    facts = GOOD | {"speed": {"processor": "DEFAULT", "bfloat16": True}}
    assert list(doctor.advice(facts)) == [
        "the processor has no AVX2 (DEFAULT): all arithmetic is slow"
    ]


def test_a_missing_gpu_is_named() -> None:
    (line,) = doctor.advice(GOOD | {"devices": {"cuda": []}})
    assert line.startswith("no CUDA device")
    assert ("built without CUDA" in line) == (torch.version.cuda is None)
