"""Different spellings of the label of a session."""

from __future__ import annotations

import re
from collections.abc import Collection

MONTH = {"month": "m", "months": "m", "mo": "m"}
BASELINE = {"bl": "m-0", "baseline": "m-0"}


def find_session(label: str, sessions: Collection[str]) -> str | None:
    """The session that a label names, possibly in another spelling.

    Args:
        label: a cell of a table.
        sessions: of one participant, with or without `ses-`.

    Returns:
        The session; None if none matches or several do.

    Example:
        >>> find_session("M12", ["ses-M000", "ses-M012"])
        'ses-M012'
    """
    same = [session for session in sessions if _bare(session) == _bare(label)]
    same = same or [session for session in sessions if session_key(session) == session_key(label)]
    return same[0] if len(same) == 1 else None


def session_key(label: str) -> str:
    """A key that is equal for labels of the same visit: without case, separators, leading zeros.

    Example:
        >>> [session_key(label) for label in ("ses-M000", "m00", "Month 0", "0 months", "bl")]
        ['m-0', 'm-0', 'm-0', 'm-0', 'm-0']
        >>> [session_key(label) for label in ("ses-01", "1", "1.0", "20060418", "2006-04-18")]
        ['1', '1', '1', '2006-4-18', '2006-4-18']
    """
    text = re.sub(r"^session(?=.)", "", _bare(label).lower())
    text = re.sub(r"^((?:19|20)\d\d)(\d\d)(\d\d)$", r"\1-\2-\3", text)
    text = re.sub(r"^(\d+)\.0+$", r"\1", text)  # a whole number that was written as a float
    parts = re.findall(r"[^\W\d_]+|\d+|[^\w\s./-]", text)
    key = "-".join(part.lstrip("0") or "0" if part.isdecimal() else MONTH.get(part, part)
                   for part in parts)  # fmt: skip
    key = re.sub(r"^(\d+)-m$", r"m-\1", key)
    return BASELINE.get(key, key)


def _bare(label: str) -> str:
    return re.sub(r"^ses-", "", label.strip(), flags=re.IGNORECASE)
