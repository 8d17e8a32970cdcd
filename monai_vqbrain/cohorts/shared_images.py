"""The same image under two participants: they must not be in two splits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from monai_vqbrain.cohorts.cohort import Cohort, Problem, Scan


def with_shared_images(
    cohort: Cohort, described: Mapping[str, Mapping[str, Any]], same: str = "is the same image as"
) -> Cohort:
    """The cohort with groups of participants that share an image, and problems for all but one.

    Args:
        cohort: any cohort; its groups are kept, and have a problem each.
        described: `bytes` and `sha256` of each image or of its slices, by its name in the source;
            images that are not in it, or empty, count as different.
        same: what two equal ones have in common, for the problem.
    """
    scans: dict[str, list[Scan]] = defaultdict(list)
    for scan in cohort.scans:
        about = described.get(scan.source, {})
        if about.get("bytes"):
            scans[about["sha256"]].append(scan)
    repeats = [one for one in scans.values() if len({s.participant_id for s in one}) > 1]
    problems = [
        Problem(
            scan.source,
            f"{same} {first.source} ({first.name})",
            "take one of them away; until then their participants are in one split",
        )
        for first, *others in repeats
        for scan in others
        if not any({first.participant_id, scan.participant_id} <= set(g) for g in cohort.groups)
    ]
    return replace(
        cohort,
        problems=(*cohort.problems, *problems),
        groups=joined(
            [*map(set, cohort.groups), *({scan.participant_id for scan in one} for one in repeats)]
        ),
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
