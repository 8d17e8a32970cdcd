"""Cells of tables that spreadsheets would read as formulas."""

from __future__ import annotations

import re

START = r"[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]"  # the last four are those of East Asian keyboards
FORMULA = re.compile(f"'*{START}")  # with apostrophes of its own, so that reading is exact
NEUTRALISED = re.compile(f"'+{START}")


def safe_cell(text: str) -> str:
    """A text as a spreadsheet shows it: after an apostrophe if it would be run as a formula.

    Example:
        >>> safe_cell("=1+1"), safe_cell("-5"), safe_cell("AD")
        ("'=1+1", '-5', 'AD')
    """
    return f"'{text}" if FORMULA.match(text) and not _is_number(text) else text


def plain_cell(text: str) -> str:
    """The text that `safe_cell` was given.

    Example:
        >>> plain_cell("'=1+1"), plain_cell("'s")
        ('=1+1', "'s")
    """
    return text[1:] if NEUTRALISED.match(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
