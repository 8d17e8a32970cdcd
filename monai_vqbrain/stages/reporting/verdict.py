"""The privacy audit in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NO_ANONYMITY = (
    "No finding here shows that samples or networks are anonymous; copies of parts of images, and "
    "copies that are rotated or scaled, are not looked for."
)


def privacy_verdict(audit: Mapping[str, Any]) -> str:
    """What the audit found, in plain words; it never claims anonymity.

    Args:
        audit: `audit` of metrics.json.
    """
    sentences = [_copies(audit["copies"])]
    if "membership" in audit:
        sentences.append(_membership(audit["membership"]))
    return " ".join([*sentences, NO_ANONYMITY])


def _copies(copies: Mapping[str, Any]) -> str:
    share = f"{copies['share']:.1%} of the samples lie"
    if copies["low"] is not None and copies["low"] > 0.01:
        return (
            f"{share} nearer to one training participant than 99 % of new participants' slices do, "
            "more than chance explains: look at the pairs below before anything is shared."
        )
    return (
        f"{share} nearer to one training participant than 99 % of new participants' slices do, "
        "no more than chance explains."
    )


def _membership(found: Mapping[str, Any]) -> str:
    if found["low"] > 0.5 or found["dataset_p_value"] < 0.05:
        return (
            f"The prior's likelihood tells training participants from others (AUC "
            f"{found['auc']:.2f}): with the prior and a scan one can learn something about "
            "whether its participant was in the training set. Treat the networks as personal data."
        )
    return (
        f"The prior's likelihood does not tell training participants from others (AUC "
        f"{found['auc']:.2f}) in this test."
    )
