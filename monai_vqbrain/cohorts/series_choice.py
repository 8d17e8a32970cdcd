"""The series of a visit to use: T1 series by their names, and a ranking of these."""

from __future__ import annotations

import re
from collections.abc import Sequence

Rank = tuple[tuple[str, int], ...]  # criteria in order, each 0 for the preferred series

T1 = re.compile(r"mp2? ?rage|spgr|bravo|tfl ?3d|3d ?tfe|(?<![a-ce-ln-rt-z0-9])t1(?![0-9])|mpr")
NOT_T1 = re.compile(
    r"locali[sz]er|scout|survey|\bloc\b|calib|phoenix|"  # images for planning the scan
    r"(?<![a-ce-z])t2(?![0-9])|\bpd\b|proton|\b(dwi|dti|adc|asl|swi|bold|perf\w*)\b|"
    r"\b(tof|mra|angio\w*|mip|subtr\w*)\b|"
    r"\bmaps?\b|t1 ?map|t1 ?images?|\bt1 ?rho|\binv(ersion)? ?[12]\b|\bdiv\b|mp2rage.* t1$"
)
EXPLICIT_T1 = re.compile(r"rage|spgr|bravo|(?<![a-ce-ln-rt-z0-9])t1(?![0-9])")
REFORMATTED = re.compile(
    r"(?<!t1 )\bmpr (ax|axial|cor|coronal|sag|sagittal|tra|transversal|obl|range)|"
    r"\b(ax|axial|cor|coronal|tra) mpr\b|rage.* mpr\b|reformat|curved"
)
THREE_D = re.compile(r"3d|rage|bravo|spgr|\biso\b|mpr")
TWO_D = re.compile(r"2d|\b(se|tse|fse)\b|flair")
CONTRAST = re.compile(r"\b(gd|gad\w*|post|km|ce|contrast)\b|\+ ?c\b|\bc ?\+")
PLAIN = re.compile(r"\b(pre|non|no|without|w o|wo|ohne|nativ)\b")
REPEAT = re.compile(r"mpr r\b|repe")


def is_t1(series: str) -> bool:
    """Whether a series' name or description is one of T1-weighted images.

    Localizers, maps of T1, the inversions of MP2RAGE and images of another weighting are not.

    Example:
        >>> is_t1("MPR__GradWarp__B1_Correction__N3__Scaled"), is_t1("MPR AX FLAIR")
        (True, False)
    """
    words = _words(series)
    if NOT_T1.search(words) or not T1.search(words):
        return False
    doubtful = "flair" in words or REFORMATTED.search(words)
    return not doubtful or EXPLICIT_T1.search(words) is not None


def names_t1(name: str) -> bool:
    """Whether T1 is in the name of a file, among others: `T1_to_T2` is a registered T1.

    Example:
        >>> names_t1("p1_T1_to_T2"), names_t1("p1_T2")
        (True, False)
    """
    return T1.search(_words(name)) is not None


def rank_of_series(
    series: str,
    reformatted: bool | None = None,
    acquisition: str = "",
    contrast: bool = False,
) -> Rank:
    """Rank a T1 series by type, dimensions, contrast agent and name; the lowest is used.

    Args:
        series: its name or description.
        reformatted: whether it is, by its header; None: by its name.
        acquisition: `3D` or `2D`; empty: by its name.
        contrast: whether its header names a contrast agent.

    Returns:
        The criteria in order, each with a description and a number.
    """
    words = _words(series)
    if reformatted is None:
        reformatted = REFORMATTED.search(words) is not None
    dimensions = acquisition or ("3D" if THREE_D.search(words) else "")
    dimensions = dimensions or ("2D" if TWO_D.search(words) else "")
    given = contrast or bool(CONTRAST.search(words) and not PLAIN.search(words))
    return (
        ("original before reformatted", int(reformatted)),
        ("3D before 2D", ("3D", "", "2D").index(dimensions)),
        ("without contrast agent before with", int(given)),
        ("named T1 before unnamed", int(not is_t1(series))),
        ("UNI image of MP2RAGE", int("mp2rage" in words and "uni" not in words)),
        ("no repeat", int(bool(REPEAT.search(words)))),
        ("corrected for distortion", int(words.endswith(" nd"))),
    )


def reason(used: Sequence[tuple[str, int]], other: Sequence[tuple[str, int]], last: str) -> str:
    """The criterion that decided between two series; `last` if all are equal.

    Example:
        >>> reason(rank_of_series("t1_mprage"), rank_of_series("AX T1 SE"), "newest")
        '3D before 2D'
    """
    differ = (words for (words, mine), (_, its) in zip(used, other, strict=True) if mine != its)
    return next(differ, last)


def _words(series: str) -> str:
    """Lower-case words: `t1_MPRAGE__sag` as `t1 mprage sag`."""
    return re.sub(r"[^a-z0-9+]+", " ", series.lower()).strip()
