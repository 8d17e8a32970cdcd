"""Assignment of participants to training, validation and test by a rule."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from monai_vqbrain.cohorts.cohort import Participant
from monai_vqbrain.errors import VQBrainError

QUOTAS = {"training": 70, "validation": 15, "test": 15}  # per cent
SPLITS = tuple(QUOTAS)
HELD_OUT_FIRST = ("test", "validation", "training")


def assign_splits(
    participants: Sequence[Participant],
    seed: int = 0,
    previous: Mapping[str, str] | None = None,
    given: Mapping[str, str] | None = None,
    groups: Iterable[Sequence[str]] = (),
) -> dict[str, str]:
    """Assign participants to the splits.

    Participants are ordered by baseline diagnosis, sex and decade of age, and within these by a
    hash of seed and participant. In this order each is assigned to the split that is furthest
    below its quota (70/15/15), so that every stratum and the whole cohort have these proportions.
    The last participants are assigned to splits that would be empty. Participants that already
    have a split keep it.

    Args:
        participants: each participant once, with the data of the first visit.
        seed: another seed, another order within the strata.
        previous: participant -> split of an earlier call; participants that are only in `previous`
            still count in the quotas.
        given: participant -> split, if the source has splits. They are kept, but if the source has
            no validation split, its training participants are assigned to both.
        groups: participants that share an image. Each group has one split; if its participants
            have several given splits, the held-out one.

    Returns:
        participant -> `training`, `validation` or `test`, for `previous` and `participants`. With
        three or more participants no split is empty, unless the source has left it empty; with
        `previous`, every split has some of `participants` if there are enough new ones.

    Raises:
        VQBrainError: if a participant is repeated, or `previous` has an unknown split or a group
            in two splits.

    Example:
        >>> Counter(assign_splits([Participant(f"sub-{i}") for i in range(48)]).values())
        Counter({'training': 34, 'validation': 7, 'test': 7})
    """
    given = given or {}
    no_validation = "validation" not in given.values()
    divided = {name for name, split in given.items() if split == "training" and no_validation}
    kept = {name: split for name, split in given.items() if name not in divided}
    assigned = dict(previous or {}) | kept
    _check(participants, assigned)
    followers = _join_groups(groups, participants, assigned, previous or {})
    queue = [p for p in participants if p.participant_id not in assigned.keys() | followers.keys()]
    queue.sort(key=lambda participant: _sort_key(participant, seed))
    counts = Counter(assigned.values())
    filled = {assigned[p.participant_id] for p in participants if p.participant_id in assigned}
    for done, participant in enumerate(queue):
        among = ("training", "validation") if participant.participant_id in divided else SPLITS
        empty = [split for split in among if split not in filled]
        split = _next_split(counts, empty if len(queue) - done <= len(empty) else among)
        assigned[participant.participant_id] = split
        counts[split] += 1
        filled.add(split)
    return assigned | {follower: assigned[first] for follower, first in followers.items()}


def check_splits(pairs: Iterable[tuple[str, str]]) -> None:
    """Check that no participant is in two splits.

    Args:
        pairs: (participant, split), for example of every slice.

    Raises:
        VQBrainError: with the names of participants that are in two splits.
    """
    found: dict[str, set[str]] = {}
    for participant, split in pairs:
        found.setdefault(participant, set()).add(split)
    both = [f"{p} ({', '.join(sorted(s))})" for p, s in sorted(found.items()) if len(s) > 1]
    if both:
        raise VQBrainError(
            f"in two splits: {'; '.join(both)}. Test figures would be too optimistic: "
            "prepare the run again"
        )


def _join_groups(
    groups: Iterable[Sequence[str]],
    participants: Sequence[Participant],
    assigned: dict[str, str],
    previous: Mapping[str, str],
) -> dict[str, str]:
    """Join groups in `assigned`; return follower -> the participant whose split it gets."""
    present = {participant.participant_id for participant in participants} | assigned.keys()
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


def _sort_key(participant: Participant, seed: int) -> tuple[str, str, int, str]:
    decade = -1 if participant.age is None else int(participant.age // 10)
    digest = hashlib.sha256(f"{seed}:{participant.participant_id}".encode()).hexdigest()
    return participant.diagnosis, participant.sex, decade, digest


def _next_split(counts: Mapping[str, int], among: Sequence[str]) -> str:
    """The split in `among` that is furthest below its quota."""
    total = sum(counts.values()) + 1

    def shortage(split: str) -> int:
        return QUOTAS[split] * total - 100 * counts.get(split, 0)  # integers: ties are exact

    return max(among, key=shortage)  # ties: the first


def _check(participants: Sequence[Participant], previous: Mapping[str, str]) -> None:
    twice = [name for name, n in Counter(p.participant_id for p in participants).items() if n > 1]
    if twice:
        raise VQBrainError(f"participants are repeated: {', '.join(sorted(twice))}")
    unknown = sorted(set(previous.values()) - set(SPLITS))
    if unknown:
        raise VQBrainError(f"unknown split {unknown[0]!r}: the splits are {', '.join(SPLITS)}")
