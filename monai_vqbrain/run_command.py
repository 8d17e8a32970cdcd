"""The commands that do all stages: `vqbrain run` and `vqbrain demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from monai_vqbrain.options import (
    FILE,
    FOLDER,
    POSITIVE,
    NameValue,
    common_options,
    device_option,
    jobs_option,
    names_in,
    option,
    start_from_option,
)


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("run", type=FOLDER)
@option("--minutes", type=POSITIVE, metavar="M",
        help="Wall-clock budget of each of the two trainings: 5 in a new run.")  # fmt: skip
@click.option("-n", "--number", type=click.IntRange(1), metavar="N",
              help="How many samples: 512 in a new run.")  # fmt: skip
@click.option("--column", "columns", multiple=True,
              type=NameValue("NAME=COLUMN", "diagnosis=group"),
              help="Which column holds diagnosis, sex or age.")  # fmt: skip
@click.option("--table", type=FILE, metavar="FILE",
              help="The table of participants or files, instead of those in SOURCE.")  # fmt: skip
@click.option("--exclude", type=FILE, metavar="FILE",
              help="Leave out the participants or scans that it names, one per line (see "
              "2-slices/qc/index.html).")  # fmt: skip
@option("--align", type=click.Choice(["auto", "none", "rigid", "affine"]),
        help="Register all brains to MNI152; auto, as in a new run, does so (affine) with whole "
        "heads.")  # fmt: skip
@option("--brain", type=click.Choice(["auto", "given", "zero", "deepbet", "template"]),
        help="How brains are found: auto in a new run.")  # fmt: skip
@option("--seed", type=click.IntRange(0),
        help="Of the split, the trainings and the samples: 0 in a new run.")  # fmt: skip
@start_from_option
@jobs_option
@device_option
@common_options
def run(source: Path, run: Path, columns: Any, exclude: Path | None, **options: Any) -> None:
    """Do all stages: the T1 volumes of SOURCE to samples and a report in RUN.

    These are prepare, train vqvae, encode, train prior, sample and evaluate. The same command
    continues after an interruption: finished stages are skipped, an interrupted training is
    resumed. For further options run a stage by its own command, before or after: an option that is
    not given here remains as it is in RUN.

    \b
    Example: vqbrain run my-bids my-run
             vqbrain run ADNI my-run --minutes 30 --jobs 8
             vqbrain run my-bids my-run --exclude exclude.txt
    """
    import monai_vqbrain

    monai_vqbrain.run_pipeline(
        source,
        run,
        columns=dict(columns) or None,
        exclude=None if exclude is None else names_in(exclude),
        **options,
    )


@click.command()
@click.argument("run", type=FOLDER, default="vqbrain-demo")
@click.option("--quick", is_flag=True, help="Under two minutes: only to see that everything works.")
@device_option
@common_options
def demo(run: Path, quick: bool, device: str) -> None:
    """Do all stages on simulated data, as `vqbrain run` does, into RUN (vqbrain-demo).

    \b
    Example: vqbrain demo
             vqbrain demo try-out --quick
    """
    import monai_vqbrain

    monai_vqbrain.demo(run, quick=quick, device=device)
