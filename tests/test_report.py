"""The report: whole, offline, small, accessible, and without participant ids unless asked."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_metrics import cohort, groups, mean, sample_metrics
from made_run import decode, finish, finish_again, make_run, make_scores
from PIL import Image
from words import visible_text, words_to_avoid

from monai_vqbrain.contents import seal
from monai_vqbrain.errors import UsageError, VQBrainError
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.stages import report as stage
from monai_vqbrain.stages.report import _id_replacer, plain_answers, report
from monai_vqbrain.stages.reporting import pages
from monai_vqbrain.stages.reporting.summary import summarise


def evaluated(path: Path, **parts: bool) -> RunFolder:
    """A made-up run with its metrics.json, as `vqbrain evaluate` leaves it."""
    run = make_run(path, **parts)
    if parts.get("prior", True):
        make_scores(run, run.report)
    run.report.mkdir(exist_ok=True)
    (run.report / "metrics.json").write_text(json.dumps(summarise(run, run.report, decode)))
    finish(run.report, {})
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return evaluated(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def html(run: RunFolder) -> str:
    return report(run.path).read_text()


def add_everything(run: RunFolder) -> None:
    """Add every section to a run's metrics.json, and every picture to its report folder."""
    path = run.report / "metrics.json"
    metrics = json.loads(path.read_text())
    metrics["fidelity"]["test"]["ms_ssim_whole"] = mean(0.97)
    metrics["fidelity"]["groups"] = groups()
    few = {"images": {"synthetic": 3}, "not_measured": "samples are measured with at least 10"}
    sets = {"other_sets": {"AD-75": sample_metrics(), "few": few}}
    path.write_text(json.dumps(metrics | sample_metrics() | sets | {"cohort": cohort()}))
    for name in ("panel", "worst", "closest"):
        shutil.copy(run.report / "nearest.png", run.report / f"{name}.png")
    finish_again(run.report)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a run of which everything was measured."""
    run = evaluated(tmp_path_factory.mktemp("full"))
    add_everything(run)
    return re.sub(r"\s+", " ", report(run.path).read_text())


class Resources(HTMLParser):
    """Collects loads, links within the page and ids; checks that every tag is closed."""

    VOID = ("meta", "img", "br", "link", "input", "hr")

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: set[str] = set()
        self.ids: set[str] = set()
        self.tags: list[str] = []
        self.alts: list[str] = []
        self.language = ""
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open += [] if tag in self.VOID else [tag]
        found = [v or "" for k, v in attrs if k in ("src", "href", "srcset", "data")]
        self.loads += [v for v in found if not v.startswith("#")]
        self.links |= {v[1:] for v in found if v.startswith("#")}
        self.ids |= {v or "" for k, v in attrs if k == "id"}
        self.alts += [dict(attrs).get("alt") or ""] if tag == "img" else []
        self.language = dict(attrs).get("lang") or self.language

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_it_loads_nothing_from_anywhere(html: str) -> None:
    page = Resources()
    page.feed(html)
    assert not page.open
    assert page.links <= page.ids
    assert {"link", "iframe"}.isdisjoint(page.tags)
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in html
    assert len(page.loads) >= 9
    assert all(load.startswith("data:image/png;base64,") for load in page.loads)
    assert not re.search(r"url\(|@import|https?://", html)


@pytest.mark.parametrize("page", ["html", "full"])
def test_it_can_be_read_aloud(page: str, request: pytest.FixtureRequest) -> None:
    found = Resources()
    found.feed(request.getfixturevalue(page))
    assert found.language == "en"
    assert all(len(alt) > 20 for alt in found.alts)
    assert len(set(found.alts)) == len(found.alts)
    levels = [int(tag[1]) for tag in found.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise([0, *levels]))


def test_its_text_avoids_private_words(full: str) -> None:
    text = visible_text(full)
    assert "Can the samples be distinguished from real slices?" in text
    assert "Near copies of training slices were detected" in text
    assert words_to_avoid(text) == []


def test_every_citation_has_a_reference_and_a_bibtex_entry(full: str) -> None:
    methods = full[full.index('id="methods"') : full.index('id="claims"')]
    quoted = methods[methods.index('class="quote"') : methods.index('class="references"')]
    cited = {int(number) for number in re.findall(r"\[(\d+)\]", quoted)}
    listed = methods[methods.index('class="references"') : methods.index("</ol>")].count("<li")
    entries = re.findall(r"@(?:article|inproceedings|misc)\{(\w+),", methods)
    assert len(cited) > 5
    assert cited == set(range(1, listed + 1))
    assert len(entries) == len(set(entries)) == listed


def test_sets_of_samples_stand_side_by_side(full: str) -> None:
    table = re.search(r'<section id="sets">.*?</table>', full)
    assert table is not None
    rows = re.findall(r"<tr.*?</tr>", table[0])[1:]
    assert [re.sub(r"<.*?>", " ", row).split()[0] for row in rows] == ["default", "AD-75", "few"]
    assert "0.54 (0.36 to 0.72)" in rows[0]
    assert "samples are measured with at least 10" in rows[2]


TERMS = ("Images", "Participants", "Unit", "Range", "Mask", "Feature space", "Interval", "Protocol")


def test_every_section_with_figures_says_how_they_were_computed(full: str) -> None:
    sections = dict(re.findall(r'<section id="(\w+)">(.*?)</section>', full))
    without = {"scorecard", "glance", "methods", "claims", "provenance"}
    assert sections.keys() - without == {
        "samples", "sets", "detectability", "distribution", "anatomy", "privacy", "utility",
        "participants", "reconstruction", "codebook", "prior", "cohort",
    }  # fmt: skip
    for name in sections.keys() - without:
        last = sections[name].rsplit('<details class="how">', 1)[-1]
        assert re.findall(r"<dt>(.*?)</dt>", last) == list(TERMS), name
        assert "<dt>Protocol</dt><dd>vqbrain-eval-1</dd>" in last


@pytest.mark.parametrize(
    "words",
    [
        "MS-SSIM, whole image",
        "By position, diagnosis, sex, age",
        '<td class="number">0.25</td> <td class="number">3</td>',
        "<td>60-69</td>",
        "SSIM inside the brain by slice position, with 95 % intervals",
        "The test slices with the lowest SSIM inside the brain",
        "<td>ventricle area</td> <td>age</td> <td>cm², per year</td>",
        "0.0310 (0.0100 to 0.0500)",
        "<td>diagnosis: AD - CN</td>",
        "-0.03 (-0.12 to 0.04)",
        "64 images, 5 participants, p = 0.010",
        "not measurable: no sample has a requested diagnosis",
        "not measurable: the classifier of real slices is at chance (AUC 0.52, p = 0.31)",
        '<td class="number">0.61 (0.45 to 0.75)</td> <td class="number">0.64 (0.50 to 0.78)</td>',
        "p-value, cross-fitted",
        "A prior saves 12.3 (2.1 to 22.5) bits per slice on participants that it was trained on",
        "each participant is compared with itself",
        "conditional minus unconditional bits, the larger of 2 scores",
        "smallest p-value, corrected for 2 scores",
        "0.0642",
        "<td>weights.pt</td>",
        "<h2>Another cohort</h2>",
        "<strong>other-run</strong>",
        "<td>bits per code</td>",
        "<td>KID, weights.pt</td>",
        "<td>sex, AUC, trained on synthetic slices</td>",
        "0.710 (0.700 to 0.720)",
        "Undecided: the interval is too wide",
        "0.25 (-1.6 × 10⁹ to 0.60)",
        "95 % percentile interval of a bootstrap over participants, 1,000 draws, seed 0",
        "random, texture, encoder, weights.pt; standardised on training slices",
        "BibTeX",
        "Naeem MF, Oh SJ",
    ],
)
def test_it_shows_what_was_measured(full: str, words: str) -> None:
    text = re.sub(r"\s*(<t[dh])", r" \1", full)
    text = re.sub(r' data-value="[^"]*"', "", text)
    assert words in text


def test_scorecard_rows_lead_to_their_sections(full: str) -> None:
    card = re.search(r'<section id="scorecard">.*?</section>', full)
    assert card
    assert re.findall(r'<a href="#(\w+)">', card[0]) == [
        "detectability", "distribution", "anatomy", "privacy", "utility", "participants",
    ]  # fmt: skip
    for words in ("Open all sections", 'title="undecided"'):
        assert words in card[0]


def test_it_has_its_own_name_while_it_is_made(run: RunFolder, tmp_path: Path) -> None:
    work = tmp_path / ".7-report.partial"
    shutil.copytree(run.report, work)
    assert stage._stages(run, work, {"sub-01": "P01"})[-1]["name"] == "7-report"


def test_it_is_small(html: str) -> None:
    assert len(html.encode()) < 1_000_000


def test_large_pictures_are_reduced(tmp_path: Path) -> None:
    run = evaluated(tmp_path)
    add_everything(run)
    noise = np.random.default_rng(0).integers(0, 256, (1536, 4096), dtype=np.uint8)
    for name in ("panel", "worst", "closest", "nearest"):
        Image.fromarray(noise).save(run.report / f"{name}.png")
    finish_again(run.report)
    assert report(run.path).stat().st_size < 5 * 1024 * 1024


def test_a_file_above_the_limit_is_refused(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "MAX_BYTES", 1000)
    with pytest.raises(VQBrainError, match=r"the report would have .* MB, more than 5"):
        report(run.path)


def test_participants_have_labels_and_the_key_stays_in_the_run(run: RunFolder, html: str) -> None:
    assert "secret" not in html
    key = pd.read_csv(run.report / "key.tsv", sep="\t")
    assert list(key.columns) == ["label", "participant_id"]
    assert key.iloc[0].tolist() == ["P01", "sub-secret01"]
    assert len(key) == 11


def test_ids_in_a_command_are_replaced_too(tmp_path: Path) -> None:
    run = evaluated(tmp_path, samples=False)
    path = run.slices / "provenance.json"
    record = json.loads(path.read_text()) | {"command": "vqbrain prepare /data/sub-secret03 R"}
    path.write_text(json.dumps(seal({n: v for n, v in record.items() if n != "seal"})))
    assert "vqbrain prepare /data/P03 R" in report(run.path).read_text()
    assert "vqbrain prepare /data/sub-secret03 R" in report(run.path, show_ids=True).read_text()


def test_ids_that_are_numbers_do_not_change_the_numbers_of_options() -> None:
    hide = _id_replacer({"4": "P01", "60": "P02", "sub-4": "P03"})
    command = (
        "vqbrain sample /runs/x -n 4 --seed 60 --condition age=60 --positions -60:60:4 "
        "--known /data/4/60_T1w.nii.gz --mask 4/m.nii 60_T1.nii 4.5 run-4 /study/run-4/sub-4 '4/a'"
    )
    assert hide(command) == (
        "vqbrain sample /runs/x -n 4 --seed 60 --condition age=60 --positions -60:60:4 "
        "--known /data/P01/P02_T1w.nii.gz --mask P01/m.nii P02_T1.nii 4.5 run-4 /study/run-4/P03 "
        "'P01/a'"
    )
    assert _id_replacer({"7": "P01"})("prepare /d/7 -n 7") == "prepare /d/P01 -n 7"


@pytest.mark.parametrize(
    "words",
    [
        "<strong>Simulated.</strong>",
        "this VQ-VAE",
        "pooling: 4 × 4 means, cubic zoom",
        "black image",
        "reoriented to RAS axes (12 volumes of 11 participants)",
        "Axial slices of 32 × 32 pixels with a pixel size of 1.8 × 1.8 mm",
        "3.6 mm apart",
        "99.5th percentile",
        "within these by a hash of seed 0",
        "diagnosis: not known",
        "65.6 (60.5 to 70.5)",
        "1 problem with the input",
        "1 min 15 s",
        "4.2 s",
        "torch",
        "That samples are anonymous",
        "derived data under its data use agreement",
        "Wang Z, Bovik AC",
        "They are not scans.",
    ],
)
def test_it_says(html: str, words: str) -> None:
    text = re.sub(r"\s+", " ", html)
    assert words in text


def test_parts_that_are_absent_are_left_out(tmp_path: Path) -> None:
    run = evaluated(tmp_path, prior=False, samples=False, simulated=False)
    html = report(run.path).read_text()
    for heading in ("Simulated.", "<h2>Prior</h2>", "<h2>Samples"):
        assert heading not in html
    for heading in ("<h2>Codebook</h2>", "<h2>Reconstruction of unseen participants</h2>"):
        assert heading in html


def test_text_from_tables_is_escaped(tmp_path: Path) -> None:
    run = evaluated(tmp_path, samples=False)
    path = run.slices / "slices.tsv"
    path.write_text(path.read_text().replace("\tAD\t", "\t<b>AD</b>\t"))
    finish_again(run.slices)
    assert "&lt;b&gt;AD&lt;/b&gt;" in report(run.path).read_text()


def test_a_run_without_numbers_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"7-report is not in .* first run: vqbrain evaluate"):
        report(tmp_path)


def set_codes(metrics: dict) -> None:
    metrics["codebook"]["used"] = 1


def set_fidelity(metrics: dict) -> None:
    metrics["fidelity"]["test"]["ssim_brain"]["mean"] = 0.2


def set_prior(metrics: dict) -> None:
    metrics["prior"]["bits_per_code"] = 9.0


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (set_codes, "1 of 16 codes occur"),
        (set_fidelity, "not above the best trivial predictor, nearest training slice: 0.200"),
        (set_prior, "needs no fewer bits per code"),
    ],
)
def test_findings_name_what_is_wrong(
    run: RunFolder, spoil: Callable[[dict], None], words: str
) -> None:
    metrics = json.loads((run.report / "metrics.json").read_text())
    metrics["fidelity"]["test"]["ssim_brain"]["mean"] = 0.99
    assert all(finding["good"] for finding in plain_answers(metrics))
    spoil(metrics)
    doubts = [finding["text"] for finding in plain_answers(metrics) if not finding["good"]]
    assert len(doubts) == 1
    assert words in doubts[0]
