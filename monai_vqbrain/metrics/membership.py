"""Membership inference: distinguishing training participants from others by a prior's bits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

FALSE_POSITIVES = (0.01, 0.1)
CHUNK = 2_000_000  # weights held at once in the bootstrap


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval over participants."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class TruePositives:
    """The share of members that are recognised at a share of false positives.

    Args:
        at: share of false positives, [0, 1].
        rate: share of members, [0, 1]; None where there are too few non-members.
        least: how many non-members it needs: 1 / at.
    """

    at: float
    rate: Estimate | None
    least: int


@dataclass(frozen=True)
class Membership:
    """How well bits distinguish members from non-members.

    Args:
        unit: what is classified, "slice" or "participant".
        members: how many units of training participants.
        others: how many of participants that were not trained on.
        member_participants: how many training participants.
        other_participants: how many others.
        auc: chance that a member has fewer bits than a non-member; 0.5 is none.
        true_positives: at 1 % and 10 % false positives.
    """

    unit: Literal["slice", "participant"]
    members: int
    others: int
    member_participants: int
    other_participants: int
    auc: Estimate
    true_positives: tuple[TruePositives, ...]


@dataclass(frozen=True)
class CrossFitted:
    """How well bits tell whether a prior has seen a participant, each compared with itself.

    Args:
        auc: chance that a slice has fewer bits under a prior that has seen its participant than
            another slice under one that has not; 0.5 is none.
        participant_auc: the same of participants, each with the mean over its slices.
        saved: bits per slice that a prior saves on participants that it has seen, paired.
        p_value: of no saving, one-sided, by flipping the signs of participants' savings.
        participants: how many.
        slices: how many.
    """

    auc: Estimate
    participant_auc: Estimate
    saved: Estimate
    p_value: float
    participants: int
    slices: int


def membership(
    bits: ArrayLike,
    participants: Sequence[str],
    members: ArrayLike,
    *,
    unit: Literal["slice", "participant"] = "slice",
    resamples: int = 1000,
    seed: int = 0,
) -> Membership:
    """Area under the ROC curve and true positives of "fewer bits mean a member".

    The intervals are percentiles of a bootstrap that draws members and non-members separately, by
    participants. With few participants they are too narrow, and where all members score below all
    others they have no width.

    Args:
        bits: (N,) of slices: conditional bits, or conditional minus unconditional bits.
        participants: the N participants that they belong to.
        members: (N,) bool, whether the prior was trained on the participant.
        unit: "slice", or "participant" for the mean over each participant's slices.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        The figures and their counts.

    Raises:
        ValueError: if the three do not match, bits are not finite, members or non-members are
            missing, or a participant is both.

    Source:
        Kowalczuk et al., Privacy attacks on image autoregressive models, ICML 2025.

    Example:
        >>> bits, names = [1.0, 2.0, 3.0, 4.0], ["a", "b", "c", "d"]
        >>> membership(bits, names, [True, True, False, False]).auc.value
        1.0
    """
    scores, participant, member = _checked(bits, participants, members)
    if unit == "participant":
        scores, participant, member = _over_slices(scores, participant, member)
    curve = _Curve(scores, participant, member)
    single = curve.points(np.ones((1, curve.participants)))[:, 0]
    drawn = np.concatenate(
        [curve.points(w) for w in _resampled(curve, resamples, np.random.default_rng(seed))], axis=1
    )
    low, high = np.percentile(drawn, [2.5, 97.5], axis=1)
    estimates = [Estimate(*map(float, v)) for v in zip(single, low, high, strict=True)]
    others = int((~member).sum())
    of_participant = _member_participants(participant, member)
    return Membership(
        unit=unit,
        members=int(member.sum()),
        others=others,
        member_participants=int(of_participant.sum()),
        other_participants=int((~of_participant).sum()),
        auc=estimates[0],
        true_positives=tuple(
            _where_enough(at, others, estimate)
            for at, estimate in zip(FALSE_POSITIVES, estimates[1:], strict=True)
        ),
    )


def dataset_inference(
    bits: ArrayLike,
    participants: Sequence[str],
    members: ArrayLike,
    *,
    permutations: int = 9999,
    seed: int = 0,
) -> float:
    """The p-value of "training participants have fewer bits than others", by permutation.

    One-sided; participants are permuted, each with the mean over its slices. It assumes that
    training participants were chosen at random among all, as the splits of a run are.

    Args:
        bits: (N,) of slices.
        participants: the N participants that they belong to.
        members: (N,) bool, whether the prior was trained on the participant.
        permutations: how many; the least p-value is 1 / (permutations + 1).
        seed: of the permutations.

    Returns:
        A p-value in (0, 1].

    Raises:
        ValueError: as `membership`.

    Example:
        >>> bits = np.arange(20.0)
        >>> dataset_inference(bits, [f"p{i}" for i in range(20)], bits < 10) < 0.001
        True
    """
    scores, _, member = _over_slices(*_checked(bits, participants, members))
    rng = np.random.default_rng(seed)
    observed = scores[member].sum()
    # The sum over members orders permutations as the difference of means does.
    sums = np.array(
        [rng.permutation(scores)[: int(member.sum())].sum() for _ in range(permutations)]
    )
    # Equal sums in another order of addition differ by rounding: they count as equal.
    as_low = sums <= observed + 1e-9 * max(float(np.abs(scores).sum()), 1e-300)
    return float((1 + as_low.sum()) / (1 + permutations))


def cross_fitted(
    seen: ArrayLike,
    unseen: ArrayLike,
    participants: Sequence[str],
    *,
    resamples: int = 1000,
    flips: int = 9999,
    seed: int = 0,
) -> CrossFitted:
    """Compare the bits of slices under priors that have seen their participant, and have not.

    Differences between participants, such as noisy scans, which hide membership in `membership`,
    are the same on both sides here.

    Args:
        seen: (N,) bits of slices under a prior that was trained on their participants.
        unseen: (N,) bits of the same slices under a prior that was not.
        participants: the N participants.
        resamples: of the bootstrap over participants.
        flips: of the test; the least p-value is 1 / (flips + 1).
        seed: of both.

    Returns:
        The figures.

    Raises:
        ValueError: if the three differ in length or bits are not finite.

    Example:
        >>> cross_fitted([1.0, 2.0], [3.0, 4.0], ["a", "b"]).auc.value
        1.0
    """
    low, high = np.asarray(seen, dtype=np.float64), np.asarray(unseen, dtype=np.float64)
    if not low.shape == high.shape == (len(participants),) or not len(participants):
        raise ValueError(
            "give one participant and bits under both priors for each of at least one slice, "
            f"not {len(participants)} for bits of shapes {low.shape} and {high.shape}"
        )
    both = np.concatenate([low, high])
    if not np.isfinite(both).all():
        raise ValueError(f"bits must be finite: {int((~np.isfinite(both)).sum())} are not")
    names, participant = np.unique(np.asarray(participants), return_inverse=True)
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    means = [np.bincount(participant, part) / np.bincount(participant) for part in (low, high)]
    saved = means[1] - means[0]
    ordinal = np.arange(len(names))
    return CrossFitted(
        _paired_auc(low, high, participant, counts),
        _paired_auc(means[0], means[1], ordinal, counts),
        _estimate(float(saved.mean()), counts @ saved / len(names)),
        _sign_flip_p(saved, flips, rng),
        len(names),
        len(low),
    )


def _paired_auc(
    seen: np.ndarray, unseen: np.ndarray, participant: np.ndarray, counts: np.ndarray
) -> Estimate:
    """The AUC of both sides pooled; a participant is drawn on both sides or on neither."""
    member = np.repeat([True, False], len(seen))
    curve = _Curve(np.concatenate([seen, unseen]), np.tile(participant, 2), member)
    rows = max(1, CHUNK // (2 * len(seen)))
    drawn = [curve.points(counts[i : i + rows])[0] for i in range(0, len(counts), rows)]
    single = curve.points(np.ones((1, curve.participants)))[0, 0]
    return _estimate(float(single), np.concatenate(drawn))


def _sign_flip_p(saved: np.ndarray, flips: int, rng: np.random.Generator) -> float:
    signs = rng.integers(0, 2, (flips, len(saved))) * 2 - 1
    as_high = signs @ saved >= saved.sum() - 1e-9 * np.abs(saved).sum()
    return float((1 + as_high.sum()) / (1 + flips))


def _estimate(value: float, drawn: np.ndarray) -> Estimate:
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Estimate(value, float(low), float(high))


def participant_folds(participants: Sequence[str], folds: int, seed: int = 0) -> np.ndarray:
    """Deal participants to folds at random, for a prior per fold that has not seen it.

    Args:
        participants: the participants of N rows.
        folds: how many, from 2 to the number of participants.
        seed: of the order in which they are dealt.

    Returns:
        (N,) int64, the fold of each row, 0..folds-1. All rows of a participant have the same;
        folds differ by one participant at most.

    Raises:
        ValueError: if there are fewer than 2 folds or fewer participants than folds.

    Example:
        >>> participant_folds(["a", "a", "b"], 2).tolist() in ([0, 0, 1], [1, 1, 0])
        True
    """
    names, participant = np.unique(np.asarray(participants), return_inverse=True)
    if not 2 <= folds <= len(names):
        raise ValueError(
            f"give from 2 folds to as many as there are participants ({len(names)}), not {folds}"
        )
    fold_of = np.empty(len(names), dtype=np.int64)
    fold_of[np.random.default_rng(seed).permutation(len(names))] = np.arange(len(names)) % folds
    return fold_of[participant]


class _Curve:
    """The ROC curve of fixed scores under weights of participants."""

    def __init__(self, scores: np.ndarray, participant: np.ndarray, member: np.ndarray) -> None:
        order = np.argsort(scores, kind="stable")
        self.participants = int(participant.max()) + 1
        self.of_participant = _member_participants(participant, member)
        self.participant, self.member = participant[order], member[order]
        ordered = scores[order]
        # A point of the curve takes all equal scores together.
        self.ends = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)

    def points(self, weights: np.ndarray) -> np.ndarray:
        """(B, participants) weights -> (3, B): AUC, true positives at 1 % and at 10 %."""
        each = weights[:, self.participant]
        true = self._shares(each * self.member)
        false = self._shares(each * ~self.member)
        areas = np.diff(false, axis=1) * (true[:, 1:] + true[:, :-1]) / 2
        rates = [self._rate(true, false, at) for at in FALSE_POSITIVES]
        return np.stack([areas.sum(axis=1), *rates])

    def _shares(self, weights: np.ndarray) -> np.ndarray:
        """(B, points + 1), from 0 to 1."""
        sums = weights.cumsum(axis=1)[:, self.ends]
        return np.pad(sums / sums[:, -1:], ((0, 0), (1, 0)))

    def _rate(self, true: np.ndarray, false: np.ndarray, at: float) -> np.ndarray:
        last = (false <= at + 1e-12).sum(axis=1) - 1
        return np.asarray(true[np.arange(len(true)), last])


def _resampled(curve: _Curve, resamples: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """How often each participant is drawn, in chunks of (B, participants)."""
    rows = max(1, CHUNK // len(curve.participant))
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        weights = np.empty((size, curve.participants))
        for kind in (curve.of_participant, ~curve.of_participant):
            count = int(kind.sum())
            weights[:, kind] = rng.multinomial(count, np.full(count, 1 / count), size=size)
        yield weights


def _checked(
    bits: ArrayLike, participants: Sequence[str], members: ArrayLike
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    scores, member = np.asarray(bits, dtype=np.float64), np.asarray(members, dtype=bool)
    if scores.ndim != 1 or scores.shape != member.shape or len(scores) != len(participants):
        raise ValueError(
            "give one participant and one membership for each value, not "
            f"{len(participants)} and {member.shape} for values of shape {scores.shape}"
        )
    if not np.isfinite(scores).all():
        raise ValueError(f"bits must be finite: {int((~np.isfinite(scores)).sum())} are not")
    if member.all() or not member.any():
        raise ValueError(
            "membership needs slices of training participants and of others, "
            f"not {int(member.sum())} and {int((~member).sum())}"
        )
    names, participant = np.unique(np.asarray(participants), return_inverse=True)
    both = names[np.bincount(participant, member) * np.bincount(participant, ~member) > 0]
    if len(both):
        raise ValueError(f"{len(both)} participants are members and not members, {both[0]} first")
    return scores, participant, member


def _member_participants(participant: np.ndarray, member: np.ndarray) -> np.ndarray:
    return np.asarray(np.bincount(participant, member) > 0)


def _over_slices(
    scores: np.ndarray, participant: np.ndarray, member: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    means = np.bincount(participant, scores) / np.bincount(participant)
    return means, np.arange(len(means)), _member_participants(participant, member)


def _where_enough(at: float, others: int, estimate: Estimate) -> TruePositives:
    least = math.ceil(1 / at - 1e-9)
    return TruePositives(at, estimate if others >= least else None, least)
