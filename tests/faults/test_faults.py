"""A short round of the fault study: a few kills, damaged files and damaged inputs of each kind."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import benchmark_modules

NAMES = ("faults", "fault_damage", "fault_fuzz", "fault_kills", "fault_stages")
pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs fork and SIGKILL")


@pytest.fixture(scope="module")
def study() -> Iterator[Any]:
    """The scripts of the study, as modules."""
    pytest.importorskip("hypothesis")
    with benchmark_modules(*NAMES) as found:
        yield found


@pytest.fixture(scope="module")
def finished(study: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Undisturbed runs, up to the samples."""
    made = study.fault_stages.Finished(tmp_path_factory.mktemp("faults"))
    made.make_source()
    made.of("sample")
    return made


KILLS = [
    ("prepare", "replace", 0.99),  # the swap of the folders
    ("prepare", "fsync", 0.4),
    ("train prior", "replace", 0.6),  # the checkpoint of the second epoch
    ("train vqvae", "replace", 0.95),
    ("encode", "replace", 0.9),
    ("sample", "replace", 0.6),
    ("sample", "rmdir", 0.5),
]


@pytest.mark.parametrize(("name", "call", "share"), KILLS)
def test_a_kill_loses_nothing_and_the_same_command_ends_as_undisturbed(
    study: Any, finished: Any, name: str, call: str, share: float
) -> None:
    stages = study.fault_stages
    stage = next(stage for stage in stages.STAGES if stage.name == name)
    moments = finished.ending(name).moments
    places = [n for n, each in enumerate(moments) if each == call] or [len(moments) - 1]
    finished.start(stage.before)
    whole, splits = stages.finished_stages(finished.run), stages.splits_of(finished.run)
    assert finished.command(stage, moment=places[int(share * len(places))]).killed
    assert study.fault_kills.lost_stages(finished.run, whole, finished.work / "look") == []
    assert finished.command(stage).error == ""
    assert stages.differences(stages.content_of(finished.run), finished.content(name)) == []
    assert stages.moved(splits, stages.splits_of(finished.run)) == 0


def test_the_comparison_sees_every_difference(study: Any, finished: Any) -> None:
    stages = study.fault_stages
    finished.start("sample")
    run, wanted = finished.run, finished.content("sample")
    table = run / "3-vqvae" / "metrics.tsv"
    table.write_text(table.read_text() + table.read_text().splitlines()[-1] + "\n")
    (run / "5-prior" / "model.pt").unlink()
    (run / ".2-slices.partial").mkdir()
    assert stages.differences(stages.content_of(run), wanted) == [
        ".2-slices.partial",
        "3-vqvae/metrics.tsv",
        "5-prior/model.pt",
    ]


def test_a_participant_that_moves_is_counted(study: Any, finished: Any) -> None:
    splits = study.fault_stages.splits_of(finished.of("sample"))
    assert study.fault_stages.moved(splits, splits | {next(iter(splits)): "other"}) == 1
    assert study.fault_stages.moved(splits, {}) == 0


def test_a_child_tells_how_it_ended(study: Any, tmp_path: Path) -> None:
    child, log = study.fault_stages.in_child, tmp_path / "log"
    assert child(lambda: [1, 2], log).answer == [1, 2]
    assert "ZeroDivisionError" in child(lambda: 1 / 0, log).error

    def rename() -> None:
        (tmp_path / "a").touch()
        (tmp_path / "a").replace(tmp_path / "b")

    assert child(rename, log).moments == ["replace", "replace"]
    assert child(rename, log, moment=0).killed
    assert (tmp_path / "a").exists()


DAMAGES = [
    "all stacks black",
    "stacks of two participants swapped",
    "categories reversed in config.json",
    "3-vqvae/model.pt one bit flipped",
    "4-codes/provenance.json {}",
    "6-samples/default/sample-0001.nii.gz truncated",
]


TRAINED_AGAIN = ("categories reversed in config.json",)  # takes long, and model.pt stands for it


@pytest.mark.parametrize("name", DAMAGES)
def test_every_later_command_refuses_damage(
    study: Any, finished: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage = study.fault_damage
    artefact = next(each for each in damage.artefacts() if each.name == name)
    finished.start("sample")
    artefact.spoil(finished.run)
    figures = damage.DamageFigures()
    monkeypatch.setitem(damage.READERS, artefact.stage, damage.READERS[artefact.stage][:-1])
    damage.let_read(finished, artefact, figures)
    if name not in TRAINED_AGAIN:
        damage.repair(finished, artefact, finished.content("sample"), figures)
    assert (figures.accepted, figures.raw) == ([], [])


def test_what_is_accepted_is_counted(study: Any, finished: Any) -> None:
    damage = study.fault_damage
    harmless = damage.Artefact("nothing", "4-codes", lambda run: None)
    figures = damage.DamageFigures()
    finished.start("sample")
    damage.let_read(finished, damage.Artefact("nothing", "", harmless.spoil), figures)
    assert figures.accepted == []
    finished.start("sample")
    (finished.run / "2-slices" / "more.txt").touch()
    damage.repair(finished, harmless, finished.content("sample"), figures)
    assert figures.accepted == ["nothing: by encode, which left ['2-slices/more.txt']"]


@pytest.mark.parametrize("kind", ["volume", "table", "dicom", "run"])
def test_damaged_inputs_are_one_line(study: Any, finished: Any, kind: str, tmp_path: Path) -> None:
    number = 100
    made = tmp_path / "made"
    done = study.fault_stages.in_child(
        lambda: study.fault_fuzz.fuzz_kind(kind, number, 5, made, finished.of("sample")),
        tmp_path / "log",
    )
    assert done.error == ""
    assert done.answer == {"cases": number, "uncaught": {}}


def test_an_uncaught_exception_is_found(study: Any) -> None:
    def read() -> None:
        raise KeyError("x")

    assert study.fault_fuzz.exception_of(read).startswith("KeyError at ")
    assert study.fault_fuzz.exception_of(lambda: None) == ""


def test_the_figures_are_written_as_they_come(study: Any, tmp_path: Path) -> None:
    out = tmp_path / "faults.json"
    figures = study.faults.Study(out)
    figures.begin("kills", 2)
    found = study.fault_kills.KillFigures(identical=1, notes=["encode: lost"])
    found.kills.update({"encode": 2})
    figures.kills(found)
    figures.fuzz({"cases": {"table": 3}, "uncaught": {"table: KeyError": 2}})
    told = json.loads(out.read_text())
    assert (told["kills"], told["identical_resumes"], told["kills_encode"]) == (2, 1, 2)
    assert (told["fuzz_cases"], told["uncaught"]) == (3, 1)
    assert told["notes"] == ["encode: lost", "fuzz: 2 x table: KeyError"]
    assert figures.broken() == 1
    assert "identical_resumes" in figures.table()


def test_kills_are_shared_out_over_all_stages(study: Any) -> None:
    shares = [stage.name for stage in study.fault_kills.share_out(300)]
    assert set(shares) == {stage.name for stage in study.fault_stages.STAGES}
    assert shares.count("prepare") > shares.count("evaluate") > 0
