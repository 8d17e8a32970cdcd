"""Participants whose names are nearly the same, or whose scans are of two sexes."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict

from monai_vqbrain.cohorts.cohort import Cohort, Problem


def identity_problems(cohort: Cohort) -> list[Problem]:
    """A problem for participants that may be one, and for each that may be two.

    Args:
        cohort: with the names of the source.
    """
    similar: dict[str, dict[str, None]] = defaultdict(dict)
    sexes: dict[str, set[str]] = defaultdict(set)
    for scan in cohort.scans:
        similar[similarity_key(scan.participant_id)][scan.participant_id] = None
        sexes[scan.participant_id] |= {scan.sex} - {""}
    problems = [
        Problem(
            name,
            f"may be the same participant as {first}: only case, zeros or separators differ",
            "give both the same name if so; until then they may be in two splits",
        )
        for first, *others in similar.values()
        for name in others
    ]
    return problems + [
        Problem(name, "is M in one scan and F in another", "check that it is one participant")
        for name, found in sexes.items()
        if len(found) > 1
    ]


def similarity_key(name: str) -> str:
    """A key that is equal for names that may be spellings of one.

    Example:
        >>> [similarity_key(name) for name in ("sub-01", "SUB_1", "1", "Anna 1", "anna01")]
        ['1', '1', '1', 'anna-1', 'anna-1']
    """
    text = unicodedata.normalize("NFKC", name).casefold()
    parts = re.findall(r"[^\W\d_]+|\d+", text)
    parts = parts[1:] if parts[:1] == ["sub"] and len(parts) > 1 else parts
    return "-".join(part.lstrip("0") or "0" if part.isdecimal() else part for part in parts) or text
