"""The command line. Heavy imports are delayed until a command runs, so that help is fast."""

from __future__ import annotations

import logging
import signal
import sys
from pathlib import Path
from typing import Any

import click

from monai_vqbrain import __version__
from monai_vqbrain.bundle_commands import bundle, config
from monai_vqbrain.errors import ShownElsewhereError, UnexpectedError, UsageError, VQBrainError
from monai_vqbrain.options import (
    DIRECTORY,
    FILE,
    FOLDER,
    POSITIVE,
    bundle_command_option,
    common_options,
    conditions_option,
    device_option,
    image_options,
    jobs_option,
    option,
    slicing_options,
    training_options,
)
from monai_vqbrain.run_command import demo, run
from monai_vqbrain.setup_commands import completion, doctor
from monai_vqbrain.terminal import configure_logging, is_first_rank, show_error

logger = logging.getLogger(__name__)


def main() -> None:
    """Run the command line; every expected failure is one line on standard error."""
    context: dict[str, Any] = {"debug": False}
    configure_logging(0)
    _interrupt_on_signals()
    try:
        vqbrain.main(prog_name="vqbrain", standalone_mode=False, obj=context)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        about = getattr(error, "ctx", None)
        hint = f" (see {about.command_path} --help)" if about else ""
        if is_first_rank():  # all ranks have the same message
            show_error(error.format_message() + hint)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort) as stop:
        signal_name = stop.__cause__ or stop  # click replaces an interrupt
        if is_first_rank():
            click.echo(f"\ninterrupted{signal_name}; finished work is kept", err=True)
        sys.exit(1)
    except Exception as error:
        if context["debug"]:
            raise
        sys.exit(_report(error))


def _interrupt_on_signals() -> None:
    """End a command on SIGTERM and SIGHUP as Ctrl-C does, so that it cleans up."""

    def interrupt(number: int, _frame: object) -> None:
        raise KeyboardInterrupt(f" by {signal.Signals(number).name}")

    for name in ("SIGTERM", "SIGHUP"):  # the latter is ignored under nohup
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, interrupt)


def _report(error: Exception) -> int:
    """Show a failure as one line; return the exit code."""
    if isinstance(error, ShownElsewhereError):
        return error.exit_code
    if isinstance(error, UsageError) and not is_first_rank():  # all ranks have the same options
        return error.exit_code
    if isinstance(error, VQBrainError) and not isinstance(error, UnexpectedError):
        show_error(str(error))
        return error.exit_code
    message = " ".join(str(error).split()) or "no message"
    kind = "" if isinstance(error, UnexpectedError) else f"{type(error).__name__}: "
    hint = "(unexpected: the same command with --debug shows where)"
    show_error(f"{kind}{message[:500]} {hint}")
    return 1


class InOrder(click.Group):
    """Lists commands in the order of the pipeline, not of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order in which they were added."""
        return list(self.commands)


@click.group(cls=InOrder, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
@common_options
def vqbrain() -> None:
    """Learn, sample and audit brain MRI: T1 volumes to new brain slices.

    \b
    Try it:            vqbrain demo
    Your own data:     vqbrain check SOURCE
                       vqbrain run SOURCE RUN
    Step by step:      vqbrain prepare SOURCE RUN
                       vqbrain train vqvae RUN
                       vqbrain encode RUN
                       vqbrain train prior RUN
                       vqbrain sample RUN -n 64
                       vqbrain evaluate RUN
    """


vqbrain.add_command(demo)
vqbrain.add_command(run)


@vqbrain.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("run", type=FOLDER, required=False)
@slicing_options
@common_options
def check(source: Path, run: Path | None, columns: Any, **options: Any) -> None:
    """Print the plan of `prepare` for SOURCE, and problems of SOURCE. Writes nothing.

    With RUN, the plan also lists which scans of an earlier run would be kept.

    \b
    Example: vqbrain check ADNI
             vqbrain check my-bids --column diagnosis=group
             vqbrain check my-bids my-run
    """
    import monai_vqbrain
    from monai_vqbrain.runs.bundles import lost_links
    from monai_vqbrain.stages.slicing.plan_text import plan_lines

    for link in lost_links():
        where = link.parent / "configs" / "train.json"
        logger.warning("%s is not a link in this checkout: use %s with monai.bundle", link, where)
    plan = monai_vqbrain.check(source, run, columns=dict(columns), **options)
    click.echo("\n".join(plan_lines(plan)))


@vqbrain.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("run", type=FOLDER)
@slicing_options
@jobs_option
@option(
    "--dask",
    metavar="ADDRESS",
    help="Address of a dask scheduler, whose workers are used instead of --jobs.",
)
@click.option("--on-error", type=click.Choice(["skip", "stop"]), default="skip", show_default=True,
              help="What to do with an unusable volume.")  # fmt: skip
@common_options
def prepare(source: Path, run: Path, columns: Any, **options: Any) -> None:
    """Turn the T1 volumes of SOURCE into slices in RUN, split by participant.

    \b
    Example: vqbrain prepare my-bids my-run
             vqbrain prepare ADNI my-run --axis coronal --count 32
             vqbrain prepare ADNI my-run --align affine --positions -40:60:2 --jobs 8
    """
    import monai_vqbrain

    monai_vqbrain.prepare(source, run, columns=dict(columns), **options)


@vqbrain.command()
@click.argument("network", type=click.Choice(["vqvae", "prior"]))
@click.argument("run", type=FOLDER)
@training_options
@device_option
@bundle_command_option
@common_options
def train(network: str, run: Path, show_command: bool, overrides: Any, **options: Any) -> None:
    """Train a network of RUN: `vqvae` on its slices, or `prior` on its codes.

    \b
    Example: vqbrain train vqvae my-run
             vqbrain train prior my-run --minutes 30
             vqbrain train vqvae my-run --start-from ds002748
             vqbrain train vqvae my-run --epochs 40 --set network_def#num_codes=1024
    """
    if options["minutes"] is not None and options["epochs"] is not None:
        raise click.UsageError("--minutes and --epochs exclude each other: give one of them")
    from monai_vqbrain.stages import train as stage

    asked = stage.TrainOptions(overrides=dict(overrides), **options)
    if show_command:
        click.echo(stage.training_command(run, network, asked))
    else:
        stage.train(run, network, asked)


@vqbrain.command()
@click.argument("run", type=FOLDER)
@device_option
@bundle_command_option
@common_options
def encode(run: Path, device: str, show_command: bool) -> None:
    """Encode every slice of RUN as a grid of codes.

    \b
    Example: vqbrain encode my-run
    """
    from monai_vqbrain.stages import encode as stage

    if show_command:
        click.echo(stage.encoding_command(run, device))
    else:
        stage.encode(run, device=device)


@vqbrain.command()
@click.argument("run", type=FOLDER, metavar="RUN|OUT")
@click.option("--weights", metavar="NAME",
              help="Instead of a run's networks: ds002748, which come with the package, or the "
              "folder of an exported bundle of the prior. Samples go to OUT.")  # fmt: skip
@click.option("-n", "--number", type=click.IntRange(1), default=16, show_default=True, metavar="N",
              help="Number of images.")  # fmt: skip
@option(
    "--name",
    default="default",
    metavar="NAME",
    help="Name of the set of samples; a run can have several sets.",
)
@option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    help="Random seed; the same seed gives the same images.",
)
@click.option("--temperature", type=POSITIVE, default=0.97, show_default=True, metavar="T",
              help="Below 1, likely codes are favoured; 1 is the prior itself.")  # fmt: skip
@click.option("--top-p", type=click.FloatRange(0, 1, min_open=True), default=1.0,
              show_default=True, metavar="P",
              help="Sample among the most likely codes with this total probability.")  # fmt: skip
@conditions_option
@click.option("--guidance", type=click.FloatRange(0), default=1.0, show_default=True, metavar="G",
              help="Values above 1 strengthen the conditions and double the time.")  # fmt: skip
@click.option("--volume", is_flag=True,
              help="Sample whole volumes, each slice given the previous one.")  # fmt: skip
@click.option("--known", type=click.Path(), metavar="IMAGE",
              help="A slice to inpaint, kept except in --mask and around it.")  # fmt: skip
@click.option(
    "--mask", type=click.Path(), metavar="MASK", help="An image that is non-zero where to inpaint."
)
@device_option
@bundle_command_option
@common_options
def sample(run: Path, device: str, show_command: bool, conditions: Any, **options: Any) -> None:
    """Draw new, synthetic images from the prior of RUN.

    Conditions without --condition are drawn for each image from their distribution in the training
    slices, given the others; NAME=any omits a condition.

    \b
    Example: vqbrain sample my-run -n 64 --seed 3
             vqbrain sample --weights ds002748 out
             vqbrain sample my-run --condition age=75 --guidance 1.5
             vqbrain sample my-run --name AD75 --condition diagnosis=AD --condition age=75
             vqbrain sample my-run -n 4 --volume --condition sex=F
             vqbrain sample my-run --known slice.png --mask hole.png
    """
    from monai_vqbrain.stages import sample as stage

    asked = stage.SampleOptions(condition=dict(conditions), **options)
    if show_command:
        click.echo(stage.sampling_command(run, asked, device))
    else:
        stage.draw_samples(run, asked, device)


@vqbrain.command()
@click.argument("run", type=FOLDER)
@image_options
@device_option
@common_options
def reconstruct(run: Path, images: tuple[Path, ...], output: Path | None, device: str) -> None:
    """Encode and decode images with the VQ-VAE of RUN, and score the reconstructions.

    IMAGE is a volume, or a slice as NIfTI, PNG, JPEG or TIFF. The brain of a volume is found as
    in the run. The reconstruction and its error map are in the image's own space.

    \b
    Example: vqbrain reconstruct my-run my-bids/sub-02/anat/sub-02_T1w.nii.gz
             vqbrain reconstruct my-run patients/*.nii.gz --output patients-reconstructed
             vqbrain reconstruct my-run slice.png
    """
    import monai_vqbrain

    monai_vqbrain.reconstruct(run, images, output=output, device=device)


@vqbrain.command()
@click.argument("run", type=FOLDER)
@image_options
@conditions_option
@device_option
@common_options
def score(
    run: Path, images: tuple[Path, ...], output: Path | None, conditions: Any, device: str
) -> None:
    """Map how unlikely each part of an image is under the prior of RUN, in bits per code.

    IMAGE is a volume (its brain is found as in the run), or a slice of the size of the run's
    slices. The map is in the image's own space, with high values where the image differs from
    those that the prior was trained on.

    \b
    Example: vqbrain score my-run patients/*.nii.gz
             vqbrain score my-run sub-07_T1w.nii.gz --condition age=75 --condition diagnosis=CN
    """
    import monai_vqbrain

    monai_vqbrain.score(run, images, output=output, condition=dict(conditions), device=device)


@vqbrain.command()
@click.argument("folder", type=FOLDER, metavar="RUN|OUT")
@click.option(
    "--real",
    type=DIRECTORY,
    metavar="DIR",
    help="A folder of real images, to compare without a run.",
)
@click.option(
    "--synthetic", type=DIRECTORY, metavar="DIR", help="A folder of images of any generator."
)
@click.option("--participants", type=FILE, metavar="TABLE",
              help="Table of the real images: columns image and participant_id, and "
              "diagnosis, sex and age if known.")  # fmt: skip
@click.option("--asked", type=FILE, metavar="TABLE",
              help="Table of the synthetic images: columns image and any of the requested "
              "diagnosis, sex and age.")  # fmt: skip
@click.option("--cohort", type=FOLDER, metavar="RUN",
              help="Also evaluate networks and samples on the slices of another run.")  # fmt: skip
@click.option("--folds", type=click.IntRange(2), metavar="K",
              help="Also train K priors, each without one part of the training participants, for "
              "cross-fitted membership inference. Takes K times the prior's training.",
              )  # fmt: skip
@click.option("--weights", type=FILE, metavar="FILE",
              help="Local file of ResNet weights, for a further feature space.")  # fmt: skip
@click.option("--show-ids", is_flag=True, help="Show participant ids in the report.")
@device_option
@common_options
def evaluate(
    folder: Path,
    real: Path | None,
    synthetic: Path | None,
    participants: Path | None,
    asked: Path | None,
    show_ids: bool,
    device: str,
    **options: Any,
) -> None:
    """Evaluate RUN on its test participants, evaluate its samples, and render the report.

    With --real and --synthetic, compare two folders of PNG, JPEG or NIfTI images of one size, from
    any generator; metrics.json and the report go to OUT.

    \b
    Example: vqbrain evaluate my-run
             vqbrain evaluate my-run --cohort run-of-another-site
             vqbrain evaluate --real my-slices --synthetic their-samples comparison
    """
    if (real is None) != (synthetic is None):
        raise click.UsageError("--real and --synthetic need each other: give both, and OUT")
    if real is None and (participants or asked):
        raise click.UsageError("--participants and --asked need --real and --synthetic")
    if real is not None and (options["cohort"] or options["folds"]):
        raise click.UsageError("--cohort and --folds need a RUN, not two folders of images")
    import monai_vqbrain

    if real is not None and synthetic is not None:
        page = monai_vqbrain.evaluate_images(
            real,
            synthetic,
            folder,
            participants=participants,
            asked=asked,
            weights=options["weights"],
        )
    else:
        page = monai_vqbrain.evaluate(folder, device=device, show_ids=show_ids, **options)
    if is_first_rank():
        click.echo(f"the report: {page.resolve()}")


@vqbrain.command()
@click.argument("run", type=FOLDER)
@click.option("--show-ids", is_flag=True, help="Show participant ids in the report.")
@common_options
def report(run: Path, show_ids: bool) -> None:
    """Render the report of RUN again, from the figures of `evaluate`.

    \b
    Example: vqbrain report my-run --show-ids
    """
    import monai_vqbrain

    page = monai_vqbrain.report(run, show_ids=show_ids)
    click.echo(f"the report: {page.resolve()}")


vqbrain.add_command(bundle)
vqbrain.add_command(config)
vqbrain.add_command(doctor)
vqbrain.add_command(completion)

if __name__ == "__main__":
    main()
