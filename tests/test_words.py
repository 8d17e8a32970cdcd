"""Texts for users are in plain technical English: the words that they avoid."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Names and identifiers that contain such a word.
NAMES = ("cohort.participants()", "`strangers`")

COUNTED = (
    "bits|codes|columns|commands?|files?|lines?|messages?|numbers|pixels|rows?|slices|steps|"
    "seconds|ms|MB|GB|MFLOP"
)
UNITS = (
    "batch|brain|code|command|epoch|grid|image|layer|level|participant|person|position|row|sample|"
    "second|session|slice|stage|step|visit|volume"
)
# What to avoid (a regular expression; a blank stands for any white space) -> what to write.
AVOID = {
    "people|persons?|folks?": "participants",
    "somebody|someone|anybody|anyone|everybody|everyone|nobody|no one": "participants, users",
    "whom?|who's": "participants that",
    "strangers?": "other participants",
    f"(?:{COUNTED}) an? (?:{UNITS})": "per",
    f"once an? (?:{UNITS})": "once per",
    "anew": "again",
    "of before": "previous",
    "the (?:code|one|slice) before(?=[.,;:)])": "previous",
    "(?:come|comes|came|coming) back": "is returned, is restored",
    "(?:give|gives|gave|given|giving) back": "returns",
    r"gone, [^.]{0,40}\bleft": "elapsed, remaining",
    "(?:tell|tells|telling|told) (?:\\w+ ){0,4}apart": "distinguish",
    "(?:go|goes|went) by": "follows",
    "as (?:it|they) (?:comes?|stands?|lies?|ships?)": "unchanged, default",
    "aside|as it might have been": "shifted, augmented",
    "by heart": "memorise",
    "found of": "found in",
    "alike": "similar, the same",
    "mends?|mended": "fixes, the command to run",
    "training manifold": "several-fold",
    "flattened by": "bias-field corrected with",
    "twelve parameters": "12 degrees of freedom",
    "same millimetres": "the same MNI coordinates",
    "(?:stand|stands|stood) beside": "is listed with",
    "turn by turn|in turns": "alternately",
    "peers?": "baseline, alternative",
    "in hand|at hand": "available",
    "say so|says so": "reports, warns",
    "passed over": "skipped",
    "shared out": "assigned",
    "for good": "permanently",
}


def words_to_avoid(text: str) -> list[str]:
    """Each avoided word of `text` as 'line: word (what to write)', in the order of the list."""
    for name in NAMES:
        text = text.replace(name, " " * len(name))
    return [
        f"{text.count(chr(10), 0, match.start()) + 1}: {match[0]!r} ({instead})"
        for pattern, instead in AVOID.items()
        for match in expression(pattern).finditer(text)
    ]


def expression(pattern: str) -> re.Pattern[str]:
    """The pattern between word boundaries, in any case, across line breaks."""
    anywhere = pattern.replace(" ", r"\s+")
    return re.compile(rf"\b(?:{anywhere})\b", re.IGNORECASE)


def pages() -> list[str]:
    """Every text for users, by its path in the repository."""
    found = [ROOT / "README.md", ROOT / "CHANGELOG.md"]
    found += [*ROOT.glob("docs/*.md"), *ROOT.glob("bundles/*/docs/README.md")]
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


@pytest.mark.parametrize("page", pages())
def test_a_page_avoids_private_words(page: str) -> None:
    assert words_to_avoid((ROOT / page).read_text(encoding="utf-8")) == []


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
