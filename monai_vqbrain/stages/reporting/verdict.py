"""The result of the privacy audit in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai_vqbrain.stages.reporting.pages import percent

SIGNIFICANT = 0.05  # p-values below it reveal membership
EXPECTED_COPIES = 0.01  # share of held-out slices below the threshold, by its definition
SCORES = {
    "bits": "bits per slice",
    "bits_minus_unconditional": "conditional minus unconditional bits",
    "bits_minus_undescribed": "bits given diagnosis, sex and age minus bits without",
    "bits_minus_unplanned": "bits given the volume's plan minus bits without",
    "plan": "residual of a volume under the prior's plan",
}
NO_ANONYMITY = (
    "No finding here shows that samples or networks are anonymous; copies of parts of images, and "
    "copies that are rotated or scaled, are not searched for."
)

Found = Mapping[str, Any]


def privacy_verdict(audit: Found) -> str:
    """The result of the audit in words; it never claims anonymity.

    Args:
        audit: `audit` of metrics.json.
    """
    sentences = [_copies(audit["copies"])]
    if "membership" in audit:
        sentences.append(_membership(audit["membership"]))
    return " ".join([*sentences, NO_ANONYMITY])


def corrected_p_value(membership: Found) -> float:
    """The p-value of membership inference over participants, corrected for the scores tried.

    The best score is selected after all have been computed, so the smallest p-value is
    multiplied by their number (Bonferroni).

    Args:
        membership: `audit.membership` of metrics.json.

    Returns:
        In (0, 1].

    Example:
        >>> scores = {"a": {"dataset_p_value": 0.03}, "b": {"dataset_p_value": 0.4}}
        >>> corrected_p_value({"scores": scores})
        0.06
    """
    tried = membership.get("scores") or {"": membership}
    return min(1.0, len(tried) * min(score["dataset_p_value"] for score in tried.values()))


def score_name(score: str) -> str:
    """The name of a score of membership inference, in words."""
    return SCORES.get(score, score.replace("_", " "))


def reveals_membership(membership: Found) -> bool:
    """Whether the prior's likelihood distinguishes training participants from others.

    By the corrected test above or, if it was done, the cross-fitted one.
    """
    cross_fitted = membership.get("cross_fitted", {}).get("p_value", 1.0)
    return min(corrected_p_value(membership), cross_fitted) < SIGNIFICANT


def _copies(copies: Found) -> str:
    share = (
        f"{percent(copies['share'])} of the samples are nearer to one training participant than "
        "99 % of new participants' slices are"
    )
    if copies["low"] is not None and copies["low"] > EXPECTED_COPIES:
        return (
            f"{share}, more than expected by chance: inspect the pairs below before sharing "
            "anything."
        )
    return f"{share}, no more than expected by chance."


def _membership(found: Found) -> str:
    number = len(found.get("scores", ()))
    of = f", the largest of {number} scores; smallest" if number > 1 else ","
    figures = f"AUC {found['auc']:.2f}{of} corrected p = {corrected_p_value(found):.2g}"
    if "cross_fitted" in found:
        crossed = found["cross_fitted"]
        figures += f"; cross-fitted AUC {crossed['auc']:.2f}, p = {crossed['p_value']:.2g}"
    if reveals_membership(found):
        return (
            f"The prior's likelihood distinguishes training participants from others ({figures}): "
            "with the prior and a scan it can be inferred, better than by chance, whether the "
            "scan's participant was in the training set. Treat the networks as personal data."
        )
    return (
        f"The prior's likelihood does not distinguish training participants from others "
        f"({figures}) in this test."
    )
