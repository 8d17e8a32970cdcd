"""Who goes to training, validation and test: a rule, not a list."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from monai_vqbrain.cohorts.cohort import Person
from monai_vqbrain.errors import VQBrainError

QUOTAS = {"training": 70, "validation": 15, "test": 15}  # per cent
SPLITS = tuple(QUOTAS)
HELD_OUT_FIRST = ("test", "validation", "training")


def assign_splits(
    people: Sequence[Person],
    seed: int = 0,
    previous: Mapping[str, str] | None = None,
    given: Mapping[str, str] | None = None,
    groups: Iterable[Sequence[str]] = (),
) -> dict[str, str]:
    """Deal participants to the splits.

    The people stand in one line, ordered by baseline diagnosis, sex and decade of age, and within
    these by a hash of seed and participant. Along the line each goes to the split that is
    furthest below its quota (70/15/15), so that every stretch of the line, hence every stratum, is
    shared out alike and the totals hold; the last ones go to splits that would be empty. Whoever
    has a split already keeps it.

    Args:
        people: each participant once, as first seen.
        seed: another seed, another order within the strata.
        previous: participant -> split of an earlier call; people in it who are not in `people`
            still count in the quotas.
        given: participant -> split, where the source has splits of its own. They are kept; but if
            none is given to validation, those given to training are shared out to both.
        groups: participants who share an image; each group has one split, of those given to it the
            one that is held out.

    Returns:
        participant -> `training`, `validation` or `test`: `previous` and everybody in `people`.
        From three people on, no split is empty that the source does not leave so; beside
        `previous`, no split is without any of `people`, as far as the new ones suffice.

    Raises:
        VQBrainError: a participant comes twice, or `previous` has an unknown split or a group in
            two.

    Example:
        >>> Counter(assign_splits([Person(f"sub-{i}") for i in range(48)]).values())
        Counter({'training': 34, 'validation': 7, 'test': 7})
    """
    given = given or {}
    no_validation = "validation" not in given.values()
    shared = {who for who, split in given.items() if split == "training" and no_validation}
    kept = {who: split for who, split in given.items() if who not in shared}
    assigned = dict(previous or {}) | kept
    _check(people, assigned)
    followers = _join_groups(groups, people, assigned, previous or {})
    line = [p for p in people if p.participant_id not in assigned.keys() | followers.keys()]
    line.sort(key=lambda person: _place(person, seed))
    counts = Counter(assigned.values())
    filled = {assigned[p.participant_id] for p in people if p.participant_id in assigned}
    for done, person in enumerate(line):
        among = ("training", "validation") if person.participant_id in shared else SPLITS
        empty = [split for split in among if split not in filled]
        split = _next_split(counts, empty if len(line) - done <= len(empty) else among)
        assigned[person.participant_id] = split
        counts[split] += 1
        filled.add(split)
    return assigned | {follower: assigned[first] for follower, first in followers.items()}


def check_splits(pairs: Iterable[tuple[str, str]]) -> None:
    """Make sure that no participant is in two splits.

    Args:
        pairs: (participant, split), of every slice if need be.

    Raises:
        VQBrainError: naming the participants who are in two.
    """
    found: dict[str, set[str]] = {}
    for participant, split in pairs:
        found.setdefault(participant, set()).add(split)
    both = [f"{p} ({', '.join(sorted(s))})" for p, s in sorted(found.items()) if len(s) > 1]
    if both:
        raise VQBrainError(
            f"in two splits: {'; '.join(both)}. Results would look better than they are: "
            "prepare the run again"
        )


def _join_groups(
    groups: Iterable[Sequence[str]],
    people: Sequence[Person],
    assigned: dict[str, str],
    previous: Mapping[str, str],
) -> dict[str, str]:
    """Put groups together in `assigned`; return those who follow another -> whom they follow."""
    present = {person.participant_id for person in people} | assigned.keys()
    followers: dict[str, str] = {}
    for group in groups:
        members = [member for member in group if member in present]
        before = sorted({previous[member] for member in members if member in previous})
        if len(before) > 1:
            raise VQBrainError(
                f"{' and '.join(members)} share an image and are in two splits "
                f"({', '.join(before)}): exclude one of them, or use another run folder"
            )
        splits = {assigned[member] for member in members if member in assigned}
        if splits:
            assigned |= dict.fromkeys(members, min(splits, key=HELD_OUT_FIRST.index))
        else:
            followers |= dict.fromkeys(members[1:], "".join(members[:1]))
    return followers


def _place(person: Person, seed: int) -> tuple[str, str, int, str]:
    decade = -1 if person.age is None else int(person.age // 10)
    digest = hashlib.sha256(f"{seed}:{person.participant_id}".encode()).hexdigest()
    return person.diagnosis, person.sex, decade, digest


def _next_split(counts: Mapping[str, int], among: Sequence[str]) -> str:
    """The split of these that is furthest below its quota."""
    total = sum(counts.values()) + 1

    def shortage(split: str) -> int:
        return QUOTAS[split] * total - 100 * counts.get(split, 0)  # whole numbers: ties are exact

    return max(among, key=shortage)  # ties: the first


def _check(people: Sequence[Person], previous: Mapping[str, str]) -> None:
    twice = [name for name, n in Counter(p.participant_id for p in people).items() if n > 1]
    if twice:
        raise VQBrainError(f"the same participant comes twice: {', '.join(sorted(twice))}")
    unknown = sorted(set(previous.values()) - set(SPLITS))
    if unknown:
        raise VQBrainError(f"unknown split {unknown[0]!r}: there are {', '.join(SPLITS)}")
