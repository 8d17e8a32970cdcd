"""The words that texts for users avoid, and what a user reads in a file."""

from __future__ import annotations

import ast
import html
import io
import re
import tokenize
from collections.abc import Iterator

# Names and identifiers that contain such a word.
NAMES = ("`strangers`", '"strangers"', "`Cohort.people()`", "`Person`")

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
    "(?:tell|tells|telling|told) (?:\\w+ ){0,4}from": "distinguish",
    "(?:go|goes|going|went) before": "takes precedence",
    "(?:go|goes|going|went) wrong": "fails",
    "(?:take|takes|taking|taken|took) (?:\\w+ ){0,2}away": "removes",
    "(?:take|takes|taking|taken|took) (?:\\w+ ){0,2}apart": "splits, parses",
    "(?:speak|speaks) (?:for|against)": "counts for, counts against",
    "(?:stand|stands|standing) in for": "replaces",
    "(?:deal|deals|dealt) to": "assigned to",
    "without a word": "without a message",
    "(?:lead|leads) nowhere": "is broken",
    "fellows?": "other processes",
    "flatters?": "is too optimistic",
    "said": "reported",
    "told": "given, distinguished",
    "gone": "removed, missing",
    "need be": "if needed",
    "(?:go|goes|going|went) on": "continue",
    "begun": "started",
    "so many": "this number of",
    "worth a word": "reported",
    "the other way round": "the reverse",
    "the house": "the package",
    "(?:who|which) is who": "which participant",
    "learnt of": "learned from",
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


def texts_of(source: str) -> str:
    """The strings and comments of Python code on their lines; all other code is blank."""
    lines = [""] * (source.count("\n") + 2)
    for number, text in [*_strings(source), *_comments(source)]:
        for offset, line in enumerate(text.split("\n")):
            lines[min(number - 1 + offset, len(lines) - 1)] += f" {line}"
    return "\n".join(lines)


def _strings(source: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(source)):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and not node.value.isidentifier():  # names of columns and entries
            yield node.lineno, node.value


def _comments(source: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string.lstrip("# ")


def visible_text(page: str) -> str:
    """What an HTML page shows, and its alternative texts: without code, styles and other tags."""
    page = re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.DOTALL)
    shown = re.findall(r'(?:alt|title|placeholder)="([^"]*)"', page)
    return html.unescape(re.sub(r"<[^>]*>", " ", page)) + "\n".join(shown)
