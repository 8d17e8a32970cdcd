"""`vqbrain sample`: sample code grids from the prior and decode them to images."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from monai_vqbrain.errors import UsageError
from monai_vqbrain.files import sha256
from monai_vqbrain.inferers.joint_conditions import ANY
from monai_vqbrain.logs import PRIVATE
from monai_vqbrain.networks.conditions import condition_row
from monai_vqbrain.provenance import what_changed
from monai_vqbrain.runs.bundles import bundle_command, run_bundle
from monai_vqbrain.runs.conditions import position_condition
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.freshness import check_models, sample_inputs
from monai_vqbrain.runs.packaged import PACKAGED, find_models
from monai_vqbrain.runs.participants import RunParticipants
from monai_vqbrain.runs.records import network_settings
from monai_vqbrain.runs.sample_sets import DEFAULT_SET, SET_NAME
from monai_vqbrain.runs.stage_folder import leave_stage
from monai_vqbrain.team import on_all_ranks

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SampleOptions:
    """Options of `sample`, checked; `condition` as name -> value, `known` and `mask` as files.

    `weights` is a name in `PACKAGED`, or the folder of an exported bundle of the prior.

    Raises:
        UsageError: for a value out of range, or options that exclude each other.
    """

    number: int = 16
    seed: int = 0
    temperature: float = 0.97
    top_p: float = 1.0
    guidance: float = 1.0
    condition: Mapping[str, str] = field(default_factory=dict)
    volume: bool = False
    known: str | None = None
    mask: str | None = None
    name: str = DEFAULT_SET
    weights: str | None = None

    def __post_init__(self) -> None:
        if not SET_NAME.fullmatch(self.name):
            raise UsageError(
                f"name {self.name!r}: give 1 to 64 letters, digits, hyphens or underscores"
            )
        _check_ranges(self)
        _check_inpainting(self)

    def ids(self) -> dict[str, Any]:
        """The options as ids of the bundle's configuration, files as absolute paths."""
        # MONAI could take a relative path for code
        files = {name: getattr(self, name) for name in ("known", "mask")}
        absolute = {n: None if f is None else str(Path(f).absolute()) for n, f in files.items()}
        if self.weights is not None and self.weights not in PACKAGED:
            absolute["weights"] = str(Path(self.weights).absolute())
        return asdict(self) | {"condition": dict(self.condition)} | absolute


def sample(
    run: Path | str,
    *,
    number: int = 16,
    seed: int = 0,
    temperature: float = 0.97,
    top_p: float = 1.0,
    guidance: float = 1.0,
    condition: Mapping[str, str] | None = None,
    volume: bool = False,
    known: Path | str | None = None,
    mask: Path | str | None = None,
    name: str = DEFAULT_SET,
    weights: Path | str | None = None,
    device: str = "auto",
) -> Path:
    """Draw synthetic images from the prior of a run, unless the samples are up to date.

    Args:
        run: the run folder, with a trained prior; with `weights`, any other folder.
        number: number of images, or of volumes.
        seed: the same seed gives the same images.
        temperature: above 0; 1 draws from the prior itself, values below 1 favour likely codes.
        top_p: in (0, 1]; draw from the likeliest codes with this total probability.
        guidance: weight of classifier-free guidance, 0 or more; values above 1 strengthen the
            conditions. Any value but 1 doubles the time.
        condition: name -> value, such as `{"diagnosis": "AD", "age": "75"}`. What is not named is
            drawn for each sample from the training slices' distribution, given what is named; the
            value "any" leaves a condition out.
        volume: draw whole volumes, slice by slice.
        known: a slice to inpaint; it is kept outside the mask.
        mask: an image that is non-zero where to inpaint.
        name: of the set of samples. Sets with different names are kept side by side.
        weights: instead of the run's networks "ds002748", which come with the package, or the
            folder of an exported bundle of the prior.
        device: "auto", "cpu", "cuda" or "cuda:N".

    Returns:
        The folder of the samples, `R/6-samples/NAME`.

    Raises:
        UsageError: if a network is missing, an option is out of range, the prior does not have
            a condition, or weights are given for a run with networks of its own.
        VQBrainError: if the networks are inconsistent, or an image cannot be used.
    """
    options = SampleOptions(
        number, seed, temperature, top_p, guidance, condition or {}, volume,
        None if known is None else str(known), None if mask is None else str(mask), name,
        None if weights is None else str(weights),
    )  # fmt: skip
    return draw_samples(run, options, device)


@on_all_ranks
def draw_samples(run: Path | str, options: SampleOptions, device: str = "auto") -> Path:
    """Draw samples with checked options; see `sample`."""
    run_folder, ids = RunFolder(run), options.ids()
    _check_networks(run_folder, options.weights)
    _check_conditions(find_models(run_folder.path, options.weights).prior, options)
    folder = run_folder.sample_set(options.name)
    what = f"{run_folder.samples.name}/{options.name}"
    reason = what_changed(folder, sample_inputs(run_folder, ids), ids)
    if reason is None:
        logger.info("%s is up to date: the same %d samples", what, options.number)
        return folder
    logger.info("sampling %s (%s)", what, reason)
    _warn_of_participant(run_folder, options.known)
    try:
        run_bundle("pixelcnn", "inference", _ids(run_folder, options, device))
    finally:
        leave_stage(folder)
    kind = ("volume" if options.volume else "image") + ("s" if options.number > 1 else "")
    logger.info("%d synthetic %s: %s", options.number, kind, folder)
    return folder


def sampling_command(run: Path | str, options: SampleOptions, device: str = "auto") -> str:
    """The MONAI bundle command that does the same as `draw_samples`."""
    return bundle_command("pixelcnn", "inference", _ids(RunFolder(run), options, device))


def _ids(run: RunFolder, options: SampleOptions, device: str) -> dict[str, Any]:
    return {"run_dir": str(run.path.absolute()), "device": device, **options.ids()}


def _check_networks(run: RunFolder, weights: str | None) -> None:
    if weights is None:
        run.need(run.vqvae, "train vqvae")
        run.need(run.prior, "train prior")
        check_models(run)
    elif run.vqvae.exists() or run.prior.exists():
        raise UsageError(
            f"{run.path} is a run with networks of its own, and weights are given: give another "
            "folder, or leave the weights out"
        )


def _warn_of_participant(run: RunFolder, image: str | None) -> None:
    if image is None or not (run.slices / "slices.tsv").is_file():
        return
    participants = RunParticipants(run)
    warning = participants.warning(participants.find(Path(image), sha256(Path(image))))
    if warning:
        logger.warning("%s", warning, extra=PRIVATE)


def _check_ranges(options: SampleOptions) -> None:
    if options.number < 1:
        raise UsageError(f"the number of images must be 1 or more, got {options.number}")
    if options.seed < 0:
        raise UsageError(f"seed must be 0 or more, got {options.seed}")
    if not options.temperature > 0:
        raise UsageError(f"temperature must be above 0, got {options.temperature:g}")
    if not options.guidance >= 0:
        raise UsageError(f"guidance must be 0 or more, got {options.guidance:g}")
    if options.guidance != 1 and all(value == ANY for value in options.condition.values()):
        raise UsageError(f"guidance {options.guidance:g} needs a condition to guide to")
    if not 0 < options.top_p <= 1:
        raise UsageError(f"top_p must lie in (0, 1], got {options.top_p:g}")


def _check_inpainting(options: SampleOptions) -> None:
    if (options.known is None) != (options.mask is None):
        raise UsageError("known and mask go together: the image to keep, and where to inpaint")
    if options.known is None:
        return
    if options.volume:
        raise UsageError("known inpaints one slice, and volume draws many: leave one out")
    for name, path in (("known", options.known), ("mask", options.mask)):
        if not Path(str(path)).is_file():
            raise UsageError(f"{name} {path}: there is no such file")


def _check_conditions(prior: Path, options: SampleOptions) -> None:
    """Refuse conditions that the prior was not trained with, before any work is done."""
    settings = network_settings(prior)
    known = settings.get("conditions", {})
    position = position_condition(known)
    try:
        condition_row(known, {n: None if v == ANY else v for n, v in options.condition.items()})
    except ValueError as error:
        raise UsageError(f"condition {error}") from error
    if not options.volume:
        return
    if position is not None and position in options.condition:
        raise UsageError(f"volume draws slices at every {position}: leave that condition out")
    if not settings.get("neighbour") or position is None:
        raise UsageError(
            "volume needs a prior with the conditions position and previous slice: train it with "
            "neighbour=true and condition_on=auto, on volumes of several slices"
        )
