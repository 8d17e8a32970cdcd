"""Identifiers of participants and sessions that are safe in file names."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from dataclasses import replace

from monai_vqbrain.cohorts.cohort import Cohort, Problem, Scan, visit_order

SAFE = re.compile(r"\w([\w.+ -]*[\w.+-])?")
MARK = "~"  # before a hash; no safe identifier contains it
MAX_BYTES = 80  # a file name has up to 255: two identifiers and other parts
READABLE_BYTES = 60  # of an identifier that is replaced


def with_safe_ids(cohort: Cohort) -> Cohort:
    """The cohort with identifiers that are safe in file names, and a problem for each replaced.

    All identifiers from tables, headers and file names are converted here. Different pairs of
    participant and session have different names (`Scan.name`).
    """
    scans = [
        replace(s, participant_id=safe_id(s.participant_id), session_id=safe_id(s.session_id))
        for s in cohort.scans
    ]
    ids = dict.fromkeys(text for s in cohort.scans for text in (s.participant_id, s.session_id))
    replaced = {text: safe_id(text) for text in ids if safe_id(text) != text}
    problems = [
        Problem(text, f"cannot be used in file names, replaced by {name}", "nothing")
        for text, name in replaced.items()
    ]
    return replace(
        cohort,
        scans=tuple(sorted(_with_distinct_names(scans), key=visit_order)),
        problems=(*cohort.problems, *problems),
    )


def safe_id(text: str) -> str:
    """The identifier itself if a file name may contain it, else its letters and a hash of it.

    The result depends on the identifier alone, so that adding participants renames no other, and
    different identifiers have different results.

    Example:
        >>> safe_id("002_S_0295"), safe_id("ADNI1/GO Month 12"), safe_id("../X")
        ('002_S_0295', 'ADNI1_GO_Month_12~9a31d07a', 'X~720ef6fd')
    """
    if not text or (SAFE.fullmatch(text) and len(text.encode()) <= MAX_BYTES):
        return text
    letters = "_".join(re.findall(r"[\w+]+", text)).encode()[:READABLE_BYTES]
    return f"{letters.decode(errors='ignore') or 'id'}{MARK}{_digest(text)}"


def _with_distinct_names(scans: list[Scan]) -> list[Scan]:
    """The scans; sessions get a hash where `a_b`, `c` and `a`, `b_c` would share the name a_b_c."""
    keys: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for scan in scans:
        keys[scan.name].add((scan.participant_id, scan.session_id))
    return [
        replace(scan, session_id=f"{scan.session_id}{MARK}{_digest(scan.participant_id)}")
        if len(keys[scan.name]) > 1 and scan.session_id
        else scan
        for scan in scans
    ]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
