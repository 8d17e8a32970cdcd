"""The tutorials' commands run as they stand, on a tiny cohort with tiny networks.

Blocks that are marked `<!-- executed -->` are run in their order; afterwards every file that the
page names has to be there, and the page on the run folder has to describe every file.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_vqbrain.cli import vqbrain
from monai_vqbrain.cohorts import make_phantom

DOCS = Path(__file__).parents[1] / "docs"
PARTICIPANTS = 6
TINY = {  # options that make a command quick; they win over those of the page
    "prepare": "--size 32 32 --spacing 6 --count 4",
    "train vqvae": "--epochs 1 --set slices_per_epoch=32 --set network_def#width=8 "
    "--set network_def#num_codes=16 --set network_def#blocks=[1,1]",
    "train prior": "--epochs 1 --set slices_per_epoch=32 --set network_def#channels=8 "
    "--set network_def#layers=1",
    "sample": "-n 4",
}


def executed(page: str) -> Iterator[list[str]]:
    """The words of each marked command, without `vqbrain`."""
    text = (DOCS / page).read_text(encoding="utf-8")
    blocks = re.findall(r"(?ms)^<!-- executed -->\n```console\n(.*?)^```", text)
    assert blocks
    for line in "".join(blocks).splitlines():
        program, *words = shlex.split(line)
        assert program == "vqbrain"
        yield words


def run(words: list[str]) -> None:
    """Run a command with the options that make it quick, and without its minutes."""
    name = next((name for name in TINY if words[: len(name.split())] == name.split()), "")
    if "--minutes" in words:
        place = words.index("--minutes")
        words = words[:place] + words[place + 2 :]
    quick = [*words, *TINY.get(name, "").split()]
    vqbrain.main(quick, prog_name="vqbrain", standalone_mode=False, obj={"debug": False})


def named_files(page: str) -> set[str]:
    """The paths in run folders that a page names."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return set(re.findall(r"`((?:trial|my-run|comparison)/[\w./-]+)`", text))


def described() -> list[str]:
    """The patterns of the files that the page on the run folder describes."""
    text = (DOCS / "run-folder.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| (`.+?`) \|", text, flags=re.MULTILINE)
    names = re.findall(r"`([^`]+)`", " ".join(cells))
    return [re.sub(r"NAME|AXIS|SET|NUMBER", "*", name) for name in names]


def undescribed(run: Path) -> list[str]:
    """The files of a run that no pattern fits; hidden ones are left out."""
    files = [path.relative_to(run) for path in run.rglob("*") if path.is_file()]
    shown = [f.as_posix() for f in files if not any(part.startswith(".") for part in f.parts)]
    return [name for name in shown if not any(fnmatch(name, one) for one in described())]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "source"),
    [("tutorial-first-run.md", "vqbrain-demo/0-phantom"), ("tutorial-own-cohort.md", "my-bids")],
)
def test_a_tutorial_from_volumes_to_the_report(
    page: str, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_phantom(source, participants=PARTICIPANTS, resolution_mm=4, second_sessions=0)
    for words in executed(page):
        run(words)
    assert len(named_files(page)) >= 5
    assert [name for name in named_files(page) if not (tmp_path / name).exists()] == []
    assert undescribed(next(iter(tmp_path.glob("*/2-slices"))).parent) == []


def test_the_tutorial_that_compares_a_generator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for folder in ("real", "theirs"):
        Path(folder).mkdir()
        for number in range(PARTICIPANTS):
            pixels = rng.integers(0, 256, (32, 32), dtype=np.uint8)
            Image.fromarray(pixels).save(f"{folder}/{number}.png")
    rows = [f"{number}.png\tsub-{number}" for number in range(PARTICIPANTS)]
    Path("participants.tsv").write_text("\n".join(["image\tparticipant_id", *rows]) + "\n")
    for words in executed("tutorial-compare-generator.md"):
        run(words)
    files = named_files("tutorial-compare-generator.md")
    assert files == {"comparison/report.html", "comparison/metrics.json"}
    assert [name for name in files if not (tmp_path / name).exists()] == []
