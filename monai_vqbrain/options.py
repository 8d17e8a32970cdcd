"""Types and groups of command-line options."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from monai_vqbrain.cells import plain_cell
from monai_vqbrain.terminal import configure_logging

Command = Callable[..., Any]
FOLDER = click.Path(path_type=Path, file_okay=False)
DIRECTORY = click.Path(path_type=Path, file_okay=False, exists=True)
FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
POSITIVE = click.FloatRange(0, min_open=True)
LAYOUTS = ("auto", "caps", "bids", "loni", "ad_nc", "oasis", "folder", "dicom")


class NameValue(click.ParamType):
    """NAME=VALUE as a pair; the one notation of --column, --condition and --set.

    Args:
        metavar: names of the two parts, such as "ID=VALUE".
        example: a pair for the error message.
        parse: converts the text of the value.
    """

    name = "pair"

    def __init__(self, metavar: str, example: str, parse: Callable[[str], Any] = str) -> None:
        self.metavar, self.example, self.parse = metavar, example, parse

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """The placeholder in help."""
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
        """Refuse invalid device names; availability is checked when the device is used."""
        kind, colon, number = str(value).partition(":")
        numbered = kind == "cuda" and number.isdigit()
        if kind not in ("auto", "cpu", "cuda") or (colon and not numbered):
            self.fail(f"{value!r} is not a device: choose auto, cpu, cuda or cuda:N", param, ctx)
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        """The devices without a number."""
        names = [name for name in ("auto", "cpu", "cuda") if name.startswith(incomplete)]
        return [click.shell_completion.CompletionItem(name) for name in names]


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
start_from_option = click.option(
    "--start-from", metavar="NAME|RUN|FILE",
    help="Start from weights instead of random numbers: ds002748, which come with the package, "
    "those of another run, or a file. What fits is taken.",
)  # fmt: skip
jobs_option = option(
    "--jobs", type=click.IntRange(1), default=1, metavar="N",
    help="Number of processes. Each first spends 4 s on imports, so that this pays off with "
    "--align, or with a hundred volumes or more.",
)  # fmt: skip
conditions_option = click.option(
    "--condition", "conditions", multiple=True, type=NameValue("NAME=VALUE", "diagnosis=AD"),
    help="A condition, for example diagnosis=AD, age=75 or position_rel=0.6.",
)  # fmt: skip


def image_options(command: Command) -> Command:
    """Add IMAGE... and --output."""
    output = click.option(
        "--output", type=FOLDER, metavar="DIR",
        help="Parent folder of the results, one folder per image; by default in RUN.",
    )  # fmt: skip
    path = click.Path(path_type=Path)
    images = click.argument("images", nargs=-1, required=True, metavar="IMAGE...", type=path)
    return images(output(command))


def _names(_context: click.Context, _option: click.Parameter, path: Path | None) -> tuple[str, ...]:
    return () if path is None else names_in(path)


def names_in(path: Path) -> tuple[str, ...]:
    """The first cell of each line of a file, but for empty lines and the header of a qc.tsv."""
    from monai_vqbrain.cohorts.table_file import decode  # imports pandas, only needed here

    lines = decode(path.read_bytes())[0].splitlines()
    names = (plain_cell(line.split("\t")[0].strip()) for line in lines)
    return tuple(name for name in names if name not in ("", "scan"))


def slicing_options(command: Command) -> Command:
    """Add the options that `check` and `prepare` share."""
    options: list[Callable[[Command], Command]] = [
        option("--layout", default="auto", type=click.Choice(LAYOUTS),
               help="Layout of SOURCE."),
        option("--axis", type=click.Choice(["axial", "coronal", "sagittal"]), default="axial",
               help="Slice orientation, in world space."),
        click.option("--size", type=(click.IntRange(8), click.IntRange(8)), default=(128, 128),
                     show_default=True, metavar="H W", help="Size of a slice in pixels."),
        option("--spacing", type=POSITIVE, default=1.8, metavar="MM", help="Size of a pixel."),
        click.option("--positions", metavar="FROM:TO:STEP",
                     help="Slice positions in mm, in MNI152 space for aligned data. Default: 16 "
                     "slices 3.6 mm apart, the first 36 mm below the top of the brain."),
        click.option("--count", type=click.IntRange(1), metavar="N",
                     help="Number of evenly spaced slices, instead of --positions."),
        option("--align", type=click.Choice(["auto", "none", "rigid", "affine"]), default="auto",
               help="Registration of all brains to MNI152; auto registers whole heads (affine)."),
        click.option("--bias", is_flag=True, help="Correct the bias field (N4)."),
        option("--affine", type=click.Choice(["auto", "sform", "qform"]), default="auto",
               help="Which one to use if sform and qform of a NIfTI header disagree; auto "
               "refuses such images."),
        option("--brain", type=click.Choice(["auto", "given", "zero", "deepbet", "template"]),
               default="auto",
               help="How brains are found: by mask files, a zero background, deepbet, or the "
               "template's mask; auto uses the first that is available."),
        click.option("--column", "columns", multiple=True,
                     type=NameValue("NAME=COLUMN", "diagnosis=group"),
                     help="Column of diagnosis, sex or age."),
        click.option("--table", type=FILE, metavar="FILE",
                     help="Table of participants or files, instead of those in SOURCE."),
        click.option("--exclude", type=FILE, callback=_names, metavar="FILE",
                     help="List of participants or scans to exclude, one per line (see "
                     "qc/index.html)."),
        option("--seed", default=0, type=int, help="Random seed of the splits."),
    ]  # fmt: skip
    for one in reversed(options):
        command = one(command)
    return command


def training_options(command: Command) -> Command:
    """Add the options of `train`."""
    options: list[Callable[[Command], Command]] = [
        option("--minutes", type=POSITIVE, metavar="M",
               help="Wall-clock budget, 5 by default. A repeated training has the same quality, "
               "but is not bit-identical, since the schedule depends on the time."),
        click.option("--epochs", type=click.IntRange(1), metavar="N",
                     help="Number of epochs (of 6400 crops of slices, or 800 code grids), instead "
                     "of --minutes. Repeats bit for bit on one device (except with compile on "
                     "CUDA)."),
        option("--size", type=click.Choice(["small", "base", "large"]), default="base",
               help="Width, depth, batch size and budget; small is for tests, large for a GPU."),
        click.option("--resume", is_flag=True, help="Continue an interrupted training."),
        start_from_option,
        option("--seed", type=click.IntRange(0), default=0, help="Seed of weights and order."),
        click.option("--set", "overrides", multiple=True,
                     type=NameValue("ID=VALUE", "optimizer#lr=0.0005", json_or_text),
                     help="Override an id of the bundle's configuration, or an argument of one of "
                     "its components, for example network_def#num_codes=1024."),
    ]  # fmt: skip
    for one in reversed(options):
        command = one(command)
    return command
