"""Paragraphs of the report on the networks of a run and on its evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from monai_vqbrain.metrics.bootstrap import REPLICATES
from monai_vqbrain.networks.plan import EXPLAINED, number_of_components
from monai_vqbrain.runs.conditions import position_condition
from monai_vqbrain.runs.packaged import PACKAGED
from monai_vqbrain.stages.reporting.methods import Versions, software

Record = Mapping[str, Any]

CODEBOOKS = {
    "CodebookQuantizer": "VQ-VAE [@vqvae] with a codebook of {} vectors",
    "ScalarQuantizer": "convolutional autoencoder with finite scalar quantisation [@fsq] to {} "
    "codes",
}

OPTIMIZERS = {
    "Adam": "the Adam optimiser [@adam]",
    "AdamW": "the AdamW optimiser [@adamw]",
    "MuonAdamW": "the Muon optimiser [@muon] for the kernels of hidden layers and AdamW [@adamw] "
    "for all other parameters",
}
LOSSES = {
    "l1": "the L1 distance",
    "ssim": "the structural dissimilarity, 1 − SSIM [@ssim]",
    "adversarial": "an adversarial loss",
    "features": "a perceptual loss",
}


def models_paragraph(
    codes: Record,
    vqvae: Record,
    prior: Record,
    conditions: Sequence[str],
    versions: Versions,
    plan: str = "",
) -> str:
    """Networks and their training, as a paragraph for the methods section of a paper.

    Args:
        codes: of 4-codes/provenance.json: quantizer, num_codes and grid; may lack them.
        vqvae: 3-vqvae/provenance.json.
        prior: 5-prior/provenance.json; empty if there is no prior.
        conditions: names of the prior's conditions.
        versions: package -> version.
        plan: what the prior's plan is made of, see `plan_components`; empty for none.

    Returns:
        Text with citations, `[@key]`; empty if the quantizer of the codes is not recorded.
    """
    if codes.get("quantizer") not in CODEBOOKS:
        return ""
    codec = CODEBOOKS[codes["quantizer"]].format(codes["num_codes"])
    grid = str(codes["grid"]).replace("x", " × ")
    sentences = [
        f"Each slice was represented by a grid of {grid} codes with a {codec}{_training(vqvae)}"
    ]
    if prior:
        given = f", conditioned on {_listed(conditions)}" if conditions else ""
        sentences.append(
            "The distribution of the codes was modelled by an autoregressive network with the "
            "vertical and horizontal stacks of the gated PixelCNN [@pixelcnn], with GELU in place "
            f"of the gates{given}{_training(prior, 'the negative log-likelihood of the codes')}"
        )
    if prior and plan:
        sentences.append(
            "It was further conditioned on a blurred version of the whole volume, drawn from a "
            f"linear Gaussian appearance model [@appearance] with {plan}"
        )
    monai, torch, ours = (versions.get(name) for name in ("monai", "torch", "monai-vqbrain"))
    sentences.append(
        f"Networks were implemented with {software('MONAI', monai)} [@monai] and "
        f"{software('PyTorch', torch)} [@pytorch] ({software('monai-vqbrain', ours)})"
    )
    return ". ".join(sentences) + "."


def plan_components(settings: Record, participants: int) -> str:
    """What the components of a prior's plan are, see VolumePlan; empty if it has none.

    Args:
        settings: of the prior; empty if there is none.
        participants: in the training set.
    """
    number = number_of_components(settings.get("plan", 0), participants)
    if not number or position_condition(settings["conditions"]) is None:
        return ""
    plural = "s" if number > 1 else ""
    if participants < EXPLAINED:
        changes = " and ".join(("in-plane scale", "shift across slices")[:number])
        what = f"derivative{plural} of the mean volume with respect to {changes} [@tangent]"
    else:
        explained = min(number, participants // EXPLAINED) if settings["late_conditions"] else 0
        parts = ["what single conditions explain"] if explained else []
        parts += ["principal components of the remainder"] if number > explained else []
        what = " and ".join(parts)
    return f"{number} component{plural}: {what}"


def evaluation_paragraph(metrics: Record, samples: Record) -> str:
    """The evaluation, as a paragraph for the methods section of a paper.

    Args:
        metrics: metrics.json; what it does not hold is not claimed.
        samples: options of 6-samples/provenance.json; empty if there are no samples.

    Returns:
        Text with citations, `[@key]`.
    """
    before, after = (_fidelity, _bits), (_sets, _distribution, _anatomy, _audit, _utility)
    sentences = [
        *(sentence for part in before for sentence in part(metrics)),
        *([_sampling(samples)] if "number" in samples else []),
        *(sentence for part in after for sentence in part(metrics)),
    ]
    return " ".join(f"{sentence}." for sentence in sentences)


def _training(record: Record, loss: str = "") -> str:
    """`, trained for ...`, of what the record of a training holds."""
    if "iterations" not in record:
        return ""
    start = record.get("start_from")
    source = f"weights trained on {start}" if start in PACKAGED else "weights of another training"
    begun = f"initialised with {source} and " if start else ""
    settings = record.get("training", {})
    parts = [f", {begun}trained for {record['iterations']:,} iterations"]
    if settings.get("optimizer") in OPTIMIZERS:
        parts.append(f" with {OPTIMIZERS[settings['optimizer']]}")
    rates = " and ".join(f"{rate:g}" for rate in sorted(settings.get("learning_rates", ())))
    details = [
        *([f"batch size {settings['batch_size']}"] if "batch_size" in settings else []),
        *([f"maximum learning rate {rates}, cosine schedule"] if rates else []),
        f"seed {record.get('options', {}).get('seed', 0)}",
    ]
    terms = [LOSSES[name] for name, weight in settings.get("loss", {}).items()
             if weight and name in LOSSES]  # fmt: skip
    minimised = f", minimising {loss or _listed(terms)}" if settings and (loss or terms) else ""
    return f"{''.join(parts)} ({', '.join(details)}){minimised}"


def _fidelity(metrics: Record) -> Iterator[str]:
    found = metrics.get("fidelity", {}).get("test")
    if not found:
        return
    of = found["ssim_brain"]
    several = ", by multi-scale SSIM [@ms_ssim]" if "ms_ssim_whole" in found else ""
    yield (
        f"Reconstructions of {of['slices']:,} slices of {of['participants']} test participants "
        "were compared with the original slices by the structural similarity index (SSIM) [@ssim] "
        "(Gaussian window, σ = 1.5 pixels, 11 × 11 pixels, data range 1), averaged inside the "
        f"brain mask and over the whole image{several}, and by the peak signal-to-noise ratio"
    )
    yield (
        "Scores were averaged over the slices of each participant, then over participants, with "
        "95 % confidence intervals from Student's t distribution over participants"
    )


def _bits(metrics: Record) -> Iterator[str]:
    if "prior" in metrics:
        yield (
            "The prior was evaluated by the negative log-likelihood of the test participants' "
            "codes, in bits per code, and compared with a unigram model for each grid and slice "
            "position"
        )


def _sampling(options: Record) -> str:
    return (
        f"{options['number']:,} {'volumes' if options.get('volume') else 'slices'} were sampled "
        f"(temperature {options['temperature']:g}, top-p {options['top_p']:g}, guidance "
        f"{options['guidance']:g}, seed {options['seed']})"
    )


def _sets(metrics: Record) -> Iterator[str]:
    if "distribution" not in metrics:
        return
    images = metrics["images"]
    yield (
        f"{images['synthetic']:,} samples were compared with {images['held_out']:,} slices of "
        f"{images['held_out_participants']} held-out participants by protocol "
        f"{metrics['protocol']}, with 95 % confidence intervals from a percentile bootstrap over "
        f"participants ({REPLICATES:,} draws)"
    )


def _distribution(metrics: Record) -> Iterator[str]:
    if "detectability" in metrics:
        yield (
            "In a classifier two-sample test [@c2st], a convolutional network was trained to "
            "distinguish samples from real slices of training participants, and evaluated by the "
            "area under the ROC curve (AUC) on other samples and held-out participants"
        )
    if "distribution" in metrics:
        spaces = list(metrics["distribution"]["kid"])
        yield (
            "Distributions were compared by the kernel inception distance with a cubic kernel "
            "[@kid], density and coverage (5 nearest neighbours) [@coverage] and precision and "
            f"recall [@recall], in the feature spaces {_listed(spaces)}"
        )


def _anatomy(metrics: Record) -> Iterator[str]:
    if "anatomy" in metrics:
        yield (
            "Anatomical measures of samples and held-out slices were compared by standardised "
            "differences (500 bootstrap draws); slices outside the 0.5th to 99.5th percentile of "
            "the training slices in at least one of five measures were counted as implausible"
        )


def _audit(metrics: Record) -> Iterator[str]:
    audit = metrics.get("audit", {})
    if "copies" in audit:
        yield (
            "Near copies of training slices were detected over mirrored and shifted views, with a "
            "threshold set to a false-positive rate of 1 % on held-out slices"
        )
    if "membership" in audit:
        tried = len(audit["membership"].get("scores", "1"))
        corrected = f", Bonferroni-corrected for {tried} scores" if tried > 1 else ""
        yield (
            "Membership inference from the likelihood of the prior [@membership] was tested by "
            f"permutation of participants{corrected}"
        )


def _utility(metrics: Record) -> Iterator[str]:
    measured = [name for name, task in metrics.get("utility", {}).items() if task["measurable"]]
    if measured:
        yield (
            f"Classifiers of {_listed(measured)} were trained on samples, on as many real slices "
            "and on both, and tested on held-out participants"
        )


def _listed(names: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
