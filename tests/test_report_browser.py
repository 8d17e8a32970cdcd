"""The report in headless Chromium: quiet, offline, on a phone, on paper, sorted and folded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import CHROMIUM, Page, open_page
from test_report import add_everything, evaluated

from monai_vqbrain.stages.report import report

pytestmark = pytest.mark.skipif(
    not CHROMIUM.is_file(), reason=f"needs Chromium as {CHROMIUM}, which is not there"
)
PAPER = 718  # pixels: A4 without its margins of 10 mm


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = evaluated(tmp_path_factory.mktemp("run"))
    add_everything(run)
    return report(run.path)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with open_page(tmp_path_factory.mktemp("profile")) as page:
        yield page


OVERHANGING = """[...document.querySelectorAll("main *")].filter((one) =>
    !one.closest(".scroll > *, pre > *, .unseen") && one.checkVisibility()
    && one.getBoundingClientRect().right > innerWidth + 1)
    .map((one) => one.outerHTML.slice(0, 80))"""


@pytest.mark.parametrize("width", [390, 768, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_does_not_scroll_sideways(page: Page, file: Path, width: int, scheme: str) -> None:
    page.media(scheme=scheme)
    page.show(file, width)
    page.run("for (const fold of document.querySelectorAll('details')) fold.open = true")
    assert page.run("document.documentElement.scrollWidth") <= width
    assert page.run(OVERHANGING) == []
    wide = "[...document.querySelectorAll('.scroll')].some((b) => b.scrollWidth > b.clientWidth)"
    assert page.run(wide) is (width < 1200)  # wide tables scroll in their boxes


def test_it_logs_nothing_and_requests_nothing(page: Page, file: Path) -> None:
    page.problems.clear()
    page.requests.clear()
    page.show(file)
    assert page.run("document.images.length") > 10
    assert page.run("[...document.images].every((image) => image.naturalWidth > 0)")
    assert page.problems == []
    assert set(page.requests) == {file.as_uri()}


def test_the_policy_forbids_requests(page: Page, file: Path, tmp_path: Path) -> None:
    spoiled = tmp_path / "spoiled.html"
    spoiled.write_text(file.read_text().replace("<main>", "<main><img src='other.png'>", 1))
    page.show(spoiled)
    assert "Content Security Policy" in " ".join(page.problems)
    page.problems.clear()


def test_light_and_dark_differ(page: Page, file: Path) -> None:
    colours = []
    for scheme in ("light", "dark"):
        page.media(scheme=scheme)
        page.show(file)
        colours.append(page.run("getComputedStyle(document.body).backgroundColor"))
    assert colours == ["rgb(245, 247, 249)", "rgb(18, 23, 29)"]
    page.media()


def contrast(page: Page, what: str) -> float:
    """WCAG contrast of the text of an element and the colour of its background."""
    script = f"""(() => {{
        const one = document.querySelector({what!r});
        let behind = one;
        while (getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)")
            behind = behind.parentElement;
        return [getComputedStyle(one).color, getComputedStyle(behind).backgroundColor];
    }})()"""
    first, second = (luminance(colour) for colour in page.run(script))
    return (max(first, second) + 0.05) / (min(first, second) + 0.05)


def luminance(colour: str) -> float:
    shares = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out(page: Page, file: Path, scheme: str) -> None:
    page.media(scheme=scheme)
    page.show(file)
    for what in (".lead", "th a", ".mark.yes", ".mark.open", ".note", "tr.ours td", ".card .name"):
        assert contrast(page, what) >= 4.5, what
    page.media()


COLUMN = """[...document.querySelector('#distribution tbody').rows]
    .map((row) => row.cells[{}].textContent)"""


def test_a_click_sorts_numbers_as_numbers(page: Page, file: Path) -> None:
    page.show(file)
    head = "document.querySelectorAll('#distribution thead')[0].rows[0].cells[{}]"
    page.run(head.format(1) + ".querySelector('button').click()")
    ascending = [float(text.split(" ")[0]) for text in page.run(COLUMN.format(1))]
    assert ascending == sorted(ascending)
    assert page.run(head.format(1) + ".getAttribute('aria-sort')") == "ascending"
    page.run(head.format(1) + ".querySelector('button').click()")
    descending = [float(text.split(" ")[0]) for text in page.run(COLUMN.format(1))]
    assert descending == ascending[::-1]
    page.run(head.format(0) + ".querySelector('button').click()")
    assert page.run(COLUMN.format(0)) == ["encoder", "random", "texture", "weights.pt"]
    assert page.run(head.format(1) + ".getAttribute('aria-sort')") is None


def test_large_and_missing_numbers_sort_too(page: Page, file: Path) -> None:
    page.show(file)
    column = (
        "[...document.querySelectorAll('#utility tbody tr')].map((r) => r.cells[2].textContent)"
    )
    for _ in range(2):
        page.run("document.querySelectorAll('#utility th button')[2].click()")
        assert page.run(column) == ["0.78 (0.70\u00a0to\u00a00.90)", "–", "–"]
    page.run("""document.querySelector("#anatomy tbody").rows[0].cells[4].dataset.value = "3e7" """)
    page.run("document.querySelectorAll('#anatomy th button')[4].click()")
    first = "document.querySelector('#anatomy tbody').rows[0].cells[0].textContent"
    assert page.run(first) == "parts"


def test_the_keyboard_sorts(page: Page, file: Path) -> None:
    page.show(file)
    page.run("document.querySelectorAll('#distribution th button')[0].focus()")
    page.press("Enter")
    assert page.run(COLUMN.format(0)) == ["encoder", "random", "texture", "weights.pt"]
    page.press("Tab")
    page.press("Enter")
    assert page.run("document.activeElement.closest('th').getAttribute('aria-sort')") == "ascending"


def test_sections_fold_and_links_open_them(page: Page, file: Path) -> None:
    page.show(file)
    closed = "document.querySelectorAll('details:not([open])').length"
    page.run("document.querySelector('[data-open=true]').click()")
    assert page.run(closed) == 0
    page.run("document.querySelector('[data-open=false]').click()")
    assert page.run(closed) == page.run("document.querySelectorAll('details').length")
    page.run("document.querySelector('a[href=\"#anatomy\"]').click()")
    page.run("new Promise((done) => setTimeout(done, 100))")
    assert page.run("document.querySelector('#anatomy details').open")
    assert not page.run("document.querySelector('#privacy details').open")


def test_it_works_without_scripts(page: Page, file: Path) -> None:
    page.show(file, scripts=False)
    page.send("Emulation.setScriptExecutionDisabled", value=False)  # for what follows here
    assert page.run("document.querySelector('#anatomy details').open")
    assert page.run("document.querySelector('.controls').hidden")
    assert page.run("document.querySelectorAll('th button').length") == 0
    page.run("document.querySelector('#anatomy summary').click()")
    assert not page.run("document.querySelector('#anatomy details').open")


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_folds_are_open_on_paper_and_nothing_is_cut_off(
    page: Page, file: Path, scripts: bool
) -> None:
    page.show(file, PAPER, scripts=scripts)
    page.send("Emulation.setScriptExecutionDisabled", value=False)
    page.media("print")
    page.run("dispatchEvent(new Event('beforeprint'))")
    shown = "[...document.querySelectorAll('details > dl, details > pre')].every((one) => "
    assert page.run(shown + "one.getBoundingClientRect().height > 20)")
    assert page.run("document.documentElement.scrollWidth") <= PAPER
    cut = """[...document.querySelectorAll("table, img, pre, .scroll")].filter((one) =>
        one.getBoundingClientRect().right > innerWidth + 1)
        .map((one) => one.outerHTML.slice(0, 80))"""
    assert page.run(cut) == []
    bottom = page.run("document.querySelector('#scorecard').getBoundingClientRect().bottom")
    assert bottom < PAPER * 2**0.5  # the scorecard is on the first page
    page.media()


def test_it_prints(page: Page, file: Path) -> None:
    page.show(file)
    before = page.run("document.querySelectorAll('details[open]').length")
    printed = page.pdf()
    assert printed.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) > 8
    assert page.run("document.querySelectorAll('details[open]').length") == before


def test_tables_and_figures_are_whole_on_paper(page: Page, file: Path) -> None:
    page.show(file, PAPER)
    page.media("print")
    assert "counter(page)" in file.read_text()  # pages have numbers
    style = "getComputedStyle(document.querySelector({!r}))"
    for what in (".scroll", "figure", ".how dl", "#scorecard"):
        assert page.run(style.format(what) + ".breakInside") == "avoid", what
    assert page.run(style.format("#distribution h2") + ".breakAfter") == "avoid"
    heights = page.run("[...document.images].map((one) => one.getBoundingClientRect().height)")
    assert max(heights) < 9.6 / 2.54 * 96  # pixels: two fit on a page
    page.media()
