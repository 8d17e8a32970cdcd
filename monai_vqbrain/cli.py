"""The command line. Imports nothing heavy until a command runs: help must come at once."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from monai_vqbrain import __version__
from monai_vqbrain.errors import VQBrainError

Command = Callable[..., Any]
FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
POSITIVE = click.FloatRange(0, min_open=True)
LAYOUTS = ("auto", "caps", "bids", "loni", "ad_nc", "oasis", "folder", "dicom")
COLOURS = {logging.WARNING: "yellow", logging.ERROR: "red"}


def main() -> None:
    """Run the command line; every expected failure is one line on standard error."""
    context: dict[str, Any] = {"debug": False}
    try:
        vqbrain.main(prog_name="vqbrain", standalone_mode=False, obj=context)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        about = getattr(error, "ctx", None)
        hint = f" (see {about.command_path} --help)" if about else ""
        _show_error(error.format_message() + hint)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo(
            "\ninterrupted; what was finished is kept (continue a training with --resume)", err=True
        )
        sys.exit(1)
    except Exception as error:
        if context["debug"]:
            raise
        sys.exit(_report(error))


def _report(error: Exception) -> int:
    """Show a failure as one line; return the exit code."""
    if isinstance(error, VQBrainError):
        _show_error(str(error))
        return error.exit_code
    message = " ".join(str(error).split()) or "no message"
    _show_error(
        f"{type(error).__name__}: {message[:500]} (unexpected: the same command with --debug shows "
        "where)"
    )
    return 1


def _show_error(message: str) -> None:
    click.echo(f"{click.style('Error:', fg='red', bold=True)} {message}", err=True)


class Terminal(logging.Handler):
    """Shows the package's messages: results on standard output, warnings and errors beside it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one message; the colour goes where the output is no terminal."""
        text, colour = record.getMessage(), COLOURS.get(record.levelno)
        if record.levelno >= logging.WARNING:
            text = f"{click.style(record.levelname.capitalize() + ':', fg=colour)} {text}"
        click.echo(text, err=record.levelno >= logging.WARNING)


def configure_logging(verbosity: int) -> None:
    """Show messages from WARNING (-1), INFO (0) or DEBUG (1) on.

    Libraries stay quiet unless everything is shown: ignite also logs every error that is raised.
    """
    package = logging.getLogger("monai_vqbrain")
    package.setLevel(logging.DEBUG if verbosity > 0 else logging.INFO)
    package.propagate = False
    package.handlers = [one for one in package.handlers if not isinstance(one, Terminal)]
    terminal = Terminal({-1: logging.WARNING, 0: logging.INFO, 1: logging.DEBUG}[verbosity])
    package.addHandler(terminal)
    for library in ("ignite", "monai", "BundleWorkflow", "py.warnings"):
        logging.getLogger(library).setLevel(logging.INFO if verbosity > 0 else logging.CRITICAL)


class NameValue(click.ParamType):
    """NAME=VALUE as a pair; the one notation of --column, --condition and --set.

    Args:
        metavar: what the two parts are, such as "ID=VALUE".
        example: a pair for the error message.
        parse: what makes a value of its text.
    """

    name = "pair"

    def __init__(self, metavar: str, example: str, parse: Callable[[str], Any] = str) -> None:
        self.metavar, self.example, self.parse = metavar, example, parse

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """What help shows."""
        return self.metavar

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Any]:
        """Split at the first equals sign."""
        if isinstance(value, tuple):
            return value
        name, equals, text = str(value).partition("=")
        if not equals or not name:
            self.fail(f"{value!r}: write {self.metavar}, for example {self.example}", param, ctx)
        return name, self.parse(text)


def json_or_text(text: str) -> Any:
    """A JSON value where the text parses as one, else the text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


class Device(click.ParamType):
    """auto, cpu, cuda or cuda:N."""

    name = "device"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Refuse what cannot be a device; whether it is there is seen when it is used."""
        kind, colon, number = str(value).partition(":")
        numbered = kind == "cuda" and number.isdigit()
        if kind not in ("auto", "cpu", "cuda") or (colon and not numbered):
            self.fail(f"{value!r} is no device: choose auto, cpu, cuda or cuda:N", param, ctx)
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        """The devices without a number."""
        names = [name for name in ("auto", "cpu", "cuda") if name.startswith(incomplete)]
        return [click.shell_completion.CompletionItem(name) for name in names]


class InOrder(click.Group):
    """Lists commands in the order of the pipeline, not of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, as they were added."""
        return list(self.commands)


def common_options(command: Command) -> Command:
    """Add --debug, --verbose and --quiet."""
    options = [
        click.option("--debug", is_flag=True, expose_value=False, is_eager=True, callback=_debug,
                     envvar="VQBRAIN_DEBUG", help="Show the traceback of a failure."),
        click.option("-v", "--verbose", is_flag=True, expose_value=False, callback=_verbose,
                     help="Show more messages."),
        click.option("-q", "--quiet", is_flag=True, expose_value=False, callback=_quiet,
                     help="Show warnings and errors only."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def _debug(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and isinstance(context.obj, dict):
        context.obj["debug"] = True


def _verbose(_: click.Context, __: click.Parameter, wanted: bool) -> None:
    if wanted:
        configure_logging(1)


def _quiet(_: click.Context, __: click.Parameter, wanted: bool) -> None:
    if wanted:
        configure_logging(-1)


def option(*names: str, **settings: Any) -> Callable[[Command], Command]:
    """An option that shows its default and reads VQBRAIN_NAME from the environment."""
    word = names[-1].lstrip("-").replace("-", "_").upper()
    settings.setdefault("show_default", settings.get("default") is not None)
    return click.option(*names, envvar=f"VQBRAIN_{word}", show_envvar=True, **settings)


device_option = option("--device", default="auto", type=Device(), help="auto, cpu, cuda or cuda:N.")
bundle_command_option = click.option(
    "--print-bundle-command", "show_command", is_flag=True,
    help="Print the MONAI bundle command that does the same, and stop.",
)  # fmt: skip
conditions_option = click.option(
    "--condition", "conditions", multiple=True, type=NameValue("NAME=VALUE", "diagnosis=AD"),
    help="A condition, for example diagnosis=AD, age=75 or position_rel=0.6; without it, it "
    "is left open.",
)  # fmt: skip


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


def slicing_options(command: Command) -> Command:
    """Add the options that `check` and `prepare` share."""
    options: list[Callable[[Command], Command]] = [
        option("--layout", default="auto", type=click.Choice(LAYOUTS),
               help="How SOURCE is laid out."),
        option("--axis", type=click.Choice(["axial", "coronal", "sagittal"]), default="axial",
               help="Which way to slice, in world space."),
        click.option("--size", type=(click.IntRange(8), click.IntRange(8)), default=(128, 128),
                     show_default=True, metavar="H W", help="Pixels of a slice."),
        option("--spacing", type=POSITIVE, default=1.8, metavar="MM", help="Side of a pixel."),
        click.option("--positions", metavar="FROM:TO:STEP",
                     help="Slice positions in mm, of MNI152 in aligned data; the default is 16 "
                     "slices 3.6 mm apart, the first 36 mm below the top of the brain."),
        click.option("--count", type=click.IntRange(1), metavar="N",
                     help="Instead: a number of slices, evenly spaced over the brain."),
        option("--align", type=click.Choice(["auto", "none", "rigid", "affine"]), default="auto",
               help="Register all brains to MNI152; auto does so (affine) with whole heads."),
        click.option("--bias", is_flag=True, help="Correct the bias field (N4)."),
        click.option("--column", "columns", multiple=True,
                     type=NameValue("NAME=COLUMN", "diagnosis=group"),
                     help="Which column holds diagnosis, sex or age."),
        click.option("--exclude", type=FILE, callback=_names, metavar="FILE",
                     help="Leave out the participants or scans that it names, one per line (see "
                     "qc/index.html)."),
        option("--seed", default=0, type=int, help="Of the split."),
    ]  # fmt: skip
    for one in reversed(options):
        command = one(command)
    return command


def training_options(command: Command) -> Command:
    """Add the options of `train`."""
    options: list[Callable[[Command], Command]] = [
        option("--minutes", type=POSITIVE, metavar="M",
               help="Wall-clock budget, 5 by default; the schedule follows the clock, so a repeat "
               "gives the same quality, not the same bits."),
        click.option("--epochs", type=click.IntRange(1), metavar="N",
                     help="Instead: a number of epochs (of 6400 crops of slices, or 800 code "
                     "grids); repeats bit for bit."),
        click.option("--resume", is_flag=True, help="Continue an interrupted training."),
        option("--seed", type=click.IntRange(0), default=0, help="Of weights and order."),
        click.option("--set", "overrides", multiple=True,
                     type=NameValue("ID=VALUE", "optimizer#lr=0.0005", json_or_text),
                     help="Override an id of the bundle's configuration, or an argument of a "
                     "component that it names, for example network_def#num_codes=1024."),
    ]  # fmt: skip
    for one in reversed(options):
        command = one(command)
    return command


@click.group(cls=InOrder, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
@common_options
def vqbrain() -> None:
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
    if not any(isinstance(one, Terminal) for one in logging.getLogger("monai_vqbrain").handlers):
        configure_logging(0)


@vqbrain.command()
@click.argument("run", type=FOLDER, default="vqbrain-demo")
@click.option("--quick", is_flag=True, help="Under two minutes: only to see that everything works.")
@device_option
@common_options
def demo(run: Path, quick: bool, device: str) -> None:
    """Run every stage on simulated data, into RUN (vqbrain-demo).

    \b
    Example: vqbrain demo
             vqbrain demo try-out --quick
    """
    import monai_vqbrain

    monai_vqbrain.demo(run, quick=quick, device=device)


@vqbrain.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("run", type=FOLDER, required=False)
@slicing_options
@common_options
def check(source: Path, run: Path | None, columns: Any, **options: Any) -> None:
    """Print the plan of `prepare` for SOURCE, and what is wrong with it. Writes nothing.

    With RUN, the plan also says which scans of an earlier run would be kept.

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
        _show_warning(f"{link} is no link in this checkout: use {where} with monai.bundle")
    plan = monai_vqbrain.check(source, run, columns=dict(columns), **options)
    click.echo("\n".join(plan_lines(plan)))


def _show_warning(message: str) -> None:
    logging.getLogger(__name__).warning("%s", message)


@vqbrain.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("run", type=FOLDER)
@slicing_options
@option("--jobs", type=click.IntRange(1), default=1, metavar="N",
        help="Volumes at a time; each worker first spends 4 s on imports, which pays with --align, "
        "or from a hundred volumes on.")  # fmt: skip
@option("--dask", metavar="ADDRESS", help="Instead: all workers of this dask scheduler.")
@click.option("--on-error", type=click.Choice(["skip", "stop"]), default="skip", show_default=True,
              help="What to do about a volume that cannot be used.")  # fmt: skip
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
             vqbrain train vqvae my-run --epochs 40 --set network_def#num_codes=1024
    """
    if options["minutes"] is not None and options["epochs"] is not None:
        raise click.UsageError("--minutes and --epochs are two budgets: give one of them")
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
@click.argument("run", type=FOLDER)
@click.option("-n", "--number", type=click.IntRange(1), default=16, show_default=True, metavar="N",
              help="How many images.")  # fmt: skip
@option("--seed", type=click.IntRange(0), default=0, help="The same seed, the same images.")
@click.option("--temperature", type=POSITIVE, default=1.0, show_default=True, metavar="T",
              help="Below 1: likelier codes more often.")  # fmt: skip
@click.option("--top-p", type=click.FloatRange(0, 1, min_open=True), default=1.0,
              show_default=True, metavar="P",
              help="Draw from the likeliest codes of this total probability.")  # fmt: skip
@conditions_option
@click.option("--guidance", type=click.FloatRange(0), default=1.0, show_default=True, metavar="G",
              help="Above 1: the conditions weigh more, at twice the time.")  # fmt: skip
@click.option("--volume", is_flag=True,
              help="Draw whole volumes, slice after slice, each given the one before.")  # fmt: skip
@click.option("--known", type=click.Path(), metavar="IMAGE",
              help="Keep this slice but for --mask and its surroundings.")  # fmt: skip
@click.option("--mask", type=click.Path(), metavar="MASK", help="Not 0 where to inpaint.")
@device_option
@bundle_command_option
@common_options
def sample(run: Path, device: str, show_command: bool, conditions: Any, **options: Any) -> None:
    """Draw new, synthetic images from the prior of RUN.

    \b
    Example: vqbrain sample my-run -n 64 --seed 3
             vqbrain sample my-run --condition diagnosis=AD --condition age=75 --guidance 1.5
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

    IMAGE is a skull-stripped volume, or a slice as NIfTI, PNG, JPEG or TIFF. The reconstruction
    and its error lie in the image's own space.

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
    """Map how unlikely each place of an image is under the prior of RUN, in bits per code.

    IMAGE is a skull-stripped volume, or a slice of the size of the run's. The map lies in the
    image's own space: high where the image is unlike those that the prior was trained on.

    \b
    Example: vqbrain score my-run patients/*.nii.gz
             vqbrain score my-run sub-07_T1w.nii.gz --condition age=75 --condition diagnosis=CN
    """
    import monai_vqbrain

    monai_vqbrain.score(run, images, output=output, condition=dict(conditions), device=device)


@vqbrain.command()
@click.argument("run", type=FOLDER)
@click.option("--show-ids", is_flag=True, help="Name participants in the report.")
@device_option
@common_options
def evaluate(run: Path, show_ids: bool, device: str) -> None:
    """Score RUN on its test participants and render the report.

    \b
    Example: vqbrain evaluate my-run
    """
    import monai_vqbrain

    page = monai_vqbrain.evaluate(run, device=device, show_ids=show_ids)
    click.echo(f"the report: {page.resolve()}")


@vqbrain.command()
@click.argument("run", type=FOLDER)
@click.option("--show-ids", is_flag=True, help="Name participants in the report.")
@common_options
def report(run: Path, show_ids: bool) -> None:
    """Render the report of RUN again, from the figures that `evaluate` left.

    \b
    Example: vqbrain report my-run --show-ids
    """
    import monai_vqbrain

    page = monai_vqbrain.report(run, show_ids=show_ids)
    click.echo(f"the report: {page.resolve()}")


if __name__ == "__main__":
    main()
