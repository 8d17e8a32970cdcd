"""The same image under two participants: they must not be in two splits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from monai_vqbrain.cohorts.cohort import Cohort, Problem, Scan


def with_shared_images(cohort: Cohort, described: Mapping[str, Mapping[str, Any]]) -> Cohort:
    """The cohort with groups of participants that share an image, and problems for all but one.

    Args:
        cohort: any cohort.
        described: `bytes` and `sha256` of each image, by its name in the source; images that are
            not in it, or empty, count as different.
    """
    scans: dict[str, list[Scan]] = defaultdict(list)
    for scan in cohort.scans:
        about = described.get(scan.source, {})
        if about.get("bytes"):
            scans[about["sha256"]].append(scan)
    repeats = [same for same in scans.values() if len({s.participant_id for s in same}) > 1]
    problems = [
        Problem(
            scan.source,
            f"is the same image as {first.source} ({first.name})",
            "take one of them away; until then their participants are in one split",
        )
        for first, *others in repeats
        for scan in others
    ]
    return replace(
        cohort,
        problems=(*cohort.problems, *problems),
        groups=joined({scan.participant_id for scan in same} for same in repeats),
    )


def joined(sets: Iterable[set[str]]) -> tuple[tuple[str, ...], ...]:
    """Sets that have a member in common as one, those of one member left out.

    Example:
        >>> joined([{"a", "b"}, {"c"}, {"d", "e"}, {"b", "d"}])
        (('a', 'b', 'd', 'e'),)
    """
    groups: list[set[str]] = []
    for members in sets:
        apart = [group for group in groups if not group & members]
        together = members.union(*(group for group in groups if group & members))
        groups = [*apart, together]
    return tuple(sorted(tuple(sorted(group)) for group in groups if len(group) > 1))
