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
    """The Markdown pages that are not built into the site, by their path in the repository."""
    return [
        path.relative_to(ROOT).as_posix()
        for path in (*ROOT.glob("*.md"), *ROOT.glob("bundles/*/docs/*.md"))
    ]


@pytest.mark.parametrize("page", pages())
def test_pages_outside_the_site_link_to_files_that_are_there(page: str) -> None:
    file = ROOT / page
    links = re.findall(r"\]\(([^)\s]+)\)", file.read_text(encoding="utf-8"))
    local = [link.partition("#")[0] for link in links if "://" not in link and link[0] != "#"]
    assert [link for link in local if not (file.parent / link).exists()] == []
