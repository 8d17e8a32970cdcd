"""A table from a file as people save it: delimiters, encodings, quotation marks, uneven rows."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from monai_vqbrain.cohorts.cohort import Problem
from monai_vqbrain.tables import check_table_size

DELIMITERS = "\t,;"
KEYS = re.compile(r"(participant|subject|image|image[ _]data)[ _]?(id)?|ptid|id|file(name)?")
UNTIL_THEN = "mend it; until then what it says of participants is missing"

Rows = list[list[str]]


class NotATableError(ValueError):
    """A file that is no table that can be read without a guess; the message says why."""


def read_table(path: Path) -> tuple[pd.DataFrame, list[Problem]]:
    """Read a CSV or TSV as text: every cell a string, the header as it stands.

    The delimiter is a tab, a comma or a semicolon, whichever gives no row more cells than the
    header; the encoding UTF-8, UTF-16 or, where it is neither, Latin-1, in which every byte is a
    letter. Empty cells beyond the header are dropped, rows that end early are filled with them.

    Returns:
        The table, empty if the file is none; and what is wrong with the file.
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
    """The text of a file, and its encoding; a byte-order mark is no part of it.

    Args:
        content: the bytes of the file, in UTF-8, in UTF-16, or else taken as Latin-1.
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
    """Take the text of a table apart.

    Args:
        text: the text.
        usual: the delimiter by the file's name, preferred to others that fit as well.

    Returns:
        The header and the rows, all of one length; remarks, each a problem and an advice.

    Raises:
        NotATableError: no delimiter fits, or there is nothing to read.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:
        raise NotATableError("it holds null bytes")
    named = re.match(r"sep=(.)\n", text)  # as Excel writes it
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
    remarks = [] if quotes else [("has a stray quotation mark, read as a letter", "take it out")]
    if short:
        problem = f"{short} of its rows end before the last column, read as empty cells there"
        remarks.append((problem, "nothing, or fill them in"))
    return [row[:width] + [""] * (width - len(row)) for row in rows], remarks


def _split(text: str, delimiter: str, quotes: bool) -> Rows | None:
    """The cells of each line that has any; None where quotation marks do not come in pairs."""
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
    swallowed = any("\n" in cell and delimiter in cell for row in rows for cell in row)
    return None if swallowed else rows


def _fits(rows: Rows) -> bool:
    """There is a header, and no row has a cell beyond it; empty ones do not count.

    A single column whose name holds a delimiter is a row that was not taken apart.
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
    return "its quotation marks do not come in pairs"


def _unique(header: Sequence[str]) -> list[str]:
    """Names of columns, a repeated one with its number: `age`, `age.1`."""
    seen: dict[str, int] = {}
    names = []
    for name in header:
        number = seen[name] = seen.get(name, -1) + 1
        names.append(f"{name}.{number}" if number else name)
    return names
