"""Paragraphs of the report on the networks of a run and on its evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from monai_vqbrain.metrics.bootstrap import REPLICATES
from monai_vqbrain.runs.packaged import PACKAGED
from monai_vqbrain.stages.reporting.methods import Versions, software

Record = Mapping[str, Any]

CODEBOOKS = {
    "CodebookQuantizer": "VQ-VAE [@vqvae] with a codebook of {} vectors",
    "ScalarQuantizer": "convolutional autoencoder with finite scalar quantisation [@fsq] to {} "
    "codes",
}


def models_paragraph(
    codes: Record,
    vqvae: Record,
    prior: Record,
    conditions: Sequence[str],
    versions: Versions,
    components: int = 0,
) -> str:
    """What was trained, as a paragraph for a paper's methods.

    Args:
        codes: of 4-codes/provenance.json: quantizer, num_codes and grid; may lack them.
        vqvae: 3-vqvae/provenance.json.
        prior: 5-prior/provenance.json; empty if there is no prior.
        conditions: what the prior is conditioned on, in words.
        versions: package -> version.
        components: of the prior's plan, see VolumePlan; 0 for none.

    Returns:
        Text with citations, `[@key]`; empty if it is not recorded what the codes are.
    """
    if codes.get("quantizer") not in CODEBOOKS:
        return ""
    codec = CODEBOOKS[codes["quantizer"]].format(codes["num_codes"])
    grid = str(codes["grid"]).replace("x", " × ")
    sentences = [
        f"Each slice was represented by a grid of {grid} codes with a {codec}{_steps(vqvae)}"
    ]
    if prior:
        given = f", conditioned on {_listed(conditions)}" if conditions else ""
        sentences.append(
            "The distribution of the codes was modelled by an autoregressive network with the "
            "vertical and horizontal stacks of the gated PixelCNN [@pixelcnn], with GELU in place "
            f"of the gates{given}{_steps(prior)}"
        )
    if prior and components:
        sentences.append(
            "It was further conditioned on a blurred version of the whole volume, drawn from a "
            f"linear Gaussian appearance model [@appearance] of {components} principal components"
        )
    monai, torch, ours = (versions.get(name) for name in ("monai", "torch", "monai-vqbrain"))
    sentences.append(
        f"Networks were implemented with {software('MONAI', monai)} [@monai] and "
        f"{software('PyTorch', torch)} ({software('monai-vqbrain', ours)})"
    )
    return ". ".join(sentences) + "."


def evaluation_paragraph(metrics: Record, samples: Record) -> str:
    """What was measured, as a paragraph for a paper's methods.

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


def _steps(record: Record) -> str:
    if "iterations" not in record:
        return ""
    seed = record.get("options", {}).get("seed", 0)
    start = record.get("start_from")
    source = f"weights trained on {start}" if start in PACKAGED else "weights of another training"
    begun = f"initialised with {source} and " if start else ""
    return f", {begun}trained for {record['iterations']:,} iterations (seed {seed})"


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
            "The prior was scored by the negative log-likelihood of the test participants' codes "
            "in bits per code, beside a unigram model per grid and slice position"
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
            "A classifier two-sample test [@c2st] gives the area under the ROC curve (AUC) of a "
            "convolutional network that was trained to tell samples from real slices of training "
            "participants, on held-out participants and other samples"
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
            "Near copies were searched over mirrored and shifted training slices, with a threshold "
            "that 1 % of held-out slices pass"
        )
    if "membership" in audit:
        tried = len(audit["membership"].get("scores", "1"))
        corrected = f", Bonferroni-corrected for {tried} scores" if tried > 1 else ""
        yield (
            "Membership inference from the prior [@membership] was tested by "
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
