"""Broken links of a built site are found, and those of the repository's own pages."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


def links_module() -> Any:
    """docs/links.py, which is no part of a package."""
    spec = importlib.util.spec_from_file_location("docs_links", ROOT / "docs" / "links.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "guide").mkdir()
    (tmp_path / "brain.png").touch()
    (tmp_path / "guide" / "index.html").write_text('<h1 id="steps">Steps</h1>')
    return tmp_path


@pytest.mark.parametrize(
    ("link", "problem"),
    [
        ('<a href="guide/index.html#steps">', None),
        ('<a href="guide/">', None),
        ('<a href="#here">', None),
        ('<a href="#top">', None),
        ('<img src="brain.png">', None),
        ('<img srcset="brain.png, brain.png 2.0x">', None),
        ('<a href="https://monai.io/nothing">', None),
        ('<a href="mailto:a@b.org">', None),
        ('<a href="guide/inde.html">', "index.html: guide/inde.html leads to no file"),
        ('<a href="guide/#step">', "index.html: guide/#step leads to no anchor"),
        ('<a href="#there">', "index.html: #there leads to no anchor"),
        ('<img src="head.png">', "index.html: head.png leads to no file"),
        ('<img srcset="brain.png, head.png 2.0x">', "index.html: head.png leads to no file"),
        ('<a href="../secret.txt">', "index.html: ../secret.txt leads to no file"),
    ],
)
def test_a_link(link: str, problem: str | None, site: Path) -> None:
    (site.parent / "secret.txt").touch()
    (site / "index.html").write_text(f'<p id="here">{link}</p>')
    assert links_module().broken_links(site) == ([problem] if problem else [])


def pages() -> list[str]:
    """All Markdown pages, by their path in the repository."""
    found = (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("bundles/*/docs/*.md"))
    return [path.relative_to(ROOT).as_posix() for path in found]


def anchors_on_github(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    text = re.sub(
        r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    titles = re.findall(r"^#{1,6} (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", pages())
def test_links_between_pages_work_where_markdown_is_read_on_github(page: str) -> None:
    file = ROOT / page
    for link in re.findall(r"\]\(([^)\s]+)\)", file.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        target = file.parent / path if path else file
        if "://" in link or path.startswith("auto_gallery/"):  # elsewhere, or in the built site
            continue
        assert target.exists(), link
        assert not anchor or anchor in anchors_on_github(target), link
