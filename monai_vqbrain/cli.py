"""The command line. Imports nothing heavy until a command runs: help must come at once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from monai_vqbrain import __version__
from monai_vqbrain.errors import VQBrainError

Command = Callable[..., Any]
FOLDER = click.Path(path_type=Path, file_okay=False)


def main() -> None:
    """Run the command line; every expected failure is one line on standard error."""
    debug = "--debug" in sys.argv
    arguments = [word for word in sys.argv[1:] if word != "--debug"]
    try:
        vqbrain.main(arguments, prog_name="vqbrain", standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        about = getattr(error, "ctx", None)
        hint = f" (see {about.command_path} --help)" if about else ""
        click.echo(f"Error: {error.format_message()}{hint}", err=True)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo(
            "\ninterrupted; what was finished is kept (a training goes on with --resume)", err=True
        )
        sys.exit(1)
    except Exception as error:
        if debug:
            raise
        sys.exit(_one_line(error))


def _one_line(error: Exception) -> int:
    if isinstance(error, VQBrainError):
        click.echo(f"Error: {error}", err=True)
        return error.exit_code
    message = " ".join(str(error).split()) or "no message"
    click.echo(
        f"Error: {type(error).__name__}: {message[:500]} (unexpected: the same command with "
        "--debug shows where)",
        err=True,
    )
    return 1


class InOrder(click.Group):
    """Lists commands in the order of the pipeline, not of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, as they were added."""
        return list(self.commands)


@click.group(cls=InOrder, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
@click.option("--debug", is_flag=True, help="Show the traceback of a failure.")
def vqbrain(debug: bool) -> None:
    """Learn, sample and audit brain MRI: T1 volumes to new brain slices.

    \b
    Try it:            vqbrain demo
    Your own data:     vqbrain check SOURCE
                       vqbrain prepare SOURCE RUN
                       vqbrain train vqvae RUN
                       vqbrain encode RUN
                       vqbrain train prior RUN
                       vqbrain sample RUN -n 64
                       vqbrain evaluate RUN
    """


def device_option(command: Command) -> Command:
    """Add --device."""
    return click.option(
        "--device", default="auto", show_default=True, metavar="D",
        callback=_device, help="auto, cpu, cuda or cuda:N.",
    )(command)  # fmt: skip


def show_command_option(command: Command) -> Command:
    """Add --print-bundle-command."""
    return click.option(
        "--print-bundle-command", "show_command", is_flag=True,
        help="Print the MONAI bundle command that does the same, and stop.",
    )(command)  # fmt: skip


def _device(_: click.Context, __: click.Parameter, value: str) -> str:
    kind, colon, number = value.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (colon and not (kind == "cuda" and number.isdigit())):
        raise click.BadParameter(f"{value!r} is no device: choose auto, cpu, cuda or cuda:N")
    return value


def _columns(_: click.Context, __: click.Parameter, pairs: tuple[str, ...]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            raise click.BadParameter(f"{pair!r}: write NAME=COLUMN, for example diagnosis=group")
    return dict(pair.split("=", 1) for pair in pairs)


def _conditions(_: click.Context, __: click.Parameter, pairs: tuple[str, ...]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            raise click.BadParameter(f"{pair!r}: write NAME=VALUE, for example diagnosis=AD")
    return dict(pair.split("=", 1) for pair in pairs)


def image_options(command: Command) -> Command:
    """Add IMAGE... and --output."""
    output = click.option(
        "--output", type=FOLDER, metavar="DIR",
        help="One folder for each image goes here, by default in RUN.",
    )  # fmt: skip
    path = click.Path(path_type=Path)
    images = click.argument("images", nargs=-1, required=True, metavar="IMAGE...", type=path)
    return images(output(command))


def _names(_context: click.Context, _option: click.Parameter, path: Path | None) -> tuple[str, ...]:
    """The first cell of each line of a file, but for empty lines and the header of a qc.tsv."""
    lines = path.read_text(encoding="utf-8").splitlines() if path else []
    names = (line.split("\t")[0].strip() for line in lines)
    return tuple(name for name in names if name not in ("", "scan"))


def prepare_options(command: Command) -> Command:
    """Add the options that `check` and `prepare` share."""
    options = [
        click.option("--layout", default="auto", show_default=True, metavar="NAME",
                     help="How SOURCE is laid out: auto, caps, bids, loni, ad_nc, oasis, folder "
                     "or dicom."),
        click.option("--axis", type=click.Choice(["axial", "coronal", "sagittal"]), default="axial",
                     show_default=True, help="Which way to slice, in world space."),
        click.option("--size", type=(click.IntRange(8), click.IntRange(8)), default=(128, 128),
                     show_default=True, metavar="H W", help="Pixels of a slice."),
        click.option("--spacing", type=click.FloatRange(0, min_open=True), default=1.8,
                     show_default=True, metavar="MM", help="Side of a pixel."),
        click.option("--positions", metavar="FROM:TO:STEP",
                     help="Slice positions in mm, of MNI152 in aligned data; the default is 16 "
                     "slices 3.6 mm apart, the first 36 mm below the brain's top."),
        click.option("--count", type=click.IntRange(1), metavar="N",
                     help="Instead: so many slices, spread evenly over the brain."),
        click.option("--align", type=click.Choice(["auto", "none", "rigid", "affine"]),
                     default="auto", show_default=True,
                     help="Bring all brains to MNI152; auto does so (affine) with whole heads."),
        click.option("--bias", is_flag=True, help="Correct the bias field (N4)."),
        click.option("--column", "columns", multiple=True, callback=_columns,
                     metavar="NAME=COLUMN", help="Which column holds diagnosis, sex or age."),
        click.option("--exclude", type=click.Path(dir_okay=False, exists=True, path_type=Path),
                     callback=_names, metavar="FILE",
                     help="Leave out who or what it names, a line each (see qc/index.html)."),
        click.option("--seed", default=0, show_default=True, help="Of the split."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@vqbrain.command()
@click.argument("run", type=FOLDER, default="vqbrain-demo")
@click.option("--quick", is_flag=True, help="Two minutes at most: only to see that all works.")
@device_option
def demo(run: Path, quick: bool, device: str) -> None:
    """Run every stage on simulated people, into RUN (vqbrain-demo).

    \b
    Example: vqbrain demo
             vqbrain demo try-out --quick
    """
    from monai_vqbrain.stages.demo import demo as run_demo

    run_demo(run, quick, device)


@vqbrain.command()
@click.argument("source", type=click.Path(path_type=Path))
@prepare_options
def check(source: Path, **options: Any) -> None:
    """Say what `prepare` would do with SOURCE, and what is wrong with it. Writes nothing.

    \b
    Example: vqbrain check ADNI
             vqbrain check my-bids --column diagnosis=group
             vqbrain check AD_NC
    """
    from monai_vqbrain.stages.bundle import check_links
    from monai_vqbrain.stages.check import check as run_check
    from monai_vqbrain.stages.prepare_options import PrepareOptions

    check_links()
    run_check(source, PrepareOptions(**options))


@vqbrain.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("run", type=FOLDER)
@prepare_options
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, metavar="N",
              help="Volumes at a time; each worker first spends 4 s on imports, which pays with "
              "--align, or from a hundred volumes on.")  # fmt: skip
@click.option("--dask", metavar="ADDRESS",
              help="Instead: all workers of the dask scheduler there.")  # fmt: skip
@click.option("--on-error", type=click.Choice(["skip", "stop"]), default="skip", show_default=True,
              help="What to do about a volume that cannot be used.")  # fmt: skip
def prepare(source: Path, run: Path, **options: Any) -> None:
    """Turn the T1 volumes of SOURCE into slices in RUN, split by participant.

    \b
    Example: vqbrain prepare my-bids my-run
             vqbrain prepare ADNI my-run --axis coronal --count 32
             vqbrain prepare ADNI my-run --align affine --positions -40:60:2 --jobs 8
    """
    from monai_vqbrain.stages.prepare import prepare as run_prepare
    from monai_vqbrain.stages.prepare_options import PrepareOptions

    run_prepare(source, run, PrepareOptions(**options))


@vqbrain.command()
@click.argument("network", type=click.Choice(["vqvae", "prior"]))
@click.argument("run", type=FOLDER)
@click.option("--minutes", type=click.FloatRange(0, min_open=True), metavar="M",
              help="Wall-clock budget, 5 by default; the schedule follows the clock, so a repeat "
              "gives the same quality, not the same bits.")  # fmt: skip
@click.option("--epochs", type=click.IntRange(1), metavar="N",
              help="Instead: so many epochs (of 6400 crops of slices, or 800 code grids); repeats "
              "bit for bit.")  # fmt: skip
@click.option("--resume", is_flag=True, help="Go on with an interrupted training.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--set", "overrides", multiple=True, metavar="ID=VALUE",
              help="Override an id of the bundle's configuration, for example "
              "network_def#num_codes=1024.")  # fmt: skip
@device_option
@show_command_option
def train(network: str, run: Path, show_command: bool, **options: Any) -> None:
    """Train a network of RUN: `vqvae` on its slices, or `prior` on its codes.

    \b
    Example: vqbrain train vqvae my-run
             vqbrain train prior my-run --minutes 30
             vqbrain train vqvae my-run --epochs 40 --set network_def#num_codes=1024
    """
    if options["minutes"] is not None and options["epochs"] is not None:
        raise click.UsageError("--minutes and --epochs are two budgets: give one of them")
    from monai_vqbrain.stages.train import TrainOptions
    from monai_vqbrain.stages.train import train as run_train

    run_train(run, network, TrainOptions(**options), show_command)


@vqbrain.command()
@click.argument("run", type=FOLDER)
@device_option
@show_command_option
def encode(run: Path, device: str, show_command: bool) -> None:
    """Turn every slice of RUN into a grid of codes.

    \b
    Example: vqbrain encode my-run
    """
    from monai_vqbrain.stages.encode import encode as run_encode

    run_encode(run, device, show_command)


@vqbrain.command()
@click.argument("run", type=FOLDER)
@click.option("-n", "--number", default=16, show_default=True, metavar="N", help="How many images.")
@click.option("--seed", default=0, show_default=True, help="The same seed, the same images.")
@click.option("--temperature", default=1.0, show_default=True, metavar="T",
              help="Below 1: likelier codes more often.")  # fmt: skip
@click.option("--top-p", default=1.0, show_default=True, metavar="P",
              help="Draw from the likeliest codes of this total probability.")  # fmt: skip
@click.option("--condition", multiple=True, metavar="NAME=VALUE", callback=_conditions,
              help="What the images shall be of, for example diagnosis=AD, age=75 or "
              "position_rel=0.6; what is not named is left open.")  # fmt: skip
@click.option("--guidance", default=1.0, show_default=True, metavar="G",
              help="Above 1: press harder for the conditions, at twice the time.")  # fmt: skip
@click.option("--volume", is_flag=True,
              help="Draw whole volumes, slice after slice, each given the one before.")  # fmt: skip
@click.option("--known", type=click.Path(), metavar="IMAGE",
              help="Keep this slice but for --mask and its surroundings.")  # fmt: skip
@click.option("--mask", type=click.Path(), metavar="MASK", help="Not 0 where to draw anew.")
@device_option
@show_command_option
def sample(run: Path, device: str, show_command: bool, **options: Any) -> None:
    """Draw new, synthetic images from the prior of RUN.

    \b
    Example: vqbrain sample my-run -n 64 --seed 3
             vqbrain sample my-run --condition diagnosis=AD --condition age=75 --guidance 1.5
             vqbrain sample my-run -n 4 --volume --condition sex=F
             vqbrain sample my-run --known slice.png --mask hole.png
    """
    from monai_vqbrain.stages.sample import SampleOptions
    from monai_vqbrain.stages.sample import sample as run_sample

    run_sample(run, SampleOptions(**options), device, show_command)


@vqbrain.command()
@click.argument("run", type=FOLDER)
@image_options
@device_option
def reconstruct(run: Path, images: tuple[Path, ...], output: Path | None, device: str) -> None:
    """Encode and decode images with the VQ-VAE of RUN, and score what comes back.

    IMAGE is a skull-stripped volume, or a slice as NIfTI, PNG, JPEG or TIFF. The reconstruction
    and its error lie in the image's own space.

    \b
    Example: vqbrain reconstruct my-run my-bids/sub-02/anat/sub-02_T1w.nii.gz
             vqbrain reconstruct my-run patients/*.nii.gz --output patients-reconstructed
             vqbrain reconstruct my-run slice.png
    """
    from monai_vqbrain.stages.reconstruct import reconstruct as run_reconstruct

    run_reconstruct(run, images, output, device)


@vqbrain.command()
@click.argument("run", type=FOLDER)
@image_options
@click.option("--condition", multiple=True, metavar="NAME=VALUE", callback=_conditions,
              help="What is known of whom the images show, for example age=75.")  # fmt: skip
@device_option
def score(
    run: Path, images: tuple[Path, ...], output: Path | None, condition: dict[str, str], device: str
) -> None:
    """Map how unlikely each place of an image is under the prior of RUN, in bits a code.

    IMAGE is a skull-stripped volume, or a slice of the size of the run's. The map lies in the
    image's own space: high where the image is unlike those that the prior was trained on.

    \b
    Example: vqbrain score my-run patients/*.nii.gz
             vqbrain score my-run sub-07_T1w.nii.gz --condition age=75 --condition diagnosis=CN
    """
    from monai_vqbrain.stages.score import score as run_score

    run_score(run, images, output, device, condition)


@vqbrain.command()
@click.argument("run", type=FOLDER)
@click.option("--show-ids", is_flag=True, help="Name participants in the report.")
@device_option
def evaluate(run: Path, show_ids: bool, device: str) -> None:
    """Score RUN on its test participants and render the report.

    \b
    Example: vqbrain evaluate my-run
    """
    from monai_vqbrain.stages.evaluate import evaluate as run_evaluate

    click.echo(f"the report: {run_evaluate(run, device, show_ids).resolve()}")


@vqbrain.command()
@click.argument("run", type=FOLDER)
@click.option("--show-ids", is_flag=True, help="Name participants in the report.")
def report(run: Path, show_ids: bool) -> None:
    """Render the report of RUN again, from the numbers that `evaluate` left.

    \b
    Example: vqbrain report my-run --show-ids
    """
    from monai_vqbrain.stages.report import report as run_report

    click.echo(f"the report: {run_report(run, show_ids).resolve()}")


if __name__ == "__main__":
    main()
