"""Broken links of a built site, found without a network."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ADDRESSES = ("href", "src", "data")  # attributes that name a file or an anchor


def broken_links(site: Path) -> list[str]:
    """Check every relative link and anchor of a site.

    Args:
        site: folder with the HTML pages; links out of it count as broken, links to other hosts
            are not followed.

    Returns:
        One line per broken link: page, link, and what is missing. Sorted.
    """
    pages = {page.resolve(): _Page(page) for page in site.rglob("*.html")}
    return sorted(
        f"{page.relative_to(site.resolve())}: {link} leads to no {missing}"
        for page, content in pages.items()
        for link in content.links
        if (missing := _missing(page, link, pages, site.resolve()))
    )


def _missing(page: Path, link: str, pages: dict[Path, _Page], site: Path) -> str:
    """What the link lacks: "file" or "anchor"; nothing if it is whole."""
    address = urlsplit(link)
    if address.scheme or address.netloc:
        return ""
    path = unquote(address.path)
    target = (page.parent / path).resolve() if path else page
    if target.is_dir():
        target /= "index.html"
    if not target.is_relative_to(site) or not target.is_file():
        return "file"
    anchor = unquote(address.fragment)
    return "anchor" if anchor and target in pages and anchor not in pages[target].ids else ""


class _Page(HTMLParser):
    """The links and anchors of a page."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.ids = {"top"}  # browsers know it without an element
        self.links: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the ids and the links of an element."""
        for name, value in attrs:
            if name == "id" or (name == "name" and tag == "a"):
                self.ids.add(value or "")
            elif name in ADDRESSES and value:
                self.links.add(value)
            elif name == "srcset" and value:
                self.links |= set(_sources(value))


def _sources(srcset: str) -> Iterator[str]:
    """The addresses of `a.png, b.png 2.0x`."""
    for part in srcset.split(","):
        yield part.split()[0]
