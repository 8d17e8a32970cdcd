"""Texts for users are in plain technical English: the words that they avoid."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from words import texts_of, visible_text, words_to_avoid

from monai_vqbrain.cli import vqbrain

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "monai_vqbrain"


def pages() -> list[str]:
    """Every text for users, by its path in the repository."""
    found = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")]
    found += [*ROOT.glob("docs/*.md"), *ROOT.glob("bundles/*/docs/README.md")]
    found += [*ROOT.glob("docs/gallery/*.py"), *ROOT.glob("docs/gallery/*.rst")]
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


@pytest.mark.parametrize("page", pages())
def test_a_page_avoids_private_words(page: str) -> None:
    assert words_to_avoid((ROOT / page).read_text(encoding="utf-8")) == []


def commands(command: click.Command, parents: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Name and help of a command and of those below it."""
    name = (*parents, command.name or "")
    yield " ".join(name), command.get_help(click.Context(command, info_name=command.name))
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        yield from commands(below, name)


@pytest.mark.parametrize(("name", "text"), commands(vqbrain))
def test_help_avoids_private_words(name: str, text: str) -> None:
    assert "Usage:" in text
    assert words_to_avoid(text) == [], name


def parts() -> list[str]:
    """The sub-packages, and "" for the modules at the top."""
    return sorted({path.relative_to(PACKAGE).parent.as_posix() for path in PACKAGE.rglob("*.py")})


@pytest.mark.parametrize("part", parts())
def test_strings_and_comments_of_the_package_avoid_private_words(part: str) -> None:
    for path in sorted((PACKAGE / part).glob("*.py")):
        found = words_to_avoid(texts_of(path.read_text(encoding="utf-8")))
        assert found == [], path.relative_to(ROOT).as_posix()


def test_templates_avoid_private_words() -> None:
    templates = sorted(PACKAGE.rglob("*.j2"))
    assert len(templates) >= 5
    for path in templates:
        assert words_to_avoid(visible_text(path.read_text(encoding="utf-8"))) == [], path.name


@pytest.mark.parametrize("path", sorted(ROOT.glob("bundles/*/configs/metadata.json")))
def test_metadata_of_bundles_avoid_private_words(path: Path) -> None:
    description = json.loads(path.read_text(encoding="utf-8"))
    assert words_to_avoid(json.dumps(description, indent=1)) == []


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("Scores of held-out people.", "people"),
        ("a mean over each person's slices", "person"),
        ("Nobody was scanned.", "Nobody"),
        ("it may show who was scanned", "who"),
        ("2.75 bits a code", "bits a code"),
        ("2.75 bits\na code", "bits\na code"),
        ("a row a slice", "row a slice"),
        ("one command a step", "command a step"),
        ("once an epoch", "once an epoch"),
        ("the slices are made anew", "anew"),
        ("the priors of before", "of before"),
        ("12,800 bits and come back", "come back"),
        ("3 min gone, 2 min left", "gone, 2 min left"),
        ("visits that cannot be told apart", "told apart"),
        ("it goes by the first volumes", "goes by"),
        ("a value as it comes", "as it comes"),
        ("a little aside", "aside"),
        ("samples told from real slices", "told from"),
        ("tells a sample from a scan", "tells a sample from"),
        ("its table goes before the other", "goes before"),
        ("take the file away", "take the file away"),
    ],
)
def test_a_private_word_is_found(text: str, word: str) -> None:
    found = words_to_avoid(f"A first line.\n{text}\n")
    assert [line for line in found if line.startswith(f"2: {word!r}")]


@pytest.mark.parametrize(
    "text",
    [
        "cohort.participants()",
        "bits per code",
        "personal data",
        "a whole head",
        "one row per slice",
    ],
)
def test_other_words_are_not(text: str) -> None:
    assert words_to_avoid(text) == []


def test_texts_of_code_are_its_strings_and_comments_on_their_lines() -> None:
    code = 'def who(people):\n    """One\n    two."""\n    return f"three {people} four"  # five\n'
    lines = [line.split() for line in texts_of(code).splitlines()]
    assert lines[:4] == [[], ["One"], ["two."], ["three", "four", "five"]]


def test_visible_text_is_without_tags_and_code() -> None:
    page = '<style>a {}</style><p title="one">two &amp; three</p><script>four()</script>'
    assert visible_text(page).split() == ["two", "&", "three", "one"]
