"""What an evaluation adds to metrics.json, with made-up values."""

from __future__ import annotations

from typing import Any

SPACES = ("random", "texture", "encoder", "weights.pt")


def mean(value: float, participants: int = 3, slices: int = 12) -> dict[str, Any]:
    """A mean with its interval over participants."""
    return {
        "mean": value, "low": value - 0.01, "high": value + 0.01,
        "participants": participants, "slices": slices,
    }  # fmt: skip


def boot(value: float, floor: float) -> dict[str, Any]:
    """A value with its bootstrap interval, and that of real slices."""
    return {
        "value": value, "low": value - 0.05, "high": value + 0.05, "floor": floor,
        "participants": 5, "images": 64,
    }  # fmt: skip


def sample_metrics() -> dict[str, Any]:
    """The sections on samples, of 64 samples."""
    return {
        "protocol": "vqbrain-eval-1",
        "images": {
            "synthetic": 64, "training": 28, "training_participants": 6, "held_out": 20,
            "held_out_participants": 5, "distribution_images": 20,
        },
        "distribution": distribution(),
        "detectability": {
            "auc": 0.54, "low": 0.36, "high": 0.72, "by_seed": [0.5, 0.5, 0.6], "samples": 32,
            "control": 0.47, "control_low": 0.35, "control_high": 0.6,
        },
        "anatomy": anatomy(),
        "audit": {"copies": copies(), "membership": membership()},
        "utility": utility(),
    }  # fmt: skip


def distribution() -> dict[str, Any]:
    fakes = {"noise": 277855.4, "blur": 12.3, "repeated_image": 9.1}
    kid = {s: boot(0.5 + i, 0.01) for i, s in enumerate(SPACES)}
    return {
        "kid": {s: k | {"floor_halves": None, "ceilings": fakes} for s, k in kid.items()},
        "coverage": dict.fromkeys(SPACES, 0.9),
        "coverage_interval": {s: boot(0.9, 0.95) for s in SPACES},
        **{n: {s: boot(0.8, 0.9) for s in SPACES} for n in ("density", "precision", "recall")},
        "fid": {s: {"value": 20.5, "floor": 10.25} for s in SPACES},
    }


def anatomy() -> dict[str, Any]:
    slope = {"slope": 0.031, "low": 0.01, "high": 0.05, "images": 64, "groups": 64}
    both = {"synthetic": slope, "real": slope | {"slope": 0.042, "groups": 5}}
    measure = {
        "difference": 0.25, "difference_low": -0.1, "difference_high": 0.6, "wasserstein": 0.1,
        "real": 2.042, "synthetic": 1.139, "unit": "cm^2",
    }  # fmt: skip
    return {
        "ventricle_area": measure, "parts": measure | {"difference_low": -1610612736.0},
        "by_position": True, "implausible_share": 0.08, "implausible_low": 0.03,
        "implausible_high": 0.15, "implausible_share_real": 0.09,
        "slopes": {
            "age": {"unit": "per year", "measures": {"ventricle_area": both}},
            "diagnosis: AD - CN": {"unit": "difference", "measures": {"ventricle_area": both}},
        },
    }  # fmt: skip


def copies() -> dict[str, Any]:
    return {
        "samples": 64, "held_out_slices": 20, "held_out_participants": 5, "share": 0.0,
        "low": 0.0, "high": 0.03, "ratio": [0.9, 0.92, 0.94], "held_out_ratio": [0.7, 0.8, 0.9],
        "most_from_one_participant": 0,
    }  # fmt: skip


def membership() -> dict[str, Any]:
    rates = [
        {"at": 0.01, "rate": None, "least": 100},
        {"at": 0.1, "rate": {"value": 0.19, "low": 0.1, "high": 0.3}, "least": 10},
    ]
    figures = {
        "auc": 0.58, "low": 0.49, "high": 0.66, "participant_auc": 0.6, "participant_low": 0.4,
        "participant_high": 0.8, "true_positives": rates, "participant_true_positives": rates,
        "members": 24, "others": 20, "member_participants": 6, "other_participants": 5,
    }  # fmt: skip
    scores = {"bits": 0.9033, "bits_minus_unconditional": 0.0321}
    return figures | {
        "dataset_p_value": 0.0321,
        "score": "bits_minus_unconditional",
        "scores": {name: figures | {"dataset_p_value": p} for name, p in scores.items()},
        "cross_fitted": {
            "folds": 5, "auc": 0.61, "low": 0.45, "high": 0.75, "participants": 34, "slices": 544,
            "p_value": 0.08, "participant_auc": {"value": 0.64, "low": 0.5, "high": 0.78},
            "saved": {"value": 12.3, "low": 2.1, "high": 22.5},
        },
    }  # fmt: skip


def utility() -> dict[str, Any]:
    score = {"auc": 0.81, "auc_low": 0.7, "auc_high": 0.9, "balanced_accuracy": 0.75}
    return {
        "sex": {
            "measurable": True, "images": 64, "participants": 5, "p_value": 0.01, "real": score,
            "synthetic": score | {"auc": 0.78}, "both": score, "difference": -0.03,
            "difference_low": -0.12, "difference_high": 0.04,
        },
        "age band": {
            "measurable": False,
            "why": "the classifier of real slices is at chance (AUC 0.52, p = 0.31)",
            "real": score, "synthetic": None, "both": None, "difference": None,
            "difference_low": None, "difference_high": None,
        },
        "diagnosis": {"measurable": False, "why": "no sample has a requested diagnosis"},
    }  # fmt: skip


def groups() -> dict[str, Any]:
    """`fidelity.groups`."""
    labels = {
        "position": ("0.25", "0.50", "0.75"), "diagnosis": ("AD", "CN"), "sex": ("F", "M"),
        "age": ("60-69", "70-79"),
    }  # fmt: skip
    return {
        name: [
            {
                "group": label, "ssim_brain": mean(0.8 + 0.03 * i), "ssim_whole": mean(0.93),
                "psnr_brain": mean(28.0),
            }
            for i, label in enumerate(found)
        ]
        for name, found in labels.items()
    }  # fmt: skip


def cohort() -> dict[str, Any]:
    """`cohort`: the same networks on other participants."""
    samples = sample_metrics()
    return {
        "name": "other-run",
        "fidelity": {"ssim_brain": mean(0.71), "ssim_whole": mean(0.9), "psnr_brain": mean(25.5)},
        "prior": {"bits_per_code_interval": mean(2.75)},
        **{n: samples[n] for n in ("distribution", "detectability", "anatomy", "utility")},
        "images": samples["images"] | {"held_out_participants": 125},
    }
