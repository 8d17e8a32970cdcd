"""Tables as users save them: delimiters, encodings, quotation marks, rows of unequal length."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from monai_vqbrain.cohorts.cohort import Problem
from monai_vqbrain.tables import check_table_size

DELIMITERS = "\t,;"
KEYS = re.compile(r"(participant|subject|image|image[ _]data)[ _]?(id)?|ptid|id|file(name)?")
UNTIL_THEN = "fix it; until then its data on participants are missing"

Rows = list[list[str]]


class NotATableError(ValueError):
    """A file that cannot be read as a table unambiguously; the message gives the reason."""


def read_table(path: Path) -> tuple[pd.DataFrame, list[Problem]]:
    """Read a CSV or TSV as text: every cell is a string, the header is unchanged.

    The delimiter is the tab, comma or semicolon with which no row has more cells than the header.
    The encoding is UTF-8, UTF-16 or otherwise Latin-1, in which every byte is a letter. Empty cells
    beyond the header are dropped, short rows are filled with empty cells.

    Returns:
        The table, empty if the file is not one; and the problems of the file.
    """
    try:
        check_table_size(path, DELIMITERS)
        text, encoding = decode(path.read_bytes())
        rows, remarks = parse(text, "\t" if path.suffix.lower() == ".tsv" else ",")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        return pd.DataFrame(), [
            Problem(path.name, f"cannot be read as a table ({why})", UNTIL_THEN)
        ]
    if encoding == "latin-1":
        remarks = [("is not UTF-8, read as Latin-1", "save it as UTF-8"), *remarks]
    table = pd.DataFrame(rows[1:], columns=_unique(rows[0]), dtype=str)
    return table, [Problem(path.name, *remark) for remark in remarks]


def decode(content: bytes) -> tuple[str, str]:
    """The text of a file, and its encoding; without a byte-order mark.

    Args:
        content: the bytes of the file, in UTF-8, UTF-16 or otherwise Latin-1.
    """
    encoding = "utf-8-sig"
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif b"\0" in content[:2]:  # the first letter of a table is in Latin-1
        encoding = "utf-16-be" if content[0] == 0 else "utf-16-le"
    try:
        return content.decode(encoding), encoding
    except UnicodeDecodeError:
        return content.decode("latin-1"), "latin-1"


def parse(text: str, usual: str) -> tuple[Rows, list[tuple[str, str]]]:
    """Parse the text of a table.

    Args:
        text: the text.
        usual: the delimiter by the file's name, preferred if several fit.

    Returns:
        The header and the rows, all of one length; remarks, each a problem and an advice.

    Raises:
        NotATableError: if no delimiter fits or the text is empty.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:
        raise NotATableError("it contains null bytes")
    named = re.match(r"sep=(.)\n", text)  # written by Excel
    text = text[named.end() :] if named else text
    found = []
    for delimiter in named.group(1) if named else usual + DELIMITERS.replace(usual, ""):
        for quotes in (True, False):
            rows = _split(text, delimiter, quotes)
            if rows is not None and _fits(rows):
                found.append((_known_columns(rows[0]), _width(rows[0]) > 1, rows, quotes))
                break
    if not found:
        raise NotATableError(_why_not(text, named.group(1) if named else usual))
    _, _, rows, quotes = max(found, key=lambda one: one[:2])  # the usual one, if they are equal
    width = _width(rows[0])
    short = sum(len(row) < width for row in rows)
    remarks = [] if quotes else [("has an unpaired quotation mark, read as a letter", "remove it")]
    if short:
        problem = f"{short} of its rows end before the last column, filled with empty cells"
        remarks.append((problem, "nothing, or complete them"))
    repeated = [
        name for name, count in Counter(map(str.lower, rows[0])).items() if name and count > 1
    ]
    if repeated:
        problem = f"has several columns {', '.join(repeated)}, of which the first is used"
        remarks.append((problem, "remove the others, or rename the first"))
    return [row[:width] + [""] * (width - len(row)) for row in rows], remarks


def _split(text: str, delimiter: str, quotes: bool) -> Rows | None:
    """The cells of each non-empty line; None if quotation marks are not paired."""
    lines = csv.reader(
        io.StringIO(text),
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE,
        skipinitialspace=delimiter != "\t",
        strict=True,
    )
    try:
        rows = [[cell.strip() for cell in line] for line in lines]
    except csv.Error:
        return None
    rows = [row for row in rows if any(row)]
    if not quotes:
        return [[re.sub(r'^"(.*)"$', r"\1", cell) for cell in row] for row in rows]
    return None if any(_swallows(row, _width(rows[0]), delimiter) for row in rows) else rows


def _swallows(row: Sequence[str], width: int, delimiter: str) -> bool:
    """Whether quotation marks have joined whole rows: each line in a cell completes a row."""
    for number, cell in enumerate(row):
        if "\n" in cell and delimiter in cell:
            first, *middle, last = (line.count(delimiter) + 1 for line in cell.split("\n"))
            lines = [number + first, *middle, last + len(row) - number - 1]
            if all(count >= width for count in lines):
                return True
    return False


def _fits(rows: Rows) -> bool:
    """Whether there is a header, and no row has a non-empty cell beyond it.

    A single column whose name contains a delimiter is a row that was not split.
    """
    width = _width(rows[0]) if rows else 0
    if width == 1 and any(delimiter in rows[0][0] for delimiter in DELIMITERS):
        return False
    return width > 0 and all(_width(row) <= width for row in rows)


def _width(row: Sequence[str]) -> int:
    """The number of cells without the empty ones at the end."""
    return max((number for number, cell in enumerate(row, start=1) if cell), default=0)


def _known_columns(header: Sequence[str]) -> int:
    return sum(KEYS.fullmatch(name.lower()) is not None for name in header)


def _why_not(text: str, delimiter: str) -> str:
    if not text.strip():
        return "it is empty"
    rows = _split(text, delimiter, quotes=False) or [[]]
    for number, row in enumerate(rows, start=1):
        if _width(row) > _width(rows[0]):
            return f"line {number} has {_width(row)} cells and the header {_width(rows[0])}"
    return "its quotation marks are not paired"


def _unique(header: Sequence[str]) -> list[str]:
    """Names of columns, a repeated one with its number: `age`, `age.1`."""
    seen: dict[str, int] = {}
    names = []
    for name in header:
        number = seen[name] = seen.get(name, -1) + 1
        names.append(f"{name}.{number}" if number else name)
    return names
